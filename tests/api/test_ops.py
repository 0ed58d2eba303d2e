"""Health and metrics on the operator's listener, and what happens while the database is away."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from house import House, Process, Shop, open_house, settings_for
from over_http import problem
from sandbox_fixture import Sandbox
from sqlalchemy import text
from structlog.testing import capture_logs

from refund_service import __version__
from refund_service.api import ops
from refund_service.api.ops import READY_LASTS
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database
from refund_service.db.migrations import migrate
from refund_service.db.schema_state import SchemaState, head, schema_state
from refund_service.jobs.lease import LEASE
from refund_service.merchants.keys import new_key

HEALTH = "application/health+json"


def healthy(reply: httpx.Response, status: str) -> dict[str, Any]:
    """The reply, which is to be a health document of this status."""
    told: dict[str, Any] = reply.json()
    assert told["status"] == status, reply.text
    assert reply.status_code == (503 if status == "fail" else 200)
    assert reply.headers["content-type"] == HEALTH
    assert reply.headers["cache-control"] == "no-store"
    assert (told["version"], told["serviceId"]) == (__version__, "refund-service")
    return told


def checks(told: dict[str, Any]) -> dict[str, str]:
    return {name: check["status"] for name, (check,) in told["checks"].items()}


async def becomes(client: httpx.AsyncClient, status: str) -> dict[str, Any]:
    """What readiness tells, as soon as the answer is none of before: each is told for a while."""
    async with asyncio.timeout(READY_LASTS + 5):
        while (reply := await client.get("/health/ready")).json()["status"] != status:
            await asyncio.sleep(0.02)
    return healthy(reply, status)


# -- a process with both listeners


@pytest.fixture
def served(house: House, start_process: Callable[..., Process]) -> tuple[str, str]:
    """Where ``refund-service serve`` answers clients, and where the operator."""
    process = start_process(
        "serve",
        environment={
            "REFUND_DATABASE_URL": house.parts.settings.database_url.get_secret_value(),
            "REFUND_PORT": "0",
            "REFUND_OPS_PORT": "0",
            "REFUND_RATE_LIMIT": "100000",
            "REFUND_RATE_BURST": "100000",
        },
    )
    told = process.until_event("started")
    return told["api"], told["ops"]


async def test_the_operators_listener_tells_of_health_and_numbers(
    served: tuple[str, str], shop: Shop
) -> None:
    api, ops = served
    async with shop.at(api) as client, shop.at(ops) as operator:
        told = healthy(await operator.get("/health/live"), "pass")
        assert "checks" not in told
        ready = healthy(await operator.get("/health/ready"), "pass")
        assert checks(ready) == {
            "database:connection": "pass",
            "database:schema": "pass",
            "worker:alive": "pass",
        }
        assert ready["checks"]["worker:alive"][0]["observedValue"] >= 1
        healthy(await operator.get("/health/startup"), "pass")

        payment = await shop.pay(5990)
        lost = await shop.refund(payment, 100, metadata={"sandbox": "lose_answer"})
        assert lost["status"] == "unknown"
        assert (await shop.ask(payment, 100, client=client, wait=10)).json()["status"] == "succeeded"
        assert (await shop.ask(payment, 9999, client=client)).status_code == 422
        numbers = await operator.get("/metrics")

        # Clients see health, without a key; the rest is the operator's alone, and clients' things are not there.
        client.headers.pop("Authorization")
        healthy(await client.get("/health/live"), "pass")
        healthy(await client.get("/health/ready"), "pass")
        for path in ("/metrics", "/health/startup", "/health"):
            problem(await client.get(path), 404, "route-not-found")
        for path in ("/v1/refunds", "/docs", "/openapi.json"):
            assert (await operator.get(path)).status_code == 404

    assert numbers.headers["content-type"].startswith("text/plain; version=")
    lines = dict(line.rsplit(" ", 1) for line in numbers.text.splitlines() if not line.startswith("#"))
    counted = 'refund_http_request_seconds_count{method="POST",route="/v1/refunds",status="%s"}'
    assert float(lines[counted % 201]) == float(lines[counted % 422]) == 1
    assert float(lines['refund_open_refunds{status="unknown"}']) >= 1
    assert float(lines['refund_oldest_open_seconds{status="unknown"}']) >= 0
    assert float(lines["refund_workers"]) >= 1
    for name in ("refund_attention", "refund_job_lag_seconds"):
        assert float(lines[name]) >= 0
    for secret in (shop.key, str(shop.merchant_id), payment["id"], payment["gateway_payment_id"]):
        assert secret not in numbers.text


# -- readiness


async def test_without_a_worker_the_service_is_ready_with_a_warning(own_house: House) -> None:
    async with httpx.AsyncClient(base_url=own_house.url, trust_env=False) as client:
        told = healthy(await client.get("/health/ready"), "warn")
        assert checks(told)["worker:alive"] == "warn"

        await own_house.start_worker()
        await becomes(client, "pass")
        # One that has not been seen for half a minute is not counted.
        await own_house.stop_workers()
        assert checks(await becomes(client, "warn"))["worker:alive"] == "warn"


async def test_the_database_is_looked_at_once_for_all_who_ask(
    own_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:  # SEC-27
    looks, now = 0, 1000.0

    async def look(db: Database) -> SchemaState:
        nonlocal looks
        looks += 1
        return await schema_state(db)

    monkeypatch.setattr(ops, "schema_state", look)
    monkeypatch.setattr(ops, "seconds", lambda: now)
    async with httpx.AsyncClient(base_url=own_house.url, trust_env=False) as client:
        told = await asyncio.gather(*(client.get("/health/ready") for _ in range(50)))
        assert {reply.json()["status"] for reply in told} == {"warn"}
        assert looks == 1
        now += READY_LASTS - 0.001
        await client.get("/health/ready")
        assert looks == 1
        now += 0.001
        await client.get("/health/ready")
        assert looks == 2


@pytest.mark.parametrize(
    ("ahead", "status"), [(-1, "fail"), (0, "warn"), (1, "warn"), (2, "fail"), (None, "fail")]
)
async def test_the_schema_may_be_one_step_ahead_and_none_behind(
    own_house: House, ahead: int | None, status: str
) -> None:
    db = own_house.parts.db
    if ahead is None:
        await db.rows(text("DROP TABLE alembic_version"))
    else:
        version = f"{int(head()) + ahead:04}"
        await db.rows(text("UPDATE alembic_version SET version_num = :in_v"), v=version)
    async with httpx.AsyncClient(base_url=own_house.url, trust_env=False) as client:
        told = healthy(await client.get("/health/ready"), status)
        healthy(await client.get("/health/live"), "pass")
    schema = told["checks"]["database:schema"][0]
    assert schema["status"] == ("fail" if status == "fail" else "pass")
    assert schema["needed"] == head()


# -- the database is away


@dataclass
class Fragile:
    """A PostgreSQL that can be stopped and started, and is always found at the same address."""

    folder: Path
    server: EmbeddedServer | None = None
    _link: Path = field(init=False)

    def __post_init__(self) -> None:
        self._link = self.folder / "socket"

    def start(self) -> None:
        self.server = EmbeddedServer.start(self.folder / "data", durable=False)
        self._link.unlink(missing_ok=True)
        (socket_folder,) = parse_qs(urlsplit(self.server.url).query)["host"]
        self._link.symlink_to(socket_folder)

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None

    @property
    def url(self) -> str:
        assert self.server is not None
        before, _, _ = self.server.url.partition("?")
        return f"{before}?host={self._link}&port=5432"


@pytest.fixture
def fragile() -> Iterator[Fragile]:
    folder = Path(tempfile.mkdtemp(prefix="fragile-", dir="/tmp"))  # a socket's path must be short
    folder.chmod(0o755)
    postgres = Fragile(folder)
    postgres.start()
    yield postgres
    postgres.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def frail_house(fragile: Fragile) -> AsyncIterator[House]:
    """A service, worker included, on a database that may go away."""
    await migrate(fragile.url)
    # Every poll of an absent database is a line with its stack: not for people here.
    with capture_logs():
        async with open_house(settings_for(fragile.url)) as house:
            yield house


async def test_while_the_database_is_away_callers_are_told_so_and_afterwards_all_goes_on(
    fragile: Fragile, frail_house: House, sandbox: Sandbox
) -> None:
    async with frail_house.new_shop(sandbox) as shop:
        payment = await shop.pay(5990)
        assert (await shop.refund(payment, 100))["status"] == "succeeded"
        # Held back, so that it waits for the worker while the database goes away and comes back.
        await shop.stop_sends()
        waiting = (await shop.ask(payment, 200)).json()

        fragile.stop()

        for _ in range(3):
            for reply in (
                await shop.ask(payment, 1250, key="meanwhile"),
                await shop.client.get(f"/v1/payments/{payment['id']}"),
                await shop.client.get("/v1/events"),
            ):
                told = problem(reply, 503, "database-unavailable")
                assert told["retryable"] is True
                assert int(reply.headers["retry-after"]) > 0
                assert os.fspath(fragile.folder) not in reply.text
        ready = await becomes(shop.client, "fail")
        assert ready["checks"]["database:connection"][0]["status"] == "fail"
        healthy(await shop.client.get("/health/live"), "pass")
        # What cannot be looked up is no stranger: a key that is not remembered gets no 401.
        async with shop.at(shop.house.url, new_key(livemode=False)[0]) as unseen:
            problem(await unseen.get("/v1/me"), 503, "database-unavailable")

        fragile.start()

        reply = await shop.ask(payment, 1250, key="meanwhile")
        assert reply.status_code == 201, reply.text
        assert "idempotency-replayed" not in reply.headers
        assert await becomes(shop.client, "pass")
        await shop.resume_sends()
        # The job may have been taken just before the outage: then its lease has to run out first.
        await frail_house.turn_clock(seconds=LEASE.total_seconds() + 1)
        for refund in (reply.json(), waiting):
            await shop.until(refund, "succeeded")
        assert [paid["amount"] for paid in shop.executions()].count(1250) == 1
        assert sorted(paid["amount"] for paid in shop.executions()) == [100, 200, 1250]


async def test_a_database_that_restarts_unnoticed_costs_at_most_a_retry(
    fragile: Fragile, frail_house: House, sandbox: Sandbox
) -> None:
    async with frail_house.new_shop(sandbox) as shop:
        payment = await shop.pay(5990)
        await asyncio.gather(*(shop.payment(payment) for _ in range(8)))  # several connections, all soon dead

        fragile.stop()
        fragile.start()

        async with asyncio.timeout(10):
            while (reply := await shop.ask(payment, 1250, key="one")).status_code != 201:
                problem(reply, 503, "database-unavailable")
        await shop.until(reply.json(), "succeeded")
        assert len(shop.executions()) == await shop.count("refunds") == 1


async def test_who_is_cut_off_by_the_database_is_asked_to_come_again(  # DESIGN 7: 503 with Retry-After
    own_house: House, own_shop: Shop
) -> None:
    db, payment = own_house.parts.db, await own_shop.pay(5990)
    waits = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with db.transaction() as tx:
        await tx.execute(text("SELECT * FROM payments FOR UPDATE"))
        asking = asyncio.create_task(own_shop.ask(payment, 1250, key="one"))
        async with asyncio.timeout(5):
            while not await db.rows(waits):
                await asyncio.sleep(0.01)
        reply = await asking

    problem(reply, 503, "database-unavailable")
    assert int(reply.headers["retry-after"]) > 0
    assert await own_shop.count("refunds") == await own_shop.count("idempotency_keys") == 0
    assert (await own_shop.ask(payment, 1250, key="one")).status_code == 201
