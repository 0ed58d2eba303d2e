"""Amounts and currencies as they may not be said: refused with a clear word, nothing written, never a 500."""

from __future__ import annotations

import json
from uuid import uuid4

import httpx
import pytest
from house import Shop
from over_http import problem, wrong

LARGEST = 999_999_999_999


async def ask_with(shop: Shop, payment_id: str, amount: str) -> httpx.Response:
    """Ask for a refund whose amount is written as these characters."""
    return await shop.client.post(
        "/v1/refunds",
        content=f'{{"payment_id":"{payment_id}","amount":{amount}}}',
        headers={"Content-Type": "application/json", "Idempotency-Key": uuid4().hex},
    )


async def pay_with(shop: Shop, amount: str, member: str = "captured") -> httpx.Response:
    """Register a payment with one of its members written as these characters."""
    told = {"gateway_payment_id": '"pi_1"', "captured": "100", "currency": '"EUR"'} | {member: amount}
    content = ",".join(f'"{name}":{value}' for name, value in told.items())
    return await shop.client.post(
        "/v1/payments", content=f"{{{content}}}", headers={"Content-Type": "application/json"}
    )


async def nothing_written(shop: Shop) -> None:
    assert await shop.count("refunds") == await shop.count("idempotency_keys") == 0
    assert all(payment["held"] == 0 for payment in (await shop.get("/v1/payments"))["data"])


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        pytest.param("true", "wrong-type", id="NUM-01 true"),
        pytest.param("false", "wrong-type", id="NUM-01 false"),
        pytest.param('"100"', "wrong-type", id="NUM-02 text"),
        pytest.param('" 100 "', "wrong-type", id="NUM-02 spaces"),
        pytest.param('"1_000"', "wrong-type", id="NUM-02 underscore"),
        pytest.param("100.0", "wrong-type", id="NUM-03 fraction"),
        pytest.param("1e2", "wrong-type", id="NUM-03 exponent"),
        pytest.param("1E2", "wrong-type", id="NUM-03 Exponent"),
        pytest.param("9223372036854775808", "too-large", id="NUM-05 2^63"),
        pytest.param("9007199254740993", "too-large", id="NUM-05 2^53+1"),
        pytest.param("1" + "0" * 30, "too-large", id="NUM-05 10^30"),
        pytest.param(str(LARGEST + 1), "too-large", id="NUM-05 one too many"),
        pytest.param(str(2**62), "too-large", id="SEC-09 2^62"),
        pytest.param("-0", "too-small", id="NUM-07 -0"),
        pytest.param("0", "too-small", id="NUM-07 0"),
        pytest.param("-1", "too-small", id="NUM-07 -1"),
        pytest.param("-9223372036854775808", "too-small", id="SEC-09 -2^63"),
        pytest.param("[1]", "wrong-type", id="a list"),
        pytest.param('{"value":1}', "wrong-type", id="an object"),
    ],
)
async def test_an_amount_is_a_whole_number_from_one_to_the_largest(  # NUM-01, NUM-02, NUM-03, NUM-05, NUM-07, SEC-09, INC-01, hyperswitch#11491
    shop: Shop, amount: str, code: str
) -> None:
    payment = await shop.pay(5990)

    assert wrong(await ask_with(shop, payment["id"], amount)) == {"/amount": code}
    assert wrong(await pay_with(shop, amount)) == {"/captured": code}
    if amount not in ("0", "-0"):
        assert wrong(await pay_with(shop, amount, "already_refunded")) == {"/already_refunded": code}
    await nothing_written(shop)
    assert await shop.count("payments") == 1


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
async def test_a_number_that_is_none_is_refused_and_never_said_back(  # NUM-04
    shop: Shop, amount: str
) -> None:
    payment = await shop.pay(5990)

    for refused in (await ask_with(shop, payment["id"], amount), await pay_with(shop, amount)):
        problem(refused, 422, "body-malformed")
        json.loads(refused.text, parse_constant=lambda word: pytest.fail(f"it says {word}"))
    await nothing_written(shop)


@pytest.mark.parametrize(
    "amount", ["1" * 5_000, "-" + "9" * 101, "1" * 5_000 + ".0", "01", "+1", "0x10", "1."]
)
async def test_a_number_that_json_does_not_know_or_bear_is_not_read(  # NUM-06
    shop: Shop, amount: str
) -> None:
    payment = await shop.pay(5990)

    problem(await ask_with(shop, payment["id"], amount), 400, "body-unreadable")
    problem(await pay_with(shop, amount), 400, "body-unreadable")
    await nothing_written(shop)


async def test_the_least_and_the_largest_amount_are_taken_exactly(shop: Shop) -> None:  # NUM-05, NUM-07
    payment = await shop.pay(LARGEST)
    assert (payment["captured"], payment["available_decimal"]) == (LARGEST, "9999999999.99")

    least = await shop.refund(payment, 1)
    rest = await shop.refund(payment, LARGEST - 1)

    assert (least["amount_decimal"], rest["amount_decimal"]) == ("0.01", "9999999999.98")
    assert rest["payment"] | {"id": "", "gateway_payment_id": ""} == {
        "id": "",
        "gateway_payment_id": "",
        "captured": LARGEST,
        "held": 0,
        "refunded": LARGEST,
        "disputed": 0,
        "available": 0,
    }
    assert [paid["amount"] for paid in shop.executions()] == [1, LARGEST - 1]


async def test_sums_do_not_wrap_around(shop: Shop) -> None:  # SEC-09
    payment = await shop.pay(LARGEST)
    await shop.refund(payment, LARGEST)
    problem(await shop.ask(payment, LARGEST), 422, "amount-exceeds-available")

    # A quantity and a price that each are allowed, and a product that no column holds.
    line = {"quantity": 10_000_000, "unit_price": LARGEST}
    for lines in ([line], [line | {"unit_price": -LARGEST}], [line | {"unit_price": 100_000}]):
        refused = await shop.client.post(
            "/v1/payments",
            json={
                "gateway_payment_id": "pi_1",
                "captured": 100,
                "currency": "EUR",
                "order": {"id": "A-1", "lines": lines},
            },
        )
        assert set(wrong(refused)) == {"/order/lines/0"}
    told = {"id": "A-1", "lines": [{"quantity": 9_999_999, "unit_price": 100_000}]}
    taken = await shop.pay(100, order=told)
    order = await shop.get(f"/v1/orders/{taken['order_id']}")
    assert order["lines"][0]["total"] == 999_999_900_000


@pytest.mark.parametrize(
    "currency", ["usd", "Usd", "US", "XXX", "USDT", "XTS", "XAU", "", " EUR", "€", "ZZZ", "978"]
)
async def test_a_currency_is_an_upper_case_code_that_money_is_in(shop: Shop, currency: str) -> None:  # NUM-11
    payment = await shop.pay(5990)
    inline = {"gateway_payment_id": "pi_1", "captured": 100, "currency": currency}

    registered = await shop.client.post("/v1/payments", json=inline)
    assert wrong(registered) == {"/currency": "currency-unknown"}
    assert wrong(await shop.ask(payment, 100, currency=currency)) == {"/currency": "currency-unknown"}
    asked = {"payment": inline, "amount": 10}
    refused = await shop.client.post("/v1/refunds", json=asked, headers={"Idempotency-Key": "one"})
    assert wrong(refused) == {"/payment/currency": "currency-unknown"}
    await nothing_written(shop)
    assert await shop.count("payments") == 1


async def test_money_goes_back_in_the_currency_it_came_in(shop: Shop) -> None:  # NUM-11, INC-19, FRD-08
    payment = await shop.pay(5990, "EUR")

    told = problem(await shop.ask(payment, 1250, currency="USD"), 422, "currency-differs")

    assert (told["captured_currency"], told["asked_currency"]) == ("EUR", "USD")
    await nothing_written(shop)
    assert (await shop.refund(payment, 1250, currency="EUR"))["currency"] == "EUR"
    assert [paid["currency"] for paid in shop.executions()] == ["EUR"]


@pytest.mark.parametrize(
    ("currency", "captured", "amount", "shown"),
    [
        ("JPY", 100_000, 500, "500"),
        ("JPY", 5800, 58, "58"),
        ("JPY", 5800, 5800, "5800"),
        ("HUF", 10_000, 1250, "12.50"),
        ("UGX", 10_000, 1250, "1250"),
        ("EUR", 10_000, 1250, "12.50"),
        ("KWD", 10_000, 1250, "1.250"),
        ("CLF", 10_000, 1250, "0.1250"),
    ],
)
async def test_an_amount_means_the_same_in_every_currency(  # NUM-10, FRD-08, INC-20, INC-21, INC-22
    shop: Shop, currency: str, captured: int, amount: int, shown: str
) -> None:
    payment = await shop.pay(captured, currency)

    refund = await shop.refund(payment, amount)

    assert (refund["amount"], refund["amount_decimal"], refund["currency"]) == (amount, shown, currency)
    left = captured - amount
    assert (refund["payment"]["refunded"], refund["payment"]["available"]) == (amount, left)
    assert [(paid["amount"], paid["currency"]) for paid in shop.executions()] == [(amount, currency)]


@pytest.mark.parametrize(
    ("currency", "amount"),
    [
        *(("JPY", told) for told in ("100.50", "100.0", '"100.50"')),
        *(("KWD", told) for told in ("1.2345", "1.250", '"1.250"')),
        *(("CLF", told) for told in ("0.1250", '"0.1250"')),
        *(("EUR", told) for told in ("12.50", '"12.50"', '"12,50"', '"17,000"')),
    ],
)
async def test_no_amount_is_told_in_the_units_that_people_read(  # NUM-10, INC-50
    shop: Shop, currency: str, amount: str
) -> None:
    payment = await shop.pay(10_000, currency)

    assert wrong(await ask_with(shop, payment["id"], amount)) == {"/amount": "wrong-type"}
    await nothing_written(shop)


@pytest.mark.parametrize(
    "amount", ["true", "1_000", " 100", "100.0", "1e2", "0", "-1", str(LARGEST + 1), "", "x"]
)
async def test_an_amount_to_look_for_is_as_strict(shop: Shop, amount: str) -> None:  # NUM-01, NUM-02, NUM-03
    refused = await shop.client.get("/v1/refunds", params={"amount": amount})

    assert list(wrong(refused)) == ["/amount"]


@pytest.mark.parametrize(
    ("member", "bad"),
    [
        ("quantity", 0),
        ("quantity", -1),
        ("quantity", 1.5),
        ("quantity", True),
        ("quantity", "2"),
        ("quantity", 10_000_001),
        ("unit_price", 10.5),
        ("unit_price", "10"),
        ("unit_price", LARGEST + 1),
        ("unit_price", -LARGEST - 1),
        ("tax", True),
        ("tax", LARGEST + 1),
        ("total", "1"),
        ("total", LARGEST + 1),
    ],
)
async def test_the_numbers_of_a_line_are_as_strict(  # NUM-01, NUM-05
    shop: Shop, member: str, bad: object
) -> None:
    refused = await shop.client.post(
        "/v1/payments",
        json={
            "gateway_payment_id": "pi_1",
            "captured": 100,
            "currency": "EUR",
            "order": {"id": "A-1", "lines": [{"unit_price": 100} | {member: bad}]},
        },
    )

    assert list(wrong(refused)) == [f"/order/lines/0/{member}"]
    assert await shop.count("orders") == await shop.count("payments") == 0


@pytest.mark.parametrize("fact", [10**12, -(10**12), 10**99, 1.5, [1], {"a": 1}])
async def test_a_fact_of_an_order_is_a_text_a_number_or_a_yes(shop: Shop, fact: object) -> None:  # NUM-05
    await shop.pay(100, order={"id": "A-1"})

    refused = await shop.client.patch("/v1/orders/A-1", json={"facts": {"weight": fact}})

    assert list(wrong(refused)) == ["/facts/weight"]
    assert (await shop.get("/v1/orders/A-1"))["facts"] == {}
