"""Captures and orders: told once, named in every way, shown with what is left of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from house import Shop
from over_http import problem, wrong
from sandbox_fixture import TOKEN
from sqlalchemy import text

from refund_service.clock import utc_now
from refund_service.gateways.accounts import NewAccount, add_account


async def ask(shop: Shop, key: str = "", **body: Any) -> httpx.Response:
    """Ask for a refund with exactly these members, and wait for what comes of it."""
    headers = {"Idempotency-Key": key or uuid4().hex, "Prefer": "wait=10"}
    return await shop.client.post("/v1/refunds", json=body, headers=headers)


async def register(shop: Shop, **body: Any) -> httpx.Response:
    return await shop.client.post("/v1/payments", json=body)


async def second_account(shop: Shop, name: str = "second") -> str:
    """Another account of the merchant at the sandbox; its remote name."""
    parts, remote = shop.house.parts, shop.sandbox.new_account()
    new = NewAccount(name, "sandbox", remote, shop.sandbox.base_url, {"token": TOKEN}, {})
    await add_account(parts.db, parts.keyring, shop.merchant_id, new, now=utc_now())
    return remote


PI = {"gateway_payment_id": "pi_1", "captured": 5990, "currency": "EUR"}


# -- the ways in


@pytest.mark.parametrize(
    "way", ["payment_id", "payment_reference", "gateway_payment_id", "order_id", "payment"]
)
async def test_a_refund_finds_its_payment_by_every_name(shop: Shop, way: str) -> None:
    payment = await shop.pay(5990, reference="P-1", order={"id": "A-1"}, gateway_payment_id="pi_1")
    other = await shop.pay(5990, reference="P-2", order={"id": "A-2"}, gateway_payment_id="pi_2")
    name: Any = {
        "payment_id": payment["id"],
        "payment_reference": "P-1",
        "gateway_payment_id": "pi_1",
        "order_id": "A-1",
        "payment": PI,
    }[way]

    reply = await ask(shop, amount=1250, **{way: name})

    told = reply.json()
    assert (reply.status_code, told["status"]) == (201, "succeeded")
    assert (told["payment"]["id"], told["order_id"]) == (payment["id"], "A-1")
    assert (await shop.payment(other))["refunded"] == 0
    assert [paid["payment"] for paid in shop.executions()] == ["pi_1"]
    assert await shop.count("payments") == 2


@pytest.mark.parametrize(
    ("way", "name", "code"),
    [
        ("payment_reference", "P-404", "payment-not-found"),
        ("gateway_payment_id", "pi_404", "payment-not-found"),
        ("order_id", "A-404", "order-not-found"),
    ],
)
async def test_a_name_of_nothing_is_not_found(shop: Shop, way: str, name: str, code: str) -> None:  # FRD-04
    await shop.pay(5990, reference="P-1", order={"id": "A-1"})
    problem(await ask(shop, amount=1, **{way: name}), 404, code)
    assert await shop.count("refunds") == await shop.count("idempotency_keys") == 0


async def test_a_payment_is_named_in_exactly_one_way(shop: Shop) -> None:
    payment = await shop.pay(5990, order={"id": "A-1"})
    assert wrong(await ask(shop, amount=1)) == {"": "payment-unnamed"}
    twice = await ask(shop, amount=1, payment_id=payment["id"], order_id="A-1")
    assert wrong(twice) == {"": "payment-named-twice"}
    assert wrong(await ask(shop, amount=1, payment_id=None)) == {"": "payment-unnamed"}
    for bad in ("pay_1", payment["id"].upper(), payment["id"].replace("pay_", "rf_"), 1):
        assert wrong(await ask(shop, amount=1, payment_id=bad)) == {"/payment_id": "not-an-id"}


async def test_an_order_with_several_refundable_payments_is_not_guessed_at(shop: Shop) -> None:
    first = await shop.pay(3000, order={"id": "A-1"})
    second = await shop.pay(2000, order={"id": "A-1"})

    told = problem(await ask(shop, order_id="A-1", amount=1000), 409, "payment-ambiguous")

    assert told["payments"] == [
        {"payment_id": first["id"], "gateway_account": "sandbox", "available": 3000, "currency": "EUR"},
        {"payment_id": second["id"], "gateway_account": "sandbox", "available": 2000, "currency": "EUR"},
    ]
    assert await shop.count("refunds") == await shop.count("idempotency_keys") == 0
    # Once one is used up, the other is meant.
    await shop.refund(first)
    reply = await ask(shop, order_id="A-1", amount=1000)
    assert reply.json()["payment"]["id"] == second["id"]
    # When nothing is left of any, that is what is said.
    await shop.refund(second)
    problem(await ask(shop, order_id="A-1"), 422, "nothing-available")
    problem(await ask(shop, order_id="A-1", amount=1), 422, "amount-exceeds-available")


async def test_a_gateway_account_tells_two_payments_of_one_name_apart(shop: Shop) -> None:
    remote = await second_account(shop)
    here = await shop.pay(5990, gateway_payment_id="pi_1", gateway_account="sandbox")
    there = await shop.pay(700, gateway_payment_id="pi_1", gateway_account="second")
    assert here["id"] != there["id"]

    ambiguous = problem(await ask(shop, gateway_payment_id="pi_1", amount=100), 409, "payment-ambiguous")
    assert {each["gateway_account"] for each in ambiguous["payments"]} == {"sandbox", "second"}
    reply = await ask(shop, gateway_payment_id="pi_1", gateway_account="second", amount=100)

    assert (reply.json()["payment"]["id"], reply.json()["gateway_account"]) == (there["id"], "second")
    assert [paid["amount"] for paid in shop.sandbox.executions(account=remote)] == [100]
    assert shop.executions() == []
    elsewhere = await ask(shop, gateway_payment_id="pi_1", gateway_account="third", amount=100)
    problem(elsewhere, 404, "payment-not-found")


async def test_which_account_is_asked_only_where_there_are_several(shop: Shop) -> None:
    await shop.pay(5990, gateway_payment_id="pi_1")
    problem(await register(shop, **PI | {"gateway_account": "second"}), 422, "gateway-account-unknown")
    await second_account(shop)

    told = problem(await register(shop, **PI | {"gateway_payment_id": "pi_2"}), 422, "gateway-account-needed")
    assert told["gateway_accounts"] == ["sandbox", "second"]
    inline = PI | {"gateway_payment_id": "pi_2"}
    problem(await ask(shop, payment=inline, amount=1), 422, "gateway-account-needed")
    # A payment that one account knows already needs no account.
    assert (await register(shop, **PI)).status_code == 200
    assert (await ask(shop, payment=PI, amount=1)).status_code == 201


# -- inline


async def test_a_new_payment_is_registered_with_its_refund(shop: Shop) -> None:
    inline = PI | {
        "order_id": "A-7",
        "already_refunded": 990,
        "captured_at": "2026-03-01T10:00:00Z",
        "customer": {"id": "c-1", "email": "ada@example.org"},
    }

    reply = await ask(shop, payment=inline, amount=1250, reason="damaged")

    told = reply.json()
    assert (reply.status_code, told["status"], told["order_id"]) == (201, "succeeded", "A-7")
    assert told["customer_id"] == "c-1"
    payment = await shop.get(told["links"]["payment"])
    assert (payment["captured"], payment["refunded"], payment["refunded_elsewhere"]) == (5990, 2240, 990)
    assert (payment["captured_at"], payment["available"]) == ("2026-03-01T10:00:00Z", 3750)
    assert (await shop.get("/v1/orders/A-7"))["refunds"][0]["id"] == told["id"]
    types = {event["type"] for event in (await shop.get("/v1/events", limit=100))["data"]}
    assert {"payment.registered", "refund.created", "refund.succeeded"} <= types


async def test_a_known_payment_told_inline_is_that_payment(shop: Shop) -> None:
    payment = await shop.pay(5990, gateway_payment_id="pi_1", order={"id": "A-7"})
    await shop.refund(payment, 1000)

    for inline in (PI, PI | {"order_id": "A-7"}):
        reply = await ask(shop, payment=inline, amount=1250)
        assert (reply.status_code, reply.json()["payment"]["id"]) == (201, payment["id"])
    problem(await ask(shop, payment=PI, amount=2491), 422, "amount-exceeds-available")
    assert await shop.count("payments") == 1
    assert (await shop.payment(payment))["refunded"] == 3500


@pytest.mark.parametrize(
    ("member", "other"),
    [("captured", 6000), ("currency", "USD"), ("already_refunded", 1)],
)
async def test_a_payment_that_contradicts_what_is_registered_is_refused_with_both(
    shop: Shop, member: str, other: object
) -> None:
    payment = await shop.pay(5990, gateway_payment_id="pi_1")
    known = {"captured": 5990, "currency": "EUR", "already_refunded": 0}

    for reply in (
        await register(shop, **PI | {member: other}),
        await ask(shop, payment=PI | {member: other}, amount=1),
    ):
        told = problem(reply, 409, "payment-exists")
        assert told["payment_id"] == payment["id"]
        assert (told["registered"][member], told["asked"][member]) == (known[member], other)
    assert (await shop.payment(payment))["held"] == 0
    assert await shop.count("payments") == 1
    assert await shop.count("refunds") == await shop.count("idempotency_keys") == 0


async def test_a_payment_under_two_orders_contradicts_itself(shop: Shop) -> None:
    await shop.pay(5990, gateway_payment_id="pi_1", order={"id": "A-1"})

    told = problem(await ask(shop, payment=PI | {"order_id": "A-2"}, amount=1), 409, "payment-exists")

    assert (told["registered"]["order_id"], told["asked"]["order_id"]) == ("A-1", "A-2")
    assert await shop.count("orders") == 1
    # Told with two orders at once it cannot be right at all.
    both = PI | {"order_id": "A-1", "order": {"id": "A-2"}}
    assert wrong(await ask(shop, payment=both, amount=1)) == {"/payment": "order-named-twice"}


async def test_more_cannot_have_gone_back_than_came_in(shop: Shop) -> None:
    told = problem(await register(shop, **PI | {"already_refunded": 5991}), 422, "payment-contradictory")
    assert (told["captured"], told["already_refunded"]) == (5990, 5991)
    for amount, status in ((5991, 422), (5990, 201)):
        reply = await register(shop, **PI | {"already_refunded": amount})
        assert reply.status_code == status
    assert reply.json()["available"] == 0
    inline = PI | {"gateway_payment_id": "pi_2", "already_refunded": 6000}
    assert (await ask(shop, payment=inline, amount=1)).status_code == 422
    assert await shop.count("payments") == 1


# -- registering


async def test_three_members_are_enough(shop: Shop) -> None:
    before = datetime.now(UTC)
    reply = await register(shop, **PI)

    told = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == told["links"]["self"] == f"/v1/payments/{told['id']}"
    assert datetime.fromisoformat(told["captured_at"]) - before < timedelta(minutes=1)
    assert (told["captured"], told["available"], told["available_decimal"]) == (5990, 5990, "59.90")
    assert (told["gateway_account"], told["gateway"], told["livemode"]) == ("sandbox", "sandbox", False)
    for member in ("method", "entity", "reference", "order_id", "customer_id"):
        assert told[member] is None
    assert await shop.payment(told) == told


async def test_everything_that_is_told_of_a_payment_is_shown(shop: Shop) -> None:
    body = PI | {
        "captured_at": "2026-03-01T12:00:00.123+01:00",
        "already_refunded": 90,
        "gateway_account": "sandbox",
        "method": "card",
        "entity": "shop-fr",
        "reference": "P-1",
        "metadata": {"cart": "c-17"},
        "customer": {"id": "c-1", "email": "ada@example.org", "name": "Ada", "locale": "fr-FR"},
        "order": {"id": "ORDER-1&2?"},
    }

    told = (await register(shop, **body)).json()

    assert {name: told[name] for name in ("method", "entity", "reference", "metadata")} == {
        name: body[name] for name in ("method", "entity", "reference", "metadata")
    }
    assert told["captured_at"] == "2026-03-01T11:00:00.123000Z"
    assert (told["customer_id"], told["order_id"]) == ("c-1", "ORDER-1&2?")
    assert told["links"]["order"] == "/v1/orders/ORDER-1%262%3F"
    assert "ada@example.org" not in str(told)
    refunds = await shop.client.get(told["links"]["refunds"])
    assert refunds.json()["data"] == []


async def test_the_same_payment_again_is_the_same_payment(shop: Shop) -> None:
    first = await register(shop, **PI)
    again = await register(shop, **PI)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in again.headers
    await shop.refund(first.json(), 1000)
    later = await register(shop, **PI | {"captured_at": "2020-01-01T00:00:00Z"})
    assert (later.status_code, later.json()["refunded"]) == (200, 1000)
    assert await shop.count("payments") == 1


async def test_a_reference_names_one_payment(shop: Shop) -> None:
    first = await shop.pay(100, reference="P-1")

    for reply in (
        await register(shop, **PI | {"reference": "P-1"}),
        await register(shop, **PI | {"reference": "P-1", "order": {"id": "A-9"}}),
    ):
        told = problem(reply, 409, "reference-exists")
        assert (told["reference"], told["payment_id"]) == ("P-1", first["id"])
    assert await shop.count("payments") == 1
    assert await shop.count("orders") == 0


async def test_a_customer_is_told_again_with_what_is_new(shop: Shop) -> None:
    await shop.pay(100, customer={"id": "c-1", "email": "ada@example.org", "name": "Ada"})
    await shop.pay(100, customer={"id": "c-1", "email": "ada@example.com"})

    row = await shop.house.parts.db.row(
        text("SELECT email, name, locale FROM customers WHERE merchant_id = :in_m"), m=shop.merchant_id
    )

    assert dict(row or {}) == {"email": "ada@example.com", "name": "Ada", "locale": None}
    assert await shop.count("customers") == 1


# -- orders

LINES = [
    {
        "id": "l-1",
        "kind": "product",
        "sku": "MUG-1",
        "name": "Mug",
        "quantity": 3,
        "unit_price": 1500,
        "tax": 718,
        "tags": ["ceramics"],
    },
    {"kind": "shipping", "name": "Parcel", "unit_price": 590, "total": 590},
    {"kind": "discount", "unit_price": -100},
    {"kind": "fee", "unit_price": 333, "quantity": 3, "total": 1000},
]


async def test_an_order_shows_its_lines_payments_and_refunds_with_their_sums(shop: Shop) -> None:
    order = {"id": "A-1", "country": "FR", "tags": ["gift"], "facts": {"express": True}, "lines": LINES}
    first = await shop.pay(5000, order=order, customer={"id": "c-1"})
    second = await shop.pay(990, order={"id": "A-1"}, already_refunded=90)
    await shop.pay(777, order={"id": "A-2"})
    given = await shop.refund(first, 1250)
    await shop.stop_sends()
    held = (await shop.ask(second, 400)).json()

    told = await shop.get("/v1/orders/A-1")

    assert told["internal_id"].startswith("ord_")
    assert (told["id"], told["currency"], told["country"]) == ("A-1", "EUR", "FR")
    assert (told["customer_id"], told["tags"], told["facts"]) == ("c-1", ["gift"], {"express": True})
    assert [line["position"] for line in told["lines"]] == [1, 2, 3, 4]
    assert [line["total"] for line in told["lines"]] == [4500, 590, -100, 1000]
    assert told["lines"][0] == {
        "position": 1,
        "line_id": "l-1",
        "kind": "product",
        "sku": "MUG-1",
        "name": "Mug",
        "quantity": 3,
        "unit_price": 1500,
        "tax": 718,
        "total": 4500,
        "tags": ["ceramics"],
    }
    assert (told["captured"], told["held"], told["refunded"], told["available"]) == (5990, 400, 1340, 4250)
    assert [payment["id"] for payment in told["payments"]] == [second["id"], first["id"]]
    assert [refund["id"] for refund in told["refunds"]] == [held["id"], given["id"]]
    assert told["history"] == []
    # A later payment of a guest takes the order's customer.
    assert told["payments"][0]["customer_id"] == "c-1"
    problem(await shop.client.get("/v1/orders/A-3"), 404, "order-not-found")


async def test_facts_that_come_later_are_added_and_every_telling_is_kept(shop: Shop) -> None:
    await shop.pay(5990, order={"id": "A-1", "facts": {"fulfilled": False, "parcels": 1}})
    path = "/v1/orders/A-1"

    async def tell(**body: Any) -> dict[str, Any]:
        reply = await shop.client.patch(path, json=body, headers={"Refund-Actor": "warehouse"})
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        return told

    first = await tell(facts={"fulfilled": True, "delivered_on": "2026-03-04"})
    assert first["facts"] == {"fulfilled": True, "parcels": 1, "delivered_on": "2026-03-04"}
    second = await tell(facts={"parcels": None, "delivered_on": ""}, tags=["gift", "late"], country="DE")
    assert second["facts"] == {"fulfilled": True, "delivered_on": ""}
    third = await tell(tags=[])

    assert (third["tags"], third["country"], third["facts"]) == ([], "DE", second["facts"])
    assert [(told["version"], told["facts"], told["told_by"]) for told in third["history"]] == [
        (2, {"fulfilled": True, "delivered_on": "2026-03-04"}, "warehouse"),
        (3, {"parcels": None, "delivered_on": "", "tags": ["gift", "late"], "country": "DE"}, "warehouse"),
        (4, {"tags": []}, "warehouse"),
    ]
    assert await shop.get(path) == third
    events = [
        event
        for event in (await shop.get("/v1/events", limit=100))["data"]
        if event["type"] == "order.updated"
    ]
    assert [event["data"]["told"] for event in events] == [
        ["delivered_on", "fulfilled"],
        ["country", "delivered_on", "parcels", "tags"],
        ["tags"],
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"fact": {}}, "/fact"),
        ({"facts": {"k" * 41: 1}}, f"/facts/{'k' * 41}"),
        ({"facts": {"k": "v" * 501}}, "/facts/k"),
        ({"facts": {f"k{n}": n for n in range(51)}}, "/facts"),
        ({"country": "fr"}, "/country"),
        ({"country": "FRA"}, "/country"),
        ({"tags": ["x" * 65]}, "/tags/0"),
        ({"tags": [f"t{n}" for n in range(51)]}, "/tags"),
        ({"lines": []}, "/lines"),
        ({"currency": "USD"}, "/currency"),
    ],
)
async def test_only_facts_in_their_measure_are_taken(shop: Shop, body: Any, pointer: str) -> None:
    await shop.pay(5990, order={"id": "A-1"})

    assert list(wrong(await shop.client.patch("/v1/orders/A-1", json=body))) == [pointer]

    assert (await shop.get("/v1/orders/A-1"))["history"] == []


async def test_an_order_is_in_one_currency_and_has_its_lines_once(shop: Shop) -> None:
    await shop.pay(5990, gateway_payment_id="pi_1", order={"id": "A-1"})
    # Lines may come with a later payment, once; the same again is no contradiction.
    await shop.pay(10, order={"id": "A-1", "lines": LINES})
    await shop.pay(20, order={"id": "A-1", "lines": LINES})
    assert len((await shop.get("/v1/orders/A-1"))["lines"]) == 4

    new = {"gateway_payment_id": "pi_9", "captured": 100, "currency": "EUR"}
    other = [LINES[0] | {"quantity": 4}, *LINES[1:]]
    for body, member in (
        (new | {"currency": "USD", "order": {"id": "A-1"}}, "currency"),
        (new | {"order": {"id": "A-1", "lines": other}}, None),
        (new | {"order": {"id": "A-1", "lines": LINES[:3]}}, None),
    ):
        told = problem(await register(shop, **body), 409, "order-exists")
        assert told["registered"] != told["asked"]
        if member:
            assert (told["registered"], told["asked"]) == ({member: "EUR"}, {member: "USD"})
    assert await shop.count("payments") == 3
    assert len((await shop.get("/v1/orders/A-1"))["lines"]) == 4


async def test_an_orders_name_may_be_any_visible_text(shop: Shop) -> None:
    for name in ("A/1", "#1001", "a?b=c", "..", "%2F", "x" * 255):
        payment = await shop.pay(100, order={"id": name})
        (refunds, told) = (await shop.get("/v1/refunds", order_id=name), payment["order_id"])
        assert (refunds["data"], told) == ([], name)
        assert (await shop.get("/v1/payments", order_id=name))["data"][0]["id"] == payment["id"]
    for bad in ("", "A 1", "ä", "a\\b", "x" * 256, 1):
        assert list(wrong(await register(shop, **PI | {"order": {"id": bad}}))) == ["/order/id"]


@pytest.mark.parametrize("name", ["A-1", "#1001", "a?b=c", "100%", "a;b", "x" * 255, "2026/0001"])
async def test_the_link_to_an_order_leads_there(shop: Shop, name: str) -> None:
    payment = await shop.pay(100, order={"id": name})
    refund = await shop.refund(payment, 1)

    for linked in (payment, refund):
        assert (await shop.get(linked["links"]["order"]))["id"] == name
