"""Stories play in houses whose clock they turn: what takes days here takes no time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from clockwork import Clock, PlayedGateway
from house import Shop, open_house, settings_for
from sandbox_fixture import Sandbox

from refund_service.db.embedded import EmbeddedServer
from refund_service.reports.verify import verify_promises


@pytest.fixture(scope="module")
async def clock(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[Clock]:
    """The clock of a house that the stories of one file share, its worker running."""
    name = f"stories_{os.urandom(6).hex()}"
    async with open_house(settings_for(postgres.create_database(name, migrated))) as opened:
        yield Clock(opened)
        broken = [finding for finding in await verify_promises(opened.parts.db) if finding.rows]
        assert not broken, "\n".join(f"{one.promise}: {one.says}: {one.rows}" for one in broken)
    postgres.drop_database(name)


@pytest.fixture
async def new_till(clock: Clock, sandbox: Sandbox) -> AsyncIterator[Callable[..., object]]:
    """Merchants in that house: ``await new_till(looks_up=False)``, or at a played gateway."""
    async with AsyncExitStack() as stack:

        async def make(gateway: Sandbox | PlayedGateway = sandbox, **settings: object) -> Shop:
            return await stack.enter_async_context(clock.house.new_shop(gateway, **settings))

        yield make


@pytest.fixture
async def till(new_till: Callable[..., object]) -> Shop:
    """A merchant in that house, with an account that deduplicates and looks up."""
    return await new_till()
