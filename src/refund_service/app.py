"""The one place where things are put together: the API, the worker and the operator's listener."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import ASGIApp

from refund_service import __version__, clock, metrics
from refund_service.api import deps
from refund_service.api.edge import Edge
from refund_service.api.openapi import describe
from refund_service.api.ops import Health
from refund_service.api.problem_pages import problem_pages
from refund_service.api.problems import Problems
from refund_service.api.rate_limit import RateLimiter
from refund_service.api.swagger import swagger_pages
from refund_service.api.v1 import attempts, events, me, orders, payments, policies, refunds
from refund_service.api.visit import Visit
from refund_service.db.engine import Database, DatabaseOptions
from refund_service.gateways.breaker import Breaker
from refund_service.gateways.gate import Gate
from refund_service.gateways.seal import Keyring
from refund_service.gateways.send import Sender, make_client
from refund_service.jobs.worker import Worker
from refund_service.merchants.keys import KeyCabinet
from refund_service.refunds.advance import Desk
from refund_service.refunds.wait import Waiters
from refund_service.settings import Mode, Settings
from refund_service.tasks import CUT_SHORT, handlers

Application = ASGIApp
"""What a server serves."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API, the worker and the commands of one process share."""

    settings: Settings
    db: Database
    cabinet: KeyCabinet
    keyring: Keyring
    waiters: Waiters


def put_together(settings: Settings, *, name: str = "refund-service") -> Parts:
    """The parts for ``settings``, which must name a database and hold every secret."""
    if settings.database_url is None or settings.cursor_secret is None:
        raise ValueError("settings without a database or without secrets")
    db = Database.connect(
        DatabaseOptions(
            url=settings.database_url.get_secret_value(),
            pool_size=settings.database_pool,
            pgbouncer=settings.pgbouncer,
            application_name=name,
        )
    )
    peppers = {key_id: pepper.get_secret_value() for key_id, pepper in settings.key_peppers.items()}
    sealing = settings.sealing_key_bytes
    return Parts(
        settings=settings,
        db=db,
        cabinet=KeyCabinet(db, peppers),
        keyring=Keyring(sealing, primary=next(iter(sealing))),
        waiters=Waiters(),
    )


def create_app(parts: Parts, *, worker: Worker | None = None) -> ASGIApp:
    """The public application; ``worker`` is woken by what is written where it runs in this process."""
    app = bare_app(parts.settings.public_url)
    secret = parts.settings.cursor_secret
    app.state.house = deps.House(
        db=parts.db,
        cabinet=parts.cabinet,
        limiter=RateLimiter(parts.settings.rate_limit, parts.settings.rate_burst),
        cursor_secret=secret.get_secret_value().encode() if secret else b"",
        waiters=parts.waiters,
        wake_worker=worker.wake if worker else _no_one,
    )
    app.state.authenticate = deps.authenticate
    app.router.routes.extend(Health(parts.db).public_routes())
    return Edge(app, problems=Problems(parts.settings.public_url), observe=_observe)


def bare_app(public_url: str) -> FastAPI:
    """The routes without anything behind them: enough for the OpenAPI document."""
    app = FastAPI(
        title="Refund service",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=None,
    )
    Problems(public_url).install(app)
    # The busiest first: FastAPI tries one after the other.
    for router in (refunds, payments, attempts, orders, events, policies, me):
        app.include_router(router.router)
    app.include_router(problem_pages())
    app.include_router(swagger_pages())
    describe(app, public_url)
    return app


def build_desk(parts: Parts, sender: Sender) -> Desk:
    """What the worker of this process works with."""
    return Desk(
        db=parts.db,
        keyring=parts.keyring,
        sender=sender,
        breaker=Breaker(),
        gate=Gate(),
        refused_gateways=frozenset({"sandbox"}) if parts.settings.mode is Mode.PRODUCTION else frozenset(),
        now=clock.utc_now,
        seconds=clock.seconds,
        told=parts.waiters.tell,
    )


def build_sender() -> Sender:
    """The one way out to the gateways."""
    return Sender(make_client())


def build_worker(parts: Parts, desk: Desk) -> Worker:
    """A worker over every job there is."""
    return Worker(
        parts.db,
        handlers(desk),
        slots=parts.settings.worker_slots,
        closed_lanes=lambda: desk.breaker.closed_to(desk.seconds()),
        cut_short=CUT_SHORT,
    )


def create_ops_app(parts: Parts, desk: Desk) -> ASGIApp:
    """The operator's application."""
    return Health(parts.db, desk.breaker).app()


def _observe(visit: Visit, method: str, status: int, took: float) -> None:
    metrics.REQUESTS.labels(method, visit.route or "none", str(status)).observe(took)


def _no_one() -> None:
    """The worker is another process: it polls."""
