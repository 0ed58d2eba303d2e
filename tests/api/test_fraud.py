"""What a thief, or a mistake, would ask for: money for someone else, out of nothing, twice, or too early."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from house import Shop
from over_http import problem, wrong
from sqlalchemy import text

from refund_service import ids
from refund_service.clock import rfc3339

IBAN = "DE89370400440532013000"


async def post(shop: Shop, path: str, body: dict[str, Any]) -> httpx.Response:
    return await shop.client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})


async def dispute(shop: Shop, payment: dict[str, Any], amount: int) -> None:
    """As the gateway's notification of a dispute will record it, and of its end."""
    statement = text("UPDATE payments SET disputed = :amount WHERE id = :id")
    async with shop.house.parts.db.transaction() as tx:
        await tx.execute(statement, {"amount": amount, "id": ids.read("payment", payment["id"])})


# -- to whom


@pytest.mark.parametrize(
    "member", ["destination", "iban", "bank_account", "card", "payout_method", "instrument", "to", "email"]
)
async def test_no_one_can_say_where_the_money_goes(shop: Shop, member: str) -> None:  # FRD-01
    payment = await shop.pay(5990)

    assert wrong(await shop.ask(payment, 100, **{member: IBAN})) == {f"/{member}": "unknown-member"}
    assert await shop.count("refunds") == 0


async def test_an_account_smuggled_in_beside_a_refund_is_no_destination(shop: Shop) -> None:  # FRD-01
    smuggled = {"destination": IBAN, "iban": IBAN, "sandbox": "succeed"}
    told = {"channel": f"phone {IBAN}", "ticket": IBAN, "note": IBAN, "metadata": smuggled}
    refund = await shop.refund(await shop.pay(5990), 100, **told)

    statement = text("SELECT body FROM attempts WHERE refund_id = :in_id")
    sent = json.loads(await shop.house.parts.db.value(statement, id=ids.read("refund", refund["id"])))
    assert sent.pop("metadata") == smuggled, "to the gateway too they are words of the merchant's and no more"
    assert IBAN not in str(sent)
    assert set(sent) == {"payment", "amount", "currency", "reference"}
    assert sent["payment"] == refund["payment"]["gateway_payment_id"]


# -- out of what


async def test_no_refund_without_a_sale(shop: Shop, new_shop: Any) -> None:  # FRD-04
    theirs = await (await new_shop()).pay(5990)

    for payment_id in (ids.show("payment", ids.new_id()), theirs["id"]):
        problem(await shop.ask({"id": payment_id}, 100), 404, "payment-not-found")
    assert wrong(await shop.ask(None, 100)) == {"": "payment-unnamed"}
    assert await shop.count("refunds") == await shop.count("idempotency_keys") == 0


async def test_what_is_disputed_is_not_given_back_beside_the_dispute(shop: Shop) -> None:  # FRD-06
    payment = await shop.pay(5990)
    await dispute(shop, payment, 5000)

    told = problem(await shop.ask(payment, 991), 422, "amount-exceeds-available")
    assert (told["asked"], told["available"], told["disputed"]) == (991, 990, 5000)
    rest = await shop.refund(payment)
    assert (rest["amount"], rest["payment"]["disputed"], rest["payment"]["available"]) == (990, 5000, 0)
    assert problem(await shop.ask(payment), 422, "nothing-available")["disputed"] == 5000
    assert problem(await shop.ask(payment, 1), 422, "amount-exceeds-available")["available"] == 0

    await dispute(shop, payment, 0)  # won
    assert (await shop.refund(payment))["amount"] == 5000
    assert [paid["amount"] for paid in shop.executions()] == [990, 5000]


async def test_a_failed_refund_is_not_tried_again_beside_a_dispute(shop: Shop) -> None:  # FRD-06
    payment = await shop.pay(1000)
    failed = await shop.refund(payment, 600, metadata={"sandbox": "decline"})
    await dispute(shop, payment, 401)

    told = problem(await shop.client.post(failed["links"]["retry"]), 422, "amount-exceeds-available")

    assert (told["asked"], told["available"], told["disputed"]) == (600, 599, 401)
    await dispute(shop, payment, 400)
    again = await shop.client.post(failed["links"]["retry"])
    assert (again.status_code, again.json()["payment"]["held"]) == (200, 600)


# -- too early


async def test_what_has_not_come_in_does_not_go_back(shop: Shop) -> None:  # FRD-07
    inline = {"gateway_payment_id": "pi_1", "captured": 5990, "currency": "EUR"}
    ahead = rfc3339(datetime.now(UTC) + timedelta(minutes=6))

    for told in (inline | {"captured_at": ahead}, inline | {"captured_at": "2999-12-31T23:59:59Z"}):
        for path, body in (("/v1/payments", told), ("/v1/refunds", {"payment": told, "amount": 100})):
            refused = problem(await post(shop, path, body), 409, "payment-not-captured")
            assert refused["captured_at"].startswith(told["captured_at"][:19])
    only_authorised = inline | {"captured": 0}
    assert wrong(await post(shop, "/v1/payments", only_authorised)) == {"/captured": "too-small"}
    assert await shop.count("payments") == await shop.count("idempotency_keys") == 0


async def test_a_clock_that_is_a_little_ahead_keeps_no_one_from_a_refund(shop: Shop) -> None:  # FRD-07
    ahead = rfc3339(datetime.now(UTC) + timedelta(minutes=4))

    payment = await shop.pay(5990, captured_at=ahead)

    assert (await shop.refund(payment))["status"] == "succeeded"
