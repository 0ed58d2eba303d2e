"""Wait until a refund has left ``queued`` and ``processing``, without holding a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Final
from uuid import UUID

from refund_service.clock import seconds
from refund_service.db.engine import Database
from refund_service.refunds.queries import status_of
from refund_service.refunds.states import Status

UNDER_WAY: Final = frozenset({Status.QUEUED, Status.PROCESSING})
SOONEST_LOOK: Final = 0.05
LATEST_LOOK: Final = 0.5
MOST_WAITING: Final = 500


class Waiters:
    """Those in this process who wait for a refund; the worker in this process wakes them.

    Where the worker is another process nobody does, so they look by themselves too.
    """

    def __init__(self) -> None:
        self._events: defaultdict[UUID, list[asyncio.Event]] = defaultdict(list)
        self._dismissed = False

    def tell(self, refund_id: UUID) -> None:
        """Something has become of the refund."""
        for event in self._events.get(refund_id, ()):
            event.set()

    def dismiss(self) -> None:
        """The process ends: whoever waits is answered with what is known, and no one begins to wait."""
        self._dismissed = True
        for events in self._events.values():
            for event in events:
                event.set()

    async def until_told(self, refund_id: UUID, within: float) -> None:
        """Return once something has become of the refund, or after ``within`` seconds."""
        event = asyncio.Event()
        self._events[refund_id].append(event)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), within)
        finally:
            self._forget(refund_id, event)

    def has_room(self) -> bool:
        """Whether another one may wait here; without room the answer comes at once."""
        return not self._dismissed and len(self._events) < MOST_WAITING

    async def until_settled(self, db: Database, merchant_id: UUID, refund_id: UUID, within: float) -> None:
        """Return once the refund is neither queued nor processing, or after ``within`` seconds."""
        deadline, pause = seconds() + within, SOONEST_LOOK
        event = asyncio.Event()
        self._events[refund_id].append(event)
        try:
            while (left := deadline - seconds()) > 0 and not self._dismissed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(pause, left))
                pause = SOONEST_LOOK if event.is_set() else min(pause * 2, LATEST_LOOK)
                event.clear()
                status = await status_of(db, merchant_id, refund_id)
                if status is None or Status(status) not in UNDER_WAY:
                    return
        finally:
            self._forget(refund_id, event)

    def _forget(self, refund_id: UUID, event: asyncio.Event) -> None:
        self._events[refund_id].remove(event)
        if not self._events[refund_id]:
            del self._events[refund_id]
