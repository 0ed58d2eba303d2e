"""A gateway that was away for an hour, and a service that was: what has piled up drains without a herd."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID

from clockwork import Asked, Clock, Play, PlayedGateway, Reply
from customers import free_port
from house import House, Shop
from sqlalchemy import text

from refund_service import clock as the_clock
from refund_service.gateways.breaker import Breaker
from refund_service.gateways.gate import Gate
from refund_service.gateways.sandbox import SandboxGateway

AT_MOST = SandboxGateway().traits({}).parallel_calls
QUEUED = 2_000
"""As many as drain in a few seconds on two cores: how many there are is nothing that a claim looks at."""

UNKNOWN = 500
OF_ONE_PAYMENT = 50


@dataclass
class Crowded:
    """Counts how many calls are out at once; each lasts long enough to meet others."""

    inside: int = 0
    most: int = 0

    def around(self, play: Play) -> Callable[[Asked], Awaitable[Reply | None]]:
        async def counted(asked: Asked) -> Reply | None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.01)
            self.inside -= 1
            reply = play(asked)
            assert not isinstance(reply, Awaitable)
            return reply

        return counted


@dataclass
class Hours:
    """Both clocks of a house, turned together: the breaker goes by the process's own."""

    house: House
    ahead: float = 0.0

    def __post_init__(self) -> None:
        self.clock = Clock(self.house)
        self.house.desk = replace(self.house.desk, seconds=lambda: the_clock.seconds() + self.ahead)

    async def pass_by(self, seconds: float) -> None:
        self.ahead += seconds
        await self.clock.turn(seconds=seconds)


class NeverOpen(Breaker):
    """Lets everything be sent, whatever comes of it."""

    def record(self, account_id: UUID, ok: bool, now: float) -> None:
        pass


async def pile_up(shop: Shop, number: int) -> None:
    """So many refunds, none of them sent yet."""

    async def of_one_payment() -> None:
        payment = await shop.pay()
        for _ in range(OF_ONE_PAYMENT):
            assert (await shop.ask(payment, 100)).status_code == 201

    crowds, rest = divmod(number // OF_ONE_PAYMENT, 10)
    for at_once in [10] * crowds + [rest]:
        await asyncio.gather(*(of_one_payment() for _ in range(at_once)))


async def statuses(shop: Shop) -> Counter[str]:
    told: Counter[str] = Counter()
    cursor: dict[str, str] = {}
    while True:
        page = await shop.get("/v1/refunds", limit=100, **cursor)
        told.update(refund["status"] for refund in page["data"])
        if not page["next_cursor"]:
            return told
        cursor = {"cursor": page["next_cursor"]}


async def test_a_gateway_that_was_away_for_an_hour_gets_what_piled_up_once_and_in_turn(  # UNK-07
    own_house: House,
) -> None:
    crowded, hours = Crowded(), Hours(own_house)
    port = free_port()
    gateway = PlayedGateway(
        crowded.around(lambda asked: (201, gateway.shown(asked))), f"http://127.0.0.1:{port}"
    )
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        await pile_up(shop, QUEUED)
        await own_house.start_worker()
        for _ in range(12):
            await hours.pass_by(300)
        assert await statuses(shop) == {"queued": QUEUED}
        assert own_house.desk.breaker.closed_to(own_house.desk.seconds()) == {shop.account_id}

        async with gateway.open(port):
            await hours.pass_by(60)
            assert gateway.sends, "after a minute at most it is tried again"
            assert own_house.desk.breaker.closed_to(own_house.desk.seconds()) == set()
            for _ in range(3):
                await hours.pass_by(300)
            assert await statuses(shop) == {"succeeded": QUEUED}
            assert len(gateway.sends) == len({asked.key for asked in gateway.sends}) == QUEUED
            assert 1 < crowded.most <= AT_MOST
        await own_house.stop_workers()


async def test_after_a_restart_what_is_unknown_is_asked_after_when_it_is_due_and_in_turn(  # UNK-14
    own_house: House,
) -> None:
    crowded, hours = Crowded(), Hours(own_house)

    def lose_every_other_answer(asked: Asked) -> Reply | None:
        if asked.is_send:
            return (201, gateway.shown(asked)) if len(gateway.sends) % 2 else None
        (send,) = (send for send in gateway.sends if send.key == asked.query["reference"])
        return 200, {"data": [gateway.shown(send)]}

    gateway = PlayedGateway(crowded.around(lose_every_other_answer))
    async with gateway.open(), own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # as above
        await pile_up(shop, 2 * UNKNOWN)
        own_house.desk = replace(own_house.desk, breaker=NeverOpen())
        await own_house.start_worker()
        await hours.clock.work()
        await own_house.stop_workers()
        # As after some look-ups in vain: not so soon that a slow machine comes to it by itself.
        await own_house.parts.db.rows(text("UPDATE jobs SET run_at = db_now() + interval '15 minutes'"))
        before, looked_up = await statuses(shop), gateway.look_ups
        assert before["unknown"] >= UNKNOWN
        own_house.desk = replace(own_house.desk, breaker=Breaker(), gate=Gate())

        await own_house.start_worker()
        await hours.clock.work()
        assert gateway.look_ups == looked_up, "a restart makes nothing due"
        await own_house.stop_workers()

        await hours.clock.jump(hours=1)
        crowded.most = 0
        await own_house.start_worker()
        await hours.clock.work()
        assert gateway.look_ups - looked_up == before["unknown"], "each is asked after once"
        assert 1 < crowded.most <= AT_MOST
        settled = Counter(succeeded=before["unknown"])
        assert await statuses(shop) == before - Counter(unknown=before["unknown"]) + settled
        assert len(gateway.sends) == len({asked.key for asked in gateway.sends})
        await own_house.stop_workers()
