"""How many calls may be out at one gateway account at a time, in one worker process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID


class Gate:
    """Lets through as many as the account's traits allow; the others wait their turn."""

    def __init__(self) -> None:
        self._free: dict[UUID, asyncio.Semaphore] = {}
        self._inside: dict[UUID, int] = {}

    @asynccontextmanager
    async def passing(self, account_id: UUID, at_once: int) -> AsyncIterator[None]:
        """Hold one of ``at_once`` places of the account."""
        free = self._free.setdefault(account_id, asyncio.Semaphore(at_once))
        self._inside[account_id] = self._inside.get(account_id, 0) + 1
        try:
            async with free:
                yield
        finally:
            # Forgotten with the last one, so that a worker of many accounts does not grow.
            self._inside[account_id] -= 1
            if not self._inside[account_id]:
                del self._inside[account_id], self._free[account_id]
