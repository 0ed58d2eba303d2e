"""PostgreSQL goes away, drops connections, or is far away: the service says so, and heals by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from clockwork import Clock
from crowd import assert_promises_kept
from customers import OPEN_TRANSACTIONS, Customers
from fault_proxy import Fault, FaultProxy, _address
from house import House, Shop, open_house, settings_for
from over_http import problem
from sandbox_fixture import Sandbox
from sqlalchemy import text

from refund_service import ids
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database, DatabaseOptions
from refund_service.db.migrations import migrate
from refund_service.merchants.roles import Role


def url_of(house: House) -> str:
    url = house.parts.settings.database_url
    assert url is not None
    return url.get_secret_value()


async def health(client: httpx.AsyncClient, which: str) -> int:
    return (await client.get(f"/health/{which}")).status_code


async def until_ready(client: httpx.AsyncClient, status: int = 200, within: float = 20) -> None:
    async with asyncio.timeout(within):
        while await health(client, "ready") != status:
            await asyncio.sleep(0.02)


def stop_immediately(server: EmbeddedServer) -> None:
    """As ``pg_ctl stop --mode=immediate``: no connection is said goodbye to."""
    (pid_file,) = server.data_folder.rglob("postmaster.pid")
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
    server.stop()


async def test_a_database_that_stops_and_starts_loses_nothing_and_is_found_again(  # FLT-05
    sandbox: Sandbox,
) -> None:
    # Not below the tests' temporary folder: that is closed to the user that root lends the server.
    folder = Path("/tmp") / f"refunds-test-{ids.secret_token(8)}"
    folder.mkdir()
    folder.chmod(0o755)
    server = EmbeddedServer.start(folder, durable=False)
    try:
        await migrate(server.url)
        async with (
            FaultProxy.before(server.url) as line,
            open_house(settings_for(line.instead(server.url))) as house,
            house.new_shop(sandbox) as shop,
        ):
            customers = Customers(shop, [shop.client])
            async with customers.asking(4):
                for _ in range(3):
                    await customers.until_answered(10)
                    stop_immediately(server)
                    away = problem(await shop.client.get("/v1/refunds"), 503, "database-unavailable")
                    assert away["retryable"] is True
                    await until_ready(shop.client, 503)
                    assert await health(shop.client, "live") == 200
                    server = EmbeddedServer.start(folder, durable=False)
                    line.target = _address(server.url)
                    await until_ready(shop.client)
            assert set(customers.statuses) == {201, 503}
            assert {reply.headers.get("retry-after") for reply in customers.refused} == {"1"}
            await customers.assert_nothing_lost()
            await customers.assert_paid_once(Clock(house))
            await assert_promises_kept(house)
    finally:
        server.stop()
        shutil.rmtree(folder)


BACKENDS = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tests'"
)
TERMINATE = text("SELECT pg_terminate_backend(:in_pid)")


async def test_connections_that_are_dropped_under_load_poison_no_later_request(  # FLT-06
    own_house: House, own_shop: Shop
) -> None:
    rng = Random(6)  # noqa: S311 - a seed repeats it
    beside = Database.connect(DatabaseOptions(url_of(own_house), application_name="beside"))
    await own_house.start_worker()
    customers = Customers(own_shop, [own_shop.client])
    async with customers.asking(8):
        for _ in range(8):
            await customers.until_answered(10)
            backends = [row["pid"] for row in await beside.rows(BACKENDS)]
            for pid in rng.sample(backends, min(4, len(backends))):
                await beside.rows(TERMINATE, pid=pid)
    await beside.close()

    assert set(customers.statuses) == {201, 503}, customers.refused
    assert {reply.json()["code"] for reply in customers.refused} == {"database-unavailable"}
    await customers.assert_nothing_lost()
    assert await own_house.parts.db.value(OPEN_TRANSACTIONS) == 0
    await customers.assert_paid_once(Clock(own_house))


@asynccontextmanager
async def far_away(
    own_house: House, sandbox: Sandbox, **chosen: Any
) -> AsyncIterator[tuple[FaultProxy, Shop]]:
    """A second API on the house's database, behind a line that can be made long."""
    url = url_of(own_house)
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(FaultProxy.before(url))
        settings = settings_for(line.instead(url)).model_copy(update=chosen)
        house = await stack.enter_async_context(open_house(settings, work=False))
        yield line, await stack.enter_async_context(house.new_shop(sandbox))


@pytest.mark.parametrize("seconds", [0.02, 0.5])
async def test_a_database_that_is_far_away_is_waited_for_within_bounds(  # FLT-08
    own_house: House, sandbox: Sandbox, seconds: float
) -> None:
    async with far_away(own_house, sandbox) as (line, shop):
        customers = Customers(shop, [shop.client])
        async with customers.asking(24):
            await customers.until_answered(12)
            with line.failing(Fault.LATENCY, seconds=seconds):
                await customers.until_answered(24)
                assert await health(shop.client, "live") == 200
            await customers.until_answered(24)
        assert customers.cut == 0, "whoever asks is answered"
        assert set(customers.statuses) <= {201, 503}, {reply.text for reply in customers.refused}
        assert all("retry-after" in reply.headers for reply in customers.refused)
        pool = shop.house.parts.db._engine.pool
        assert pool.checkedout() == 0  # type: ignore[attr-defined] # a queue pool has it
        assert await own_house.parts.db.value(OPEN_TRANSACTIONS) == 0
        await customers.assert_nothing_lost()


async def test_a_key_that_is_looked_up_slowly_costs_no_one_their_allowance(  # FLT-08
    own_house: House, sandbox: Sandbox
) -> None:
    async with far_away(own_house, sandbox, rate_limit=1e6, rate_burst=20) as (line, shop):
        # Connections that are open and warm: who comes late is served at once.
        await asyncio.gather(*(shop.client.get("/v1/me") for _ in range(4)))
        new_key = await shop.new_key(Role.ADMIN)
        async with shop.at(shop.house.url, new_key) as client:
            with line.failing(Fault.LATENCY, seconds=1):
                early = asyncio.create_task(client.get("/v1/me"))
                async with asyncio.timeout(20):
                    while not line.met[Fault.LATENCY]:
                        await asyncio.sleep(0.001)
                line.seconds = 0
                late = await client.get("/v1/me")

                assert (late.status_code, (await early).status_code) == (200, 200)
