"""The emergency stop, pulled while a worker is sending as fast as it can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from clockwork import NOTHING_THERE, Asked, Clock, PlayedGateway, Reply
from house import Shop

REFUNDS, BEFORE = 60, 10
IN_FLIGHT = 16
"""Calls to one sandbox account at once: what was being marked as the switch was thrown may still leave."""


async def test_a_switch_stops_a_flood_at_once_and_loses_nothing_of_it(  # FRD-12
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    flowing = asyncio.Event()

    def play(asked: Asked) -> Reply:
        if not asked.is_send:
            return NOTHING_THERE
        if len(gateway.sends) == BEFORE:
            flowing.set()
        return 201, gateway.shown(asked)

    gateway: PlayedGateway = await played(play)
    till: Shop = await new_till(gateway)
    payment = await till.pay(REFUNDS)
    asking = asyncio.gather(*(till.ask(payment, 1) for _ in range(REFUNDS)))
    async with asyncio.timeout(30):
        await flowing.wait()

    await till.stop_sends()
    left = len(gateway.sends)
    replies = await asking
    await clock.work()
    await clock.turn(minutes=5)

    assert [reply.status_code for reply in replies] == [201] * REFUNDS, "asking goes on"
    stopped = len(gateway.sends)
    assert left <= stopped <= left + IN_FLIGHT < REFUNDS
    seen = await till.payment(payment)
    assert (seen["refunded"], seen["held"]) == (stopped, REFUNDS - stopped)

    await till.resume_sends()
    await clock.work()
    await clock.turn(minutes=5)
    assert (await till.payment(payment))["refunded"] == len(gateway.sends) == REFUNDS
    assert len({send.key for send in gateway.sends}) == REFUNDS
