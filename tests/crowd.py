"""Many who ask at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx
from house import House, Shop

from refund_service.reports.verify import verify_promises


@dataclass
class Crowd:
    """A shop that calls through several API processes at once."""

    shop: Shop
    doors: list[httpx.AsyncClient]

    async def ask_at_once(self, asks: list[dict[str, Any]]) -> list[httpx.Response]:
        """Ask for all of these refunds at the same moment, each through the next process."""
        asking = [
            self.shop.ask(**ask, client=door) for ask, door in zip(asks, cycle(self.doors), strict=False)
        ]
        return list(await asyncio.gather(*asking))

    async def settled(self, within: float = 30) -> None:
        """Until no refund of the shop is under way any more."""
        async with asyncio.timeout(within):
            while (await self.shop.get("/v1/refunds", outcome="open", limit=1))["data"]:
                await asyncio.sleep(0.05)


async def assert_promises_kept(house: House) -> None:
    broken = [finding for finding in await verify_promises(house.parts.db) if finding.rows]
    assert not broken, "\n".join(f"{one.promise}: {one.says}: {one.rows}" for one in broken)
