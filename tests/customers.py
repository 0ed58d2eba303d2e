"""Clients that keep asking for refunds while things fail, and what they were told."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import httpx
from clockwork import Clock
from house import Shop
from sqlalchemy import text

from refund_service import ids
from refund_service.jobs.lease import LEASE

PAUSE = 0.02
OPEN_TRANSACTIONS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND state LIKE 'idle in transaction%'"
)


@dataclass
class Customers:
    """Each asks through any of the ``doors``, and with the same key again until it is answered.

    A seed decides what they ask for and where. What a client must not see is for the test to say.
    """

    shop: Shop
    doors: Sequence[httpx.AsyncClient]
    seed: int = 1
    plays: Sequence[str] = ()
    """What the sandbox is to do with their refunds; it succeeds where none is named."""
    patience: float = 120
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The refund that was acknowledged under each key."""
    statuses: Counter[int] = field(default_factory=Counter)
    refused: list[httpx.Response] = field(default_factory=list)
    """Every answer of 400 or more."""
    cut: int = 0
    """How often there was no answer."""
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def asking(self, number: int) -> AsyncIterator[None]:
        """So many of them ask until the block ends; then each hears the end of its last request."""
        self._over.clear()
        async with asyncio.TaskGroup() as group:
            for customer in range(number):
                rng = Random(f"{self.seed}/{len(self.answered)}/{customer}")  # noqa: S311 - a seed repeats it
                group.create_task(self._one(rng, await self.shop.pay(10**9)))
            try:
                yield
            finally:
                self._over.set()

    async def until_answered(self, more: int) -> None:
        """Until so many more were answered: others do their worst meanwhile."""
        enough = len(self.answered) + more
        async with asyncio.timeout(self.patience):
            while len(self.answered) < enough:
                await asyncio.sleep(0.01)

    async def _one(self, rng: Random, payment: dict[str, Any]) -> None:
        while not self._over.is_set():
            key = str(UUID(int=rng.getrandbits(128)))
            more: dict[str, Any] = {"amount": rng.randint(1, 999)}
            if self.plays:
                more["metadata"] = {"sandbox": rng.choice(self.plays)}
            async with asyncio.timeout(self.patience):
                self.answered[key] = await self._insist(rng, payment, key, more)

    async def _insist(
        self, rng: Random, payment: dict[str, Any], key: str, more: dict[str, Any]
    ) -> dict[str, Any]:
        while True:
            try:
                reply = await self.shop.ask(payment, key=key, client=rng.choice(self.doors), **more)
            except httpx.TransportError:
                self.cut += 1
            else:
                self.statuses[reply.status_code] += 1
                if reply.status_code == 201:
                    told: dict[str, Any] = reply.json()
                    return told
                self.refused.append(reply)
            await asyncio.sleep(PAUSE)

    async def assert_nothing_lost(self) -> None:
        """One refund for each key, and nothing that was acknowledged is missing."""
        rows = await self.shop.house.parts.db.rows(_KEPT, merchant_id=self.shop.merchant_id)
        kept = {row["idempotency_key"]: (ids.show("refund", row["id"]), row["amount"]) for row in rows}
        assert len(rows) == len(kept)
        assert kept == {key: (told["id"], told["amount"]) for key, told in self.answered.items()}

    async def assert_paid_once(self, clock: Clock) -> None:
        """When the clock is turned everything is paid out, and nothing twice. A worker must be there."""
        # Jobs that were in hand when something failed are due again when their leases have ended.
        await clock.jump(seconds=LEASE.total_seconds() + 2)
        await clock.work()
        for _ in range(20):
            if not (await self.shop.get("/v1/refunds", outcome="open", limit=1))["data"]:
                break
            await clock.turn(seconds=70)
        executions = self.shop.executions()
        amounts = sorted(told["amount"] for told in self.answered.values())
        assert sorted(paid["amount"] for paid in executions) == amounts
        assert len({paid["reference"] for paid in executions}) == len(executions)
        assert not (await self.shop.get("/v1/refunds", outcome="open", limit=1))["data"]


_KEPT = text("SELECT id, idempotency_key, amount FROM refunds WHERE merchant_id = :in_merchant_id")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
