"""Who may call a gateway now: a call asks the breaker when its turn at the gate has come, not before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from clockwork import Asked, Reply
from house import House

from refund_service.gateways.breaker import FAILURES_TO_OPEN, FIRST_PAUSE, Breaker
from refund_service.gateways.gate import Gate
from refund_service.gateways.sandbox import SandboxGateway
from refund_service.refunds.advance import advance_refund

AT_ONCE = SandboxGateway().traits({}).parallel_calls
WAITING = 2 * FAILURES_TO_OPEN


async def test_who_waits_at_the_gate_does_not_call_a_gateway_that_has_fallen_silent_meanwhile(
    quiet_house: House, played: Callable[..., Any], take: Callable[..., Any]
) -> None:
    full = asyncio.Event()

    async def keep_silent(_asked: Asked) -> Reply | None:
        if len(gateway.sends) == AT_ONCE:
            full.set()
        await full.wait()
        return None

    gateway = await played(keep_silent)
    desk = replace(quiet_house.desk, breaker=Breaker(), gate=Gate())
    async with quiet_house.new_shop(gateway) as shop:
        for _ in range(AT_ONCE + WAITING):
            await shop.ask(await shop.pay(), 100)

        async with asyncio.timeout(30):
            await asyncio.gather(*(advance_refund(desk, job) for job in await take(shop)))

        # The circuit opens with the fifth failure: whose turn came before that has called.
        called = len(gateway.sends)
        assert AT_ONCE <= called < AT_ONCE + FAILURES_TO_OPEN
        seen = Counter(refund["status"] for refund in (await shop.get("/v1/refunds", limit=100))["data"])
        assert seen == {"unknown": called, "queued": AT_ONCE + WAITING - called}


class Watched(Gate):
    """Tells when someone has come to it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    @asynccontextmanager
    async def passing(self, account_id: UUID, at_once: int) -> AsyncIterator[None]:
        self.reached.set()
        async with super().passing(account_id, at_once):
            yield


@pytest.mark.parametrize("cut_off", ["at the gate", "while the call is out"])
async def test_a_trial_that_is_cut_off_leaves_the_turn_to_another(
    quiet_house: House, played: Callable[..., Any], take: Callable[..., Any], cut_off: str
) -> None:
    called, ended = asyncio.Event(), asyncio.Event()

    async def take_long(_asked: Asked) -> Reply | None:
        called.set()
        await ended.wait()
        return None

    breaker, gate = Breaker(), Watched()
    desk = replace(quiet_house.desk, breaker=breaker, gate=gate, seconds=lambda: FIRST_PAUSE)
    async with quiet_house.new_shop(await played(take_long)) as shop, AsyncExitStack() as inside:
        for _ in range(FAILURES_TO_OPEN):
            breaker.record(shop.account_id, ok=False, now=0)
        await shop.ask(await shop.pay(), 100)
        (job,) = await take(shop)
        if cut_off == "at the gate":
            for _ in range(AT_ONCE):
                await inside.enter_async_context(Gate.passing(gate, shop.account_id, AT_ONCE))

        trial = asyncio.create_task(advance_refund(desk, job))
        await asyncio.wait_for((gate.reached if cut_off == "at the gate" else called).wait(), 20)
        trial.cancel()
        await asyncio.wait({trial})
        ended.set()

        assert trial.cancelled()
        assert breaker.allows(shop.account_id, FIRST_PAUSE)
