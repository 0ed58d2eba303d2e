"""The operator's listener: health and metrics, on a port of its own that the internet does not see."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from refund_service import __version__, metrics
from refund_service.clock import rfc3339, utc_now
from refund_service.db.engine import Database
from refund_service.db.migrations import schema_state
from refund_service.errors import RefundServiceError
from refund_service.reports.state import State, read_state, workers_alive

MEDIA_TYPE: Final = "application/health+json"

Check = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Health:
    """What the health endpoints look at."""

    db: Database

    async def live(self, _request: Request) -> Response:
        """The process answers; nothing else is asked, so that a database's outage restarts no one."""
        return _answer("pass", {})

    async def ready(self, _request: Request) -> Response:
        """Requests can be served: the database is there, with a schema that this code can bear."""
        checks: dict[str, Any] = {}
        try:
            schema = await schema_state(self.db)
            checks["database:connection"] = _check("pass")
            checks["database:schema"] = _check(
                "pass" if schema.borne else "fail", found=schema.found, needed=schema.needed
            )
            if not schema.borne:
                return _answer("fail", checks)
            workers = await workers_alive(self.db)
        except RefundServiceError as away:
            checks["database:connection"] = _check("fail", output=away.code)
            return _answer("fail", checks)
        checks["worker:alive"] = _check("pass" if workers else "warn", observedValue=workers)
        return _answer("pass" if workers else "warn", checks)

    async def metrics(self, _request: Request) -> Response:
        """For Prometheus; the gauges are read from the database at each scrape."""
        # The counters are worth telling without them; readiness says what is wrong.
        with contextlib.suppress(RefundServiceError):
            _show(await read_state(self.db))
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

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
    metrics.ATTENTION.set(state.attention)
    metrics.JOB_LAG.set(state.job_lag)
    metrics.WORKERS.set(state.workers)


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
