"""``GET /v1/events``: oldest first, and nothing ever appears behind a cursor already given out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest
from house import House, Shop
from over_http import problem, wrong
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from refund_service import ids
from refund_service.events.feed import begin_epoch

INSERT = text(
    "INSERT INTO events (merchant_id, id, type, resource, resource_id, sequence, data, caused_by, occurred_at)"
    " VALUES (:merchant, :id, :type, 'test', :resource, 1, '{}', 'a test', now())"
)


async def write(tx: AsyncConnection, shop: Shop, type_: str) -> UUID:
    """Write an event in this transaction; its id."""
    id_ = ids.new_id()
    told = {"merchant": shop.merchant_id, "id": id_, "type": type_, "resource": ids.new_id()}
    await tx.execute(INSERT, told)
    return id_


async def page(shop: Shop, cursor: str | None = None, limit: int = 100) -> tuple[list[dict[str, Any]], str]:
    """One page of the feed, and where it goes on."""
    told = await shop.get("/v1/events", limit=limit, **({"cursor": cursor} if cursor else {}))
    assert told["next_cursor"]
    return told["data"], told["next_cursor"]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


@asynccontextmanager
async def open_transaction(house: House) -> AsyncIterator[AsyncConnection]:
    """One that other requests do not see until it ends."""
    async with house.parts.db.transaction() as tx:
        yield tx


async def test_the_feed_tells_everything_oldest_first(shop: Shop) -> None:
    _, cursor = await page(shop)
    payment = await shop.pay(5990, order={"id": "A-1"})
    refund = await shop.refund(payment, 1250)
    await shop.client.patch("/v1/orders/A-1", json={"facts": {"fulfilled": True}})

    events, _ = await page(shop, cursor)

    # Of one transaction are the payment and its order; the rest came one after the other.
    assert set(types(events[:2])) == {"payment.registered", "order.registered"}
    assert types(events[2:]) == ["refund.created", "refund.processing", "refund.succeeded", "order.updated"]
    assert [event["occurred_at"] for event in events] == sorted(event["occurred_at"] for event in events)
    assert all(event["id"].startswith("evt_") for event in events)
    assert {event["data"].get("payment_id") for event in events[2:5]} == {payment["id"]}
    own = (await shop.client.get(refund["links"]["events"])).json()["data"]
    assert events[2:5] == own


async def test_a_page_goes_on_where_the_last_one_ended(shop: Shop) -> None:
    for _ in range(3):
        await shop.refund(await shop.pay(100), 1)
    everything, end = await page(shop)
    assert len(everything) >= 12

    for limit in (1, 5):
        found, cursor = [], None
        while True:
            events, cursor = await page(shop, cursor, limit)
            if not events:
                break
            assert len(events) <= limit
            found += events
        assert found == everything

    # At the end there is still a cursor, and it finds what comes later.
    again, same = await page(shop, end)
    assert (again, same) == ([], end)
    await shop.pay(100)
    later, _ = await page(shop, end)
    assert types(later) == ["payment.registered"]


async def test_nothing_is_served_past_a_transaction_that_has_not_ended(
    own_house: House, own_shop: Shop
) -> None:
    await own_shop.pay(100)
    before, cursor = await page(own_shop)

    async with open_transaction(own_house) as tx:
        early = await write(tx, own_shop, "test.early")
        payment = await own_shop.pay(5990)
        reply = await own_shop.ask(payment, 1250)
        assert reply.status_code == 201
        # They are committed and acknowledged, but the earlier one may still come before them.
        assert await own_shop.count("events") >= len(before) + 2
        events, held = await page(own_shop, cursor)
        assert events == []

    events, _ = await page(own_shop, held)
    assert types(events) == ["test.early", "payment.registered", "refund.created"]
    assert events[0]["id"] == ids.show("event", early)
    everything, _ = await page(own_shop)
    assert everything == before + events


async def test_what_was_committed_before_it_began_is_served_meanwhile(
    own_house: House, own_shop: Shop
) -> None:
    _, cursor = await page(own_shop)
    payment = await own_shop.pay(5990)
    async with open_transaction(own_house) as tx:
        await write(tx, own_shop, "test.early")
        await own_shop.ask(payment, 1250)
        events, cursor = await page(own_shop, cursor)
        assert types(events) == ["payment.registered"]
    events, _ = await page(own_shop, cursor)
    assert types(events) == ["test.early", "refund.created"]


async def test_a_transaction_that_is_given_up_holds_nothing_back_for_long(
    own_house: House, own_shop: Shop
) -> None:
    _, cursor = await page(own_shop)
    with suppress(LookupError):
        async with open_transaction(own_house) as tx:
            await write(tx, own_shop, "test.early")
            await own_shop.pay(100)
            assert (await page(own_shop, cursor))[0] == []
            raise LookupError
    events, _ = await page(own_shop, cursor)
    assert types(events) == ["payment.registered"]


async def test_a_transaction_that_only_reads_holds_nothing_back(own_house: House, own_shop: Shop) -> None:
    _, cursor = await page(own_shop)
    async with open_transaction(own_house) as tx:
        await tx.execute(text("SELECT count(*) FROM events"))
        await own_shop.pay(100)
        assert types((await page(own_shop, cursor))[0]) == ["payment.registered"]


async def test_who_reads_along_while_many_write_misses_nothing(own_house: House, own_shop: Shop) -> None:
    _, begin = await page(own_shop)
    chance = random.Random(17)  # noqa: S311 - spreads the commits, the same way each time

    async def many(writer: int) -> None:
        for number in range(8):
            async with open_transaction(own_house) as tx:
                await write(tx, own_shop, f"test.{writer}.{number}")
                await asyncio.sleep(chance.uniform(0, 0.03))

    writers = asyncio.gather(*(many(writer) for writer in range(6)))
    read: list[dict[str, Any]] = []
    cursor, last_look = begin, False
    async with asyncio.timeout(20):
        while True:
            events, cursor = await page(own_shop, cursor, limit=3)
            read += events
            if not events and last_look:
                break
            # Once more after all have ended: what they wrote is there now.
            last_look = writers.done() and not events

    everything, _ = await page(own_shop, begin)
    assert len(everything) == 48
    assert read == everything
    for writer in range(6):
        own = [name for name in types(read) if name.startswith(f"test.{writer}.")]
        assert own == [f"test.{writer}.{number}" for number in range(8)]


async def test_after_a_restore_elsewhere_the_feed_goes_on_behind_what_was_told(
    own_house: House, own_shop: Shop
) -> None:
    db = own_house.parts.db
    await own_shop.pay(100)
    before, _ = await page(own_shop)
    # As it is in a dump that is restored into a young server: events from transactions whose
    # numbers that server has not reached yet, and another server's name on the epoch.
    await db.rows(text("ALTER TABLE events DISABLE TRIGGER USER"))
    await db.rows(text("UPDATE events SET xid = (xid::text::bigint + 1000000000)::text::xid8"))
    await db.rows(text("ALTER TABLE events ENABLE TRIGGER USER"))
    await db.rows(text("UPDATE feed_epochs SET system_identifier = '1'"))
    assert (await page(own_shop))[0] == []

    await begin_epoch(db)

    events, cursor = await page(own_shop)
    assert events == before
    await own_shop.pay(200)
    later, _ = await page(own_shop, cursor)
    assert [event["data"]["captured"] for event in later] == [200]
    assert (await page(own_shop))[0] == before + later
    # On the server where it already is nothing changes.
    await begin_epoch(db)
    assert await db.value(text("SELECT max(epoch) FROM feed_epochs")) == 2


async def test_the_feed_holds_no_personal_data(shop: Shop) -> None:
    customer = {"id": "c-1", "email": "ada@example.org", "name": "Ada Lovelace", "locale": "en-GB"}
    payment = await shop.pay(5990, customer=customer, order={"id": "A-1", "facts": {"door": "Byron Lane 1"}})
    await shop.refund(payment, 1250, note="She called twice.", metadata={"k": "a secret"})
    await shop.client.patch("/v1/orders/A-1", json={"facts": {"neighbour": "Babbage"}})

    told = (await shop.client.get("/v1/events", params={"limit": 100})).text

    for personal in ("ada@", "Lovelace", "en-GB", "Byron", "called twice", "a secret", "Babbage"):
        assert personal not in told


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.0", "x"])
async def test_the_feeds_limit_is_one_to_a_hundred(shop: Shop, limit: str) -> None:
    assert list(wrong(await shop.client.get("/v1/events", params={"limit": limit}))) == ["/limit"]
    problem(await shop.client.get("/v1/events", params={"cursor": ""}), 400, "cursor-invalid")


async def test_history_cannot_be_edited(shop: Shop) -> None:
    await shop.refund(await shop.pay(100), 1)
    for table in ("events", "refund_transitions", "decisions", "gateway_calls"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET merchant_id = merchant_id"):
            with pytest.raises(Exception, match="is history"):
                await shop.house.parts.db.rows(text(statement))
