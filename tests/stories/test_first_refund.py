"""The first refund, and the lost answer that is looked up: whole lives through HTTP, worker and sandbox."""

from __future__ import annotations

from house import House, Shop


async def test_a_refund_reaches_the_money(shop: Shop) -> None:
    payment = await shop.pay(5990)

    refund = await shop.refund(payment, 1250)

    assert refund["status"] == "succeeded"
    assert refund["payment"]["refunded"] == 1250
    assert refund["payment"]["held"] == 0
    assert [paid["amount"] for paid in shop.executions()] == [1250]


async def test_a_lost_answer_is_looked_up_and_found(
    own_house: House, own_shop: Shop
) -> None:  # UNK-01, IDM-14
    await own_house.start_worker()
    payment = await own_shop.pay(5990)

    refund = await own_shop.refund(payment, 1250, metadata={"sandbox": "lose_answer"})
    assert refund["status"] == "unknown"
    assert refund["payment"]["held"] == 1250

    await own_house.turn_clock(seconds=20)
    seen = await own_shop.until(refund, "succeeded")
    assert seen["payment"]["held"] == 0
    assert len(own_shop.executions()) == 1
