"""Machines whose clocks are ten minutes behind: only what is said of business time is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from clockwork import Asked, PlayedGateway, Reply
from house import House, Shop
from nursery import Child
from sqlalchemy import text

from refund_service.clock import utc_now
from refund_service.jobs.lease import LEASE

BEHIND = 600
LEASED_FOR = text("SELECT run_at - db_now() FROM jobs WHERE lease IS NOT NULL AND name = 'refund'")


def age(refund: dict[str, Any]) -> timedelta:
    return utc_now() - datetime.fromisoformat(refund["created_at"])


async def test_what_an_api_with_a_late_clock_takes_down_is_sent_and_listed_as_any_other(  # FLT-17
    own_house: House, own_shop: Shop, bear: Callable[..., Child]
) -> None:
    api = bear(own_house, "serve", "--no-worker", behind=BEHIND)
    payment, key = await own_shop.pay(), uuid4().hex
    async with own_shop.at(await api.url()) as late:
        refund = (await own_shop.ask(payment, 10, key=key, client=late)).json()
        assert age(refund) > timedelta(seconds=BEHIND - 60), "its clock is really behind"
        replay = await own_shop.ask(payment, 10, key=key)
        assert (replay.status_code, replay.json()["id"]) == (201, refund["id"])

        await own_house.start_worker()
        assert (await own_shop.until(refund, "succeeded"))["attention"] is None

        doors = [late, own_shop.client]
        asking = [await own_shop.ask(payment, 11 + number, client=doors[number % 2]) for number in range(9)]
        known = {refund["id"], *(reply.json()["id"] for reply in asking)}
        listed: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            door = doors[len(listed) % 2]
            page = (await door.get("/v1/refunds", params={"limit": 3} | cursor)).json()
            listed += [one["id"] for one in page["data"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
            # One that comes meanwhile takes no one's place, whatever its clock says.
            await own_shop.ask(payment, 1, client=doors[len(listed) // 3 % 2])
        assert sorted(name for name in listed if name in known) == sorted(known)
        assert len(set(listed)) == len(listed)

        told = [event["id"] for event in (await late.get("/v1/events", params={"limit": 100})).json()["data"]]
        asked = [event["id"] for event in (await own_shop.get("/v1/events", limit=100))["data"]]
        assert asked[: len(told)] == told


async def test_a_worker_with_a_late_clock_holds_its_leases_like_any_other(  # FLT-17, INC-41
    own_house: House, bear: Callable[..., Child], played: Callable[..., Any]
) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def wait_for_it(asked: Asked) -> Reply:
        arrived.set()
        await answer.wait()
        return 201, gateway.shown(asked)

    gateway: PlayedGateway = await played(wait_for_it)
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        late = bear(own_house, "work", behind=BEHIND)
        await late.url()
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        await arrived.wait()
        left = await own_house.parts.db.value(LEASED_FOR)
        assert timedelta(0) < left <= LEASE

        worker = await own_house.start_worker()
        worker.wake()
        answer.set()
        assert (await shop.until(refund, "succeeded"))["payment"]["refunded"] == 1250
        assert len(gateway.sends) == 1
