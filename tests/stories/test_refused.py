"""Refused by the gateway: nobody is told that money went back, and no sum says so."""

from __future__ import annotations

from typing import Any

import pytest
from clockwork import Clock
from house import Shop


async def told_of(shop: Shop, refund: dict[str, Any]) -> list[str]:
    events = (await shop.get("/v1/events", limit=100))["data"]
    return [event["type"] for event in events if event["data"].get("refund_id") == refund["id"]]


async def test_what_the_gateway_refuses_is_never_told_as_given_back(  # INC-48, adyen-magento#524, woocommerce-gateway-stripe#1523
    clock: Clock, till: Shop
) -> None:
    payment = await till.pay(5990, order={"id": "A-1"})
    refund = await till.refund(payment, 1250, metadata={"sandbox": "insufficient_funds"})
    await clock.turn(days=1)

    seen = await till.see(refund)
    assert (seen["status"], seen["outcome"]) == ("failed", "failed")
    assert seen["failure"]["merchant_text"]
    assert await told_of(till, refund) == ["refund.created", "refund.processing", "refund.failed"]
    assert (await till.payment(payment))["refunded"] == (await till.get("/v1/orders/A-1"))["refunded"] == 0
    assert till.executions() == []


async def test_before_the_gateway_has_said_yes_nothing_is_told_as_given_back(  # INC-48, adyen-magento#524
    clock: Clock, till: Shop
) -> None:
    payment = await till.pay(5990, order={"id": "A-1"})
    refund = await till.refund(payment, 1250, metadata={"sandbox": "lose_answer"})
    assert await told_of(till, refund) == ["refund.created", "refund.processing", "refund.unknown"]
    assert (await till.get("/v1/orders/A-1"))["refunded"] == 0

    await clock.turn(seconds=17)

    assert (await told_of(till, refund))[-1] == "refund.succeeded"
    assert (await till.get("/v1/orders/A-1"))["refunded"] == 1250


async def test_no_sum_counts_what_failed_or_was_stopped(clock: Clock, till: Shop) -> None:  # INC-50
    payment = await till.pay(5990, order={"id": "A-1"})
    await till.refund(payment, 1000)
    await till.refund(payment, 200, metadata={"sandbox": "decline"})
    await till.stop_sends()
    stopped = (await till.ask(payment, 30)).json()
    assert (await till.client.post(stopped["links"]["cancel"])).status_code == 200
    await till.ask(payment, 4)

    for told in (await till.payment(payment), await till.get("/v1/orders/A-1")):
        assert (told["refunded"], told["held"], told["available"]) == (1000, 4, 4986)
    by_outcome = {
        outcome: [row["amount"] for row in (await till.get("/v1/refunds", outcome=outcome))["data"]]
        for outcome in ("succeeded", "failed", "stopped", "open")
    }
    assert by_outcome == {"succeeded": [1000], "failed": [200], "stopped": [30], "open": [4]}


@pytest.mark.parametrize("again", ["the same key", "another key"])
async def test_a_gateway_that_only_says_that_it_has_it_gets_it_once(  # adyen-shopware6#248
    clock: Clock, till: Shop, again: str
) -> None:
    payment, asked = await till.pay(2000), {"amount": 1250, "metadata": {"sandbox": "pend"}}
    refund = (await till.ask(payment, key="first", **asked)).json()
    await clock.work()
    assert (await till.see(refund))["status"] == "processing"

    twice = await till.ask(payment, key="first" if again == "the same key" else "second", **asked)
    await clock.turn(minutes=10)

    if again == "the same key":
        assert (twice.status_code, twice.json()["id"]) == (201, refund["id"])
    else:
        assert (twice.status_code, twice.json()["available"]) == (422, 750)
    assert till.sandbox.record(account=till.remote)["counts"]["refund"] == 1
