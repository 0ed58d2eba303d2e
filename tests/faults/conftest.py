"""Faults play in houses of their own, at gateways that are played or that really keep a record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from clockwork import Play, PlayedGateway


@pytest.fixture
async def played() -> AsyncIterator[Callable[..., object]]:
    """Gateways played by a function: ``await played(lambda asked: …)``."""
    async with AsyncExitStack() as stack:

        async def start(play: Play) -> PlayedGateway:
            return await stack.enter_async_context(PlayedGateway(play).open())

        yield start
