"""Many at once over one payment: together they never promise more than it has."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest
from crowd import Crowd, assert_promises_kept
from house import Shop
from over_http import problem
from sandbox_fixture import Sandbox


def by_status(replies: list[httpx.Response]) -> Counter[int]:
    return Counter(reply.status_code for reply in replies)


def accepted(replies: list[httpx.Response]) -> list[dict[str, Any]]:
    return [reply.json() for reply in replies if reply.status_code == 201]


async def test_of_a_hundred_refunds_of_sixty_of_a_hundred_one_is_accepted(
    crowd: Crowd,
) -> None:  # CON-01, INC-01, hyperswitch#13182, eventyay#1405
    payment = await crowd.shop.pay(100)

    replies = await crowd.ask_at_once([{"payment": payment, "amount": 60}] * 100)

    assert by_status(replies) == {201: 1, 422: 99}
    for reply in replies:
        if reply.status_code == 422:
            told = problem(reply, 422, "amount-exceeds-available")
            assert (told["asked"], told["available"], told["retryable"]) == (60, 40, False)
    await crowd.settled()
    assert [paid["amount"] for paid in crowd.shop.executions()] == [60]


async def test_of_a_hundred_refunds_of_one_of_fifty_exactly_fifty_are_accepted(
    crowd: Crowd,
) -> None:  # CON-02
    payment = await crowd.shop.pay(50)

    replies = await crowd.ask_at_once([{"payment": payment, "amount": 1}] * 100)

    assert by_status(replies) == {201: 50, 422: 50}
    await crowd.settled()
    seen = await crowd.shop.payment(payment)
    assert (seen["held"], seen["refunded"], seen["available"]) == (0, 50, 0)
    assert len(crowd.shop.executions()) == 50


async def test_a_hundred_clients_at_one_payment_never_get_more_than_it_has(
    crowd: Crowd,
) -> None:  # INV-01, INV-20, INC-45, hyperswitch#13182
    """Refunds, repetitions and cancels of all sizes, through two processes."""
    shop, chance = crowd.shop, random.Random(25)  # noqa: S311 - the same crowd each time
    captured = 5000
    payment = await shop.pay(captured)
    most_promised, watching = 0, True

    async def watch() -> None:
        nonlocal most_promised
        while watching:
            seen = await shop.payment(payment)
            most_promised = max(most_promised, seen["held"] + seen["refunded"])
            await asyncio.sleep(0.005)

    async def client(number: int) -> list[httpx.Response]:
        door, key = crowd.doors[number % 2], uuid4().hex
        ask = {"amount": chance.choice((1, 20, 90, 400, 1200)), "key": key}
        if number % 5 == 0:
            ask["metadata"] = {"sandbox": chance.choice(("lose_answer", "decline", "succeed"))}
        replies = [await shop.ask(payment, **ask, client=door)]
        if number % 3 == 0:
            replies.append(await shop.ask(payment, **ask, client=crowd.doors[(number + 1) % 2]))
        if number % 4 == 0 and replies[0].status_code == 201:
            canceled = await door.post(f"/v1/refunds/{replies[0].json()['id']}/cancel")
            assert canceled.status_code in {200, 409}, canceled.text
        return replies

    watcher = asyncio.create_task(watch())
    each = await asyncio.gather(*(client(number) for number in range(100)))
    watching = False
    await watcher

    assert captured * 0.5 < most_promised <= captured
    for replies in each:
        assert {reply.status_code for reply in replies} <= {201, 422}
        assert len({one["id"] for one in accepted(replies)}) <= 1
    refunds = {one["id"]: one for replies in each for one in accepted(replies)}
    for refund in refunds.values():
        await shop.client.post(f"/v1/refunds/{refund['id']}/refresh")
    await crowd.settled()
    paid = shop.executions()
    assert len({one["reference"] for one in paid}) == len(paid), "no refund was executed twice"
    seen = await shop.payment(payment)
    assert (seen["held"], seen["refunded"]) == (0, sum(one["amount"] for one in paid))
    assert seen["refunded"] <= captured
    ends = Counter([(await shop.see(refund))["status"] for refund in refunds.values()])
    assert ends["succeeded"] == len(paid)
    assert await shop.count("refunds") == len(refunds)
    await assert_promises_kept(shop.house)


async def test_fifty_at_once_under_one_key_are_one_refund(
    crowd: Crowd,
) -> None:  # IDM-07, INC-05, saleor/apps#2446
    payment, key = await crowd.shop.pay(), uuid4().hex

    replies = await crowd.ask_at_once([{"payment": payment, "amount": 1250, "key": key}] * 50)

    first = [
        reply for reply in replies if reply.status_code == 201 and "idempotency-replayed" not in reply.headers
    ]
    assert len(first) == 1
    for reply in replies:
        if reply.status_code == 409:
            assert problem(reply, 409, "idempotency-key-in-use")["retryable"] is True
            assert int(reply.headers["retry-after"]) >= 1
        else:
            assert (reply.status_code, reply.json()["id"]) == (201, first[0].json()["id"])
    await crowd.settled()
    assert (await crowd.shop.count("refunds"), await crowd.shop.count("idempotency_keys")) == (1, 1)
    assert (await crowd.shop.payment(payment))["refunded"] == 1250
    assert len(crowd.shop.executions()) == 1


async def test_two_bodies_at_once_under_one_key_are_one_refund(crowd: Crowd) -> None:  # IDM-03
    payment, key = await crowd.shop.pay(), uuid4().hex

    replies = await crowd.ask_at_once(
        [{"payment": payment, "amount": 100 + n, "key": key} for n in range(20)]
    )

    (made,) = accepted(replies)
    for reply in replies:
        if reply.status_code != 201:
            assert reply.json()["code"] in {"idempotency-key-reused", "idempotency-key-in-use"}, reply.text
    await crowd.settled()
    assert [paid["amount"] for paid in crowd.shop.executions()] == [made["amount"]]


async def test_twenty_keys_at_once_for_one_reference_are_one_refund(crowd: Crowd) -> None:  # IDM-40
    payment = await crowd.shop.pay()

    replies = await crowd.ask_at_once([{"payment": payment, "amount": 100, "reference": "RMA-1"}] * 20)

    (made,) = accepted(replies)
    for reply in replies:
        if reply.status_code != 201:
            assert problem(reply, 409, "reference-exists")["refund_id"] == made["id"]
    assert await crowd.shop.count("idempotency_keys") == 1, "what was refused keeps no key"
    await crowd.settled()
    assert [paid["amount"] for paid in crowd.shop.executions()] == [100]


async def test_legitimate_twins_are_two_refunds(crowd: Crowd) -> None:  # IDM-41, INC-06
    payment = await crowd.shop.pay(1000)

    replies = await crowd.ask_at_once([{"payment": payment, "amount": 400}] * 2)

    assert by_status(replies) == {201: 2}
    await crowd.settled()
    assert [paid["amount"] for paid in crowd.shop.executions()] == [400, 400]


async def test_one_capture_named_inline_by_fifty_at_once_is_registered_once(crowd: Crowd) -> None:
    inline = {"gateway_payment_id": f"pi_{uuid4().hex}", "captured": 100, "currency": "EUR"}

    async def ask(door: httpx.AsyncClient) -> httpx.Response:
        headers = {"Idempotency-Key": uuid4().hex}
        return await door.post("/v1/refunds", json={"payment": inline, "amount": 40}, headers=headers)

    replies = await asyncio.gather(*(ask(door) for door in crowd.doors * 25))

    assert by_status(list(replies)) == {201: 2, 422: 48}
    assert await crowd.shop.count("payments") == 1
    await crowd.settled()
    assert sum(paid["amount"] for paid in crowd.shop.executions()) == 80


async def test_where_a_balance_was_expected_one_of_ten_gets_it(crowd: Crowd) -> None:
    payment = await crowd.shop.pay(1000)

    replies = await crowd.ask_at_once([{"payment": payment, "amount": 100, "expected_available": 1000}] * 10)

    assert by_status(replies) == {201: 1, 412: 9}
    await crowd.settled()
    assert len(crowd.shop.executions()) == 1


async def test_the_rest_asked_for_by_ten_at_once_goes_to_one(crowd: Crowd) -> None:
    payment = await crowd.shop.pay(1000)

    replies = await crowd.ask_at_once([{"payment": payment}] * 10)

    assert by_status(replies) == {201: 1, 422: 9}
    assert {reply.json()["code"] for reply in replies if reply.status_code == 422} == {"nothing-available"}


# --- against a refund that is there ----------------------------------------------------------


async def test_a_failed_refund_tried_again_by_ten_at_once_is_tried_once(crowd: Crowd) -> None:
    shop = crowd.shop
    refund = await shop.refund(await shop.pay(), 1250, metadata={"sandbox": "decline"})
    await shop.stop_sends()  # or it may have failed anew before the last of them has come

    replies = await asyncio.gather(
        *(
            door.post(refund["links"]["retry"], headers={"Idempotency-Key": uuid4().hex})
            for door in crowd.doors * 5
        )
    )

    assert by_status(list(replies)) == {200: 1, 409: 9}
    await shop.resume_sends()
    seen = await shop.until(refund, "failed")
    assert (seen["generation"], seen["payment"]["held"]) == (2, 0)
    assert shop.sandbox.record(account=shop.remote)["counts"]["refund"] == 2


async def test_a_retry_and_new_refunds_at_once_do_not_share_the_rest(crowd: Crowd) -> None:
    shop = crowd.shop
    payment = await shop.pay(1000)
    failed = await shop.refund(payment, 600, metadata={"sandbox": "decline"})
    await shop.stop_sends()

    asked = [shop.ask(payment, 600, client=door) for door in crowd.doors * 3]
    retried, *replies = await asyncio.gather(crowd.doors[0].post(failed["links"]["retry"]), *asked)

    won = [reply for reply in (retried, *replies) if reply.status_code in {200, 201}]
    assert len(won) == 1
    await shop.resume_sends()
    await crowd.settled()
    assert sum(paid["amount"] for paid in shop.executions()) <= 600


async def test_ten_cancels_at_once_give_the_hold_back_once(crowd: Crowd) -> None:
    shop = crowd.shop
    await shop.stop_sends()
    payment = await shop.pay(1000)
    refund = (await shop.ask(payment, 600)).json()

    replies = await asyncio.gather(*(door.post(refund["links"]["cancel"]) for door in crowd.doors * 5))

    assert by_status(list(replies)) == {200: 1, 409: 9}
    seen = await shop.payment(payment)
    assert (seen["held"], seen["available"]) == (0, 1000)


@pytest.mark.parametrize("round_", range(3))
async def test_a_cancel_against_the_worker_either_stops_it_or_comes_too_late(
    crowd: Crowd, round_: int
) -> None:  # CON-09
    shop, chance = crowd.shop, random.Random(round_)  # noqa: S311 - the same pauses each time
    payment = await shop.pay(100_000)

    async def round_of_one(pause: float) -> tuple[int, dict[str, Any]]:
        reply = await shop.ask(payment, 1)  # the house that has the worker, which begins at once
        await asyncio.sleep(pause)
        canceled = await crowd.doors[0].post(f"/v1/refunds/{reply.json()['id']}/cancel")
        return canceled.status_code, reply.json()

    seen: Counter[int] = Counter()
    for _ in range(12):
        for status, refund in await asyncio.gather(
            *(round_of_one(chance.uniform(0, 0.02)) for _ in range(5))
        ):
            seen[status] += 1
            end = await shop.until(refund, "canceled", "succeeded")
            paid = shop.executions(reference=(await attempt_key(shop, refund)) or "never sent")
            assert (status, end["status"], len(paid)) in {(200, "canceled", 0), (409, "succeeded", 1)}
    assert set(seen) <= {200, 409}
    await crowd.settled()
    assert (await shop.payment(payment))["refunded"] == len(shop.executions()) == seen[409]


async def attempt_key(shop: Shop, refund: dict[str, Any]) -> str | None:
    attempts = (await shop.get(f"/v1/refunds/{refund['id']}/attempts"))["data"]
    return attempts[0]["key"] if attempts else None


# --- workers ---------------------------------------------------------------------------------


async def test_two_workers_send_each_refund_once(crowd: Crowd, sandbox: Sandbox) -> None:  # FLT-21, INC-05
    shop = crowd.shop
    second = await shop.house.start_worker()
    try:
        payment = await shop.pay()
        replies = await crowd.ask_at_once([{"payment": payment, "amount": 1}] * 100)
        assert by_status(replies) == {201: 100}
        await crowd.settled()
    finally:
        second.stop()

    counts = sandbox.record(account=shop.remote)["counts"]
    assert (counts["refund"], counts["executions"], counts["look_up"]) == (100, 100, 0)
