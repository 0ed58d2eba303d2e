"""Races run over two API processes on one database, with a worker in this one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from crowd import Crowd, assert_promises_kept
from house import House, Process, open_house, settings_for
from sandbox_fixture import Sandbox
from sqlalchemy import text

from refund_service.db.embedded import EmbeddedServer

DEADLOCKS = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


@pytest.fixture(scope="session")
async def two_apis(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[tuple[House, list[str]]]:
    """Two API processes and a house with a worker, all on one database."""
    name = f"races_{os.urandom(6).hex()}"
    url = postgres.create_database(name, migrated)
    environment = {
        "REFUND_DATABASE_URL": url,
        "REFUND_PORT": "0",
        "REFUND_OPS_PORT": "-1",
        "REFUND_RATE_LIMIT": "1000000",
        "REFUND_RATE_BURST": "1000000",
    }
    processes = [Process(("serve", "--no-worker"), environment) for _ in range(2)]
    try:
        async with open_house(settings_for(url)) as opened:
            told = [await asyncio.to_thread(process.until_event, "started") for process in processes]
            yield opened, [one["api"] for one in told]
            await assert_promises_kept(opened)
            # Every write takes its locks in one order, so that none waits for another in a ring.
            assert await opened.parts.db.value(DEADLOCKS) == 0
    finally:
        for process in processes:
            process.end()
    postgres.drop_database(name)


@pytest.fixture
async def crowd(two_apis: tuple[House, list[str]], sandbox: Sandbox) -> AsyncIterator[Crowd]:
    """A merchant whose requests go through both processes in turn."""
    house, urls = two_apis
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(house.new_shop(sandbox))
        yield Crowd(shop, [await stack.enter_async_context(shop.at(url)) for url in urls])
