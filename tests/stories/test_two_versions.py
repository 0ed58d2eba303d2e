"""Two versions on one database, under load: the schema goes ahead, code comes after it and goes back again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest
from house import House, Process, Shop, client_of
from next_version import NEXT, TAKES, Version
from sqlalchemy import text

from refund_service.db.engine import DatabaseOptions
from refund_service.db.migrations import LOCK_TIMEOUT_MS
from refund_service.db.schema_state import head

CLIENTS = 4
THINKING = 0.2
"""Seconds between a client's rounds: the processes that start meanwhile want a machine too."""

PATIENCE = 60
"""Tries until a request counts as lost."""


INDEX_COUNTS = text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_refunds_carrier'::regclass")


def environment(house: House, **more: str) -> dict[str, str]:
    url = house.parts.settings.database_url
    assert url is not None
    return {
        "REFUND_DATABASE_URL": url.get_secret_value(),
        "REFUND_PORT": "0",
        "REFUND_OPS_PORT": "0",
        "REFUND_RATE_LIMIT": "1000000",
        "REFUND_RATE_BURST": "1000000",
        **more,
    }


@dataclass
class Backend:
    """A merchant's backend under load. It does what the page for integrators says: it asks again, elsewhere."""

    shop: Shop
    doors: list[httpx.AsyncClient]
    """Where requests go, in turn; processes that come and go change it."""
    statuses: Counter[int] = field(default_factory=Counter)
    broken_off: int = 0
    refunds: list[dict[str, Any]] = field(default_factory=list)
    _turns: count[int] = field(default_factory=count)

    async def refund_on_and_on(self) -> None:
        """One client: a payment, a refund of it, a look at it, and from the start."""
        while True:
            capture = {"gateway_payment_id": f"pi_{uuid4().hex}", "captured": 5990, "currency": "EUR"}
            payment = (await self.sure("POST", "/v1/payments", json=capture)).json()
            asked = {"payment_id": payment["id"], "amount": 1250}
            key = {"Idempotency-Key": uuid4().hex}
            refund = (await self.sure("POST", "/v1/refunds", json=asked, headers=key)).json()
            self.refunds.append(refund)
            await self.sure("GET", f"/v1/refunds/{refund['id']}")
            await self.sure("GET", "/v1/refunds?limit=3")
            await asyncio.sleep(THINKING)

    async def sure(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """The answer that settles it; what may be retried is."""
        for _ in range(PATIENCE):
            door = self.doors[next(self._turns) % len(self.doors)]
            try:
                reply = await door.request(method, path, **sent)
            except httpx.TransportError:
                self.broken_off += 1
            else:
                self.statuses[reply.status_code] += 1
                if reply.is_success:
                    return reply
                assert reply.json()["retryable"], reply.text
            await asyncio.sleep(0.05)
        raise AssertionError(f"{method} {path} came to nothing")

    async def goes_on(self, more: int = 20) -> None:
        """Until as many refunds more have been asked for, and each of them has succeeded."""
        before = len(self.refunds)
        async with asyncio.timeout(120):
            while len(self.refunds) < before + more:
                await asyncio.sleep(0.02)
            for refund in self.refunds[before : before + more]:
                await self.shop.until(refund, "succeeded", within=60)


@asynccontextmanager
async def under_load(shop: Shop, *doors: str) -> AsyncIterator[Backend]:
    """The backend at work during the block; afterwards every refund that it was promised is there, once."""
    backend = Backend(shop, [client_of(door, shop.key) for door in doors])
    # A client that gives up ends the test at once.
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(backend.refund_on_and_on()) for _ in range(CLIENTS)]
        try:
            yield backend
        finally:
            for client in clients:
                client.cancel()
    for door in backend.doors:
        await door.aclose()
    for refund in backend.refunds:
        await shop.until(refund, "succeeded", within=60)
    # A client that was stopped after its refund was written has not seen the answer.
    assert len(backend.refunds) <= await shop.count("refunds") <= len(backend.refunds) + CLIENTS
    paid = Counter(paid["reference"] for paid in shop.executions())
    assert set(paid.values()) == {1}


async def started(process: Process) -> tuple[str, str]:
    """Where a process serves, and where the operator asks it."""
    told = await asyncio.to_thread(process.until_event, "started")
    return told["api"], told["ops"]


async def schema_check(ops: str) -> dict[str, Any]:
    """What a process that is ready says about the schema."""
    async with httpx.AsyncClient(base_url=ops, trust_env=False) as operator:
        ready = await operator.get("/health/ready")
    assert ready.status_code == 200, ready.text
    (check,) = ready.json()["checks"]["database:schema"]
    return {name: check[name] for name in ("found", "needed")}


@pytest.fixture
def run_to_the_end(start_process: Callable[..., Process]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Run ``refund-service …`` until it ends: its exit code and what it said."""

    async def run(*arguments: str, environment: dict[str, str]) -> tuple[int, str]:
        process = start_process(*arguments, environment=environment)
        code = await asyncio.to_thread(process.wait, 120)
        return code, " ".join(b"".join(process.read_to_the_end()).decode().split())

    return run


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the next version runs."""
    return Version.next(tmp_path_factory.mktemp("next")).environment


async def test_the_schema_goes_ahead_under_load_and_code_comes_after_it_and_goes_back(
    own_house: House,
    own_shop: Shop,
    start_process: Callable[..., Process],
    run_to_the_end: Callable[..., Any],
    new: dict[str, str],
) -> None:
    today, later = environment(own_house), environment(own_house, **new)
    old_api, old_ops = await started(start_process("serve", environment=today))

    async with under_load(own_shop, old_api) as backend:
        await backend.goes_on()

        # New code on the schema of today does not begin, and says what is missing.
        for command in ("serve", "work"):
            code, said = await run_to_the_end(command, environment=later)
            assert (code, f"schema is {head()}, this version needs {NEXT}: run" in said) == (1, True), said

        assert await run_to_the_end("migrate", environment=later) == (0, f"schema {NEXT}")
        assert await schema_check(old_ops) == {"found": NEXT, "needed": head()}
        await backend.goes_on()

        # The new version beside the old one.
        fresh = start_process("serve", environment=later)
        fresh_api, fresh_ops = await started(fresh)
        assert await schema_check(fresh_ops) == {"found": NEXT, "needed": NEXT}
        backend.doors.append(client_of(fresh_api, own_shop.key))
        await backend.goes_on()

        # Back again, as a deployment of the old version does it: its migrate, its processes.
        assert await run_to_the_end("migrate", environment=today) == (0, f"schema {NEXT}")
        again_api, again_ops = await started(start_process("serve", environment=today))
        assert await schema_check(again_ops) == {"found": NEXT, "needed": head()}
        backend.doors.append(client_of(again_api, own_shop.key))
        fresh.end()
        assert fresh.wait() == 0
        await backend.goes_on()

    assert {status for status in backend.statuses if status >= 500} == set()


async def test_a_migration_gives_way_to_a_long_transaction_and_all_goes_on_as_before(
    own_house: House,
    own_shop: Shop,
    start_process: Callable[..., Process],
    run_to_the_end: Callable[..., Any],
    new: dict[str, str],
) -> None:
    later = environment(own_house, **new)
    api, ops = await started(start_process("serve", environment=environment(own_house)))

    async with under_load(own_shop, api) as backend:
        async with own_house.parts.db.transaction() as report:
            await report.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await report.execute(text("SELECT count(*) FROM refunds"))
            code, said = await run_to_the_end("migrate", environment=later)
            assert (code, "A long transaction holds a table" in said) == (1, True), said
            assert await schema_check(ops) == {"found": head(), "needed": head()}
            await backend.goes_on()

        assert await run_to_the_end("migrate", environment=later) == (0, f"schema {NEXT}")
        await backend.goes_on()

    # Behind the migration others waited too: for less long than they bear, if the machine keeps time.
    assert {status for status in backend.statuses if status >= 500} <= {503}


def test_a_table_is_waited_for_less_long_than_requests_bear_to_wait_behind() -> None:
    assert DatabaseOptions("").lock_timeout_ms > LOCK_TIMEOUT_MS


async def test_deployments_at_once_make_an_index_concurrently_one_after_the_other(
    own_house: House, run_to_the_end: Callable[..., Any], new: dict[str, str]
) -> None:
    later, db = environment(own_house, **new), own_house.parts.db
    # Between waiting in a transaction and waiting for transactions, PostgreSQL would find a deadlock at once.
    name = await db.value(text("SELECT current_database()"))
    await db.rows(text(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'"))
    # A role may bring what requests need: a migration takes as long as it takes.
    await db.rows(text(f"ALTER DATABASE {name} SET statement_timeout = '{TAKES * 1000 - 200}ms'"))

    ended = await asyncio.gather(*(run_to_the_end("migrate", environment=later) for _ in range(3)))

    assert ended == [(0, f"schema {NEXT}")] * 3
    assert await db.value(INDEX_COUNTS) is True


async def test_a_migration_that_was_cut_off_is_run_again(
    own_house: House,
    start_process: Callable[..., Process],
    run_to_the_end: Callable[..., Any],
    new: dict[str, str],
) -> None:
    later, db = environment(own_house, **new), own_house.parts.db
    half_done = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
    )
    first = start_process("migrate", environment=later)
    async with asyncio.timeout(60):
        while not await db.value(half_done):
            await asyncio.sleep(0.02)
    first.kill()

    # Its turn comes when PostgreSQL has noticed that the first has gone.
    assert await run_to_the_end("migrate", environment=later) == (0, f"schema {NEXT}")
    assert await db.value(INDEX_COUNTS) is True
