"""The operator's listener: health and metrics, on a port of its own that the internet does not see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from refund_service import __version__, ids, metrics
from refund_service.clock import rfc3339, seconds, utc_now
from refund_service.db.engine import Database
from refund_service.db.schema_state import schema_state
from refund_service.errors import RefundServiceError
from refund_service.gateways.breaker import Breaker
from refund_service.reports.state import State, read_state, workers_alive

MEDIA_TYPE: Final = "application/health+json"

READY_LASTS: Final = 1.0
"""Seconds that one look at the database is told."""

SCRAPE_PATIENCE: Final = 4.0
"""Seconds for the database to answer a scrape; Prometheus gives up after 10 unless told otherwise."""

NAMED_BREAKERS: Final = 50
"""Gateway accounts named in a metric at a time; the others are counted together."""

log = structlog.get_logger()

Check = Callable[[Request], Awaitable[Response]]


class Health:
    """What the health endpoints look at; ``breaker`` is of the worker in this process."""

    def __init__(self, db: Database, breaker: Breaker | None = None) -> None:
        self.db = db
        self.breaker = breaker
        self._look: asyncio.Task[tuple[str, dict[str, Any]]] | None = None
        self._looked_at = 0.0

    async def live(self, _request: Request) -> Response:
        """The process answers; nothing else is asked, so that a database's outage restarts no one."""
        return _answer("pass", {})

    async def ready(self, _request: Request) -> Response:
        """Requests can be served: the database is there, with a schema that this code can bear.

        Anyone may ask, so the database is asked once for all who ask within a second.
        """
        if self._look is None or (self._look.done() and seconds() - self._looked_at >= READY_LASTS):
            self._look = asyncio.create_task(self._look_around())
        # Who asked first may go away: the others still wait for the same look.
        return _answer(*await asyncio.shield(self._look))

    async def _look_around(self) -> tuple[str, dict[str, Any]]:
        try:
            return await self._found()
        finally:
            self._looked_at = seconds()

    async def _found(self) -> tuple[str, dict[str, Any]]:
        checks: dict[str, Any] = {}
        try:
            schema = await schema_state(self.db)
            checks["database:connection"] = _check("pass")
            checks["database:schema"] = _check(
                "pass" if schema.borne else "fail", found=schema.found, needed=schema.needed
            )
            if not schema.borne:
                return "fail", checks
            workers = await workers_alive(self.db)
        except RefundServiceError as away:
            checks["database:connection"] = _check("fail", output=away.code)
            return "fail", checks
        checks["worker:alive"] = _check("pass" if workers else "warn", observedValue=workers)
        return "pass" if workers else "warn", checks

    async def metrics(self, _request: Request) -> Response:
        """For Prometheus; the gauges are read from the database at each scrape."""
        if self.breaker is not None:
            _show_breakers(self.breaker.open(seconds()))
        try:
            async with asyncio.timeout(SCRAPE_PATIENCE):
                state = await read_state(self.db)
        except Exception:  # whatever it is, what this process knows itself is worth telling
            log.warning("metrics.no_database", exc_info=True)
            metrics.DATABASE_UP.set(0)
            return _numbers(generate_latest(metrics.REGISTRY))
        metrics.DATABASE_UP.set(1)
        _show(state)
        return _numbers(generate_latest(metrics.REGISTRY) + generate_latest(metrics.HOUSE))

    def public_routes(self) -> list[Route]:
        """What may be seen on the public listener too."""
        return [Route("/health/live", self.live), Route("/health/ready", self.ready)]

    def app(self) -> Starlette:
        """The operator's application."""
        return Starlette(
            routes=[
                *self.public_routes(),
                Route("/health/startup", self.ready),
                Route("/metrics", self.metrics),
            ]
        )


def _show(state: State) -> None:
    for status, number in state.open_by_status.items():
        metrics.REFUNDS.labels(status).set(number)
    for status, age in state.oldest_by_status.items():
        metrics.OLDEST.labels(status).set(age)
    for status, late in state.overdue_by_status.items():
        metrics.OVERDUE.labels(status).set(late)
    metrics.ATTENTION.set(state.attention)
    metrics.JOB_LAG.set(state.job_lag)
    metrics.WORKERS.set(state.workers)
    metrics.VERIFY_AGE.set(state.verify_age)
    for (promise, check), broken in state.violations.items():
        metrics.VIOLATIONS.labels(promise, check).set(broken)


def _show_breakers(open_to: list[UUID]) -> None:
    metrics.BREAKERS.clear()
    for account_id in open_to[:NAMED_BREAKERS]:
        metrics.BREAKERS.labels(ids.show("gateway_account", account_id)).set(1)
    if others := open_to[NAMED_BREAKERS:]:
        metrics.BREAKERS.labels("others").set(len(others))


def _numbers(told: bytes) -> Response:
    return Response(told, media_type=CONTENT_TYPE_LATEST)


def _check(status: str, **told: Any) -> list[dict[str, Any]]:
    return [{"status": status, "time": rfc3339(utc_now())} | told]


def _answer(status: str, checks: dict[str, Any]) -> Response:
    document: dict[str, Any] = {"status": status, "version": __version__, "serviceId": "refund-service"}
    if checks:
        document["checks"] = checks
    return JSONResponse(
        document,
        503 if status == "fail" else 200,
        headers={"Cache-Control": "no-store"},
        media_type=MEDIA_TYPE,
    )
