"""Two writes that want the same rows wait in a line and never in a ring; what waits too long is told so."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import httpx
from crowd import Crowd
from house import House
from over_http import problem
from sqlalchemy import text

from refund_service import ids
from refund_service.jobs.lease import LEASE, Job
from refund_service.refunds.advance import advance_refund

WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
HOLD = text("SELECT 1 FROM payments WHERE id = :payment_id FOR UPDATE")
DEADLOCKS = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
TAKE = text(
    "UPDATE jobs SET lease = :in_lease, run_at = db_now() + :in_for WHERE subject_id = :in_refund_id"
    " RETURNING id, name, key, merchant_id, lane, subject_id, lease, tries"
)


async def take_job(house: House, refund: dict[str, Any]) -> Job:
    """The refund's job, leased, whatever other workers are after."""
    refund_id = ids.read("refund", refund["id"])
    row = await house.parts.db.row(TAKE, **{"lease": uuid4(), "for": LEASE, "refund_id": refund_id})
    assert row is not None
    return Job(**row)


async def waiting(house: House, number: int) -> None:
    async with asyncio.timeout(10):
        while await house.parts.db.value(WAITING) < number:
            await asyncio.sleep(0.005)


def payment_of(refund: dict[str, Any]) -> UUID:
    return ids.read("payment", refund["payment"]["id"])


async def test_a_cancel_and_a_worker_wait_in_one_line(crowd: Crowd) -> None:  # CON-09
    shop, house = crowd.shop, crowd.shop.house
    await shop.stop_sends()
    refund = (await shop.ask(await shop.pay(), 1250)).json()
    job = await take_job(house, refund)
    await shop.resume_sends()

    async with house.parts.db.transaction() as holding:
        await holding.execute(HOLD, {"payment_id": payment_of(refund)})
        cancel = asyncio.create_task(shop.client.post(refund["links"]["cancel"]))
        await waiting(house, 1)
        send = asyncio.create_task(advance_refund(house.desk, job))
        await waiting(house, 2)
    canceled, _ = await asyncio.gather(cancel, send)

    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    assert shop.executions() == []


async def test_a_retry_and_a_worker_wait_in_one_line(crowd: Crowd, own_house: House) -> None:
    """In a house without a worker, so that no one else takes the job."""
    async with own_house.new_shop(crowd.shop.sandbox) as shop:
        refund = (await shop.ask(await shop.pay(), 1250, metadata={"sandbox": "decline"})).json()
        await advance_refund(own_house.desk, await take_job(own_house, refund))
        assert (await shop.see(refund))["status"] == "failed"
        await shop.client.post(f"/v1/refunds/{refund['id']}/refresh")
        job = await take_job(own_house, refund)

        async with own_house.parts.db.transaction() as holding:
            await holding.execute(text("SELECT 1 FROM refunds FOR UPDATE"))
            look = asyncio.create_task(advance_refund(own_house.desk, job))
            await waiting(own_house, 1)
            retry = asyncio.create_task(shop.client.post(f"/v1/refunds/{refund['id']}/retry"))
            await waiting(own_house, 2)
        retried, _ = await asyncio.gather(retry, look)

        assert (retried.status_code, retried.json()["status"]) == (200, "queued"), retried.text
        assert await own_house.parts.db.value(DEADLOCKS) == 0


async def test_a_worker_and_a_retry_wait_in_one_line(crowd: Crowd, own_house: House) -> None:
    """The other way round: the retry is first at the refund, and held up at the payment."""
    async with own_house.new_shop(crowd.shop.sandbox) as shop:
        refund = (await shop.ask(await shop.pay(), 1250, metadata={"sandbox": "decline"})).json()
        await advance_refund(own_house.desk, await take_job(own_house, refund))
        await shop.client.post(f"/v1/refunds/{refund['id']}/refresh")
        job = await take_job(own_house, refund)

        async with own_house.parts.db.transaction() as holding:
            await holding.execute(HOLD, {"payment_id": payment_of(refund)})
            retry = asyncio.create_task(shop.client.post(f"/v1/refunds/{refund['id']}/retry"))
            await waiting(own_house, 1)
            look = asyncio.create_task(advance_refund(own_house.desk, job))
            await waiting(own_house, 2)
        retried, _ = await asyncio.gather(retry, look)

        assert (retried.status_code, retried.json()["status"]) == (200, "queued"), retried.text
        assert (await shop.see(refund))["generation"] == 2
        assert await own_house.parts.db.value(DEADLOCKS) == 0


async def test_a_retry_that_waited_finds_that_the_rest_was_taken(crowd: Crowd, own_house: House) -> None:
    async with own_house.new_shop(crowd.shop.sandbox) as shop:
        payment = await shop.pay(1000)
        refund = (await shop.ask(payment, 600, metadata={"sandbox": "decline"})).json()
        await advance_refund(own_house.desk, await take_job(own_house, refund))

        async with own_house.parts.db.transaction() as holding:
            await holding.execute(HOLD, {"payment_id": payment_of(refund)})
            other = asyncio.create_task(shop.ask(payment, 600))
            await waiting(own_house, 1)
            retry = asyncio.create_task(shop.client.post(f"/v1/refunds/{refund['id']}/retry"))
            await waiting(own_house, 2)
        retried, taken = await asyncio.gather(retry, other)

        assert taken.status_code == 201
        assert problem(retried, 422, "amount-exceeds-available")["available"] == 400
        assert (await shop.see(refund))["status"] == "failed"


# --- what waits too long ---------------------------------------------------------------------


async def test_a_payment_that_others_hold_answers_busy_in_time(crowd: Crowd) -> None:
    shop = crowd.shop
    payment, key = await shop.pay(), uuid4().hex
    loop = asyncio.get_running_loop()

    async with shop.house.parts.db.transaction() as holding:
        await holding.execute(HOLD, {"payment_id": ids.read("payment", payment["id"])})
        began = loop.time()
        reply = await shop.ask(payment, 100, key=key)
        took = loop.time() - began

    told = problem(reply, 503, "busy")
    assert told["retryable"] is True
    assert int(reply.headers["retry-after"]) >= 1
    assert took < 2.5
    assert await shop.count("idempotency_keys") == 0
    assert (await shop.ask(payment, 100, key=key)).status_code == 201


CLAIM = text(
    "INSERT INTO idempotency_keys (merchant_id, key, fingerprint, status_code, kind, resource_id, created_at)"
    " VALUES (:merchant_id, :key, '\\x00', 201, 'refund', gen_random_uuid(), now())"
)


async def test_a_key_in_flight_is_told_within_two_seconds_and_starves_no_one(crowd: Crowd) -> None:  # IDM-09
    shop, loop = crowd.shop, asyncio.get_running_loop()
    payment, key = await shop.pay(), uuid4().hex

    async def timed(asking: Any) -> tuple[httpx.Response, float]:
        began = loop.time()
        return await asking, loop.time() - began

    async with shop.house.parts.db.transaction() as first:
        await first.execute(CLAIM, {"merchant_id": shop.merchant_id, "key": key})
        alone, took = await timed(shop.ask(payment, 100, key=key, client=crowd.doors[0]))
        problem(alone, 409, "idempotency-key-in-use")
        assert alone.headers["retry-after"] == "1"
        assert took < 2

        door = crowd.doors[0]
        hundred = [
            asyncio.create_task(timed(shop.ask(payment, 100, key=key, client=door))) for _ in range(100)
        ]
        await waiting(shop.house, 1)
        healths = [
            await timed(door.get(path)) for path in ("/health/live", "/health/ready") for _ in range(5)
        ]
        replies = await asyncio.gather(*hundred)
        await first.rollback()

    assert median(took for _, took in healths) < 0.5
    assert max(took for _, took in healths) < 2, "no one waits for a connection that a waiter holds"
    assert {reply.status_code for reply, _ in healths} == {200}
    assert {(reply.status_code, reply.json()["code"]) for reply, _ in replies} == {
        (409, "idempotency-key-in-use")
    }
    # A second and a half each, side by side; a hundred answers take a crowded machine its own time.
    assert max(took for _, took in replies) < 12
    assert (await shop.ask(payment, 100, key=key)).status_code == 201, "a key that came to nothing is free"
