"""What a merchant's policy allows, what it refuses, and how both are explained, over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from house import Shop
from over_http import problem, wrong

DEFAULT = {"max_age_days": 365, "max_amount": None, "reasons": None}


async def publish(shop: Shop, key: str = "", **rules: Any) -> dict[str, Any]:
    """Put rules in force; the policy as answered."""
    headers = {"Idempotency-Key": key} if key else {}
    reply = await shop.client.post("/v1/policies", json={"rules": rules}, headers=headers)
    assert reply.status_code == 201, reply.text
    told: dict[str, Any] = reply.json()
    return told


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


async def test_who_has_published_nothing_has_the_built_in_policy(shop: Shop) -> None:
    assert await shop.get("/v1/policies/current") == {
        "id": "policy-0",
        "version": 0,
        "rules": DEFAULT,
        "published_by": None,
        "published_at": None,
    }


async def test_a_policy_is_published_as_the_next_version(shop: Shop) -> None:
    first = await publish(
        shop, "one", max_age_days=30, max_amount={"EUR": 5000, "JPY": 9000}, reasons=["damaged"]
    )
    assert (first["id"], first["version"], first["published_by"]) == ("policy-1", 1, "tester")
    assert first["rules"] == {
        "max_age_days": 30,
        "max_amount": {"EUR": 5000, "JPY": 9000},
        "reasons": ["damaged"],
    }
    assert await shop.get("/v1/policies/current") == first

    second = await publish(shop, max_age_days=None)
    assert (second["version"], second["rules"]) == (2, DEFAULT | {"max_age_days": None})
    assert await shop.count("policies") == 2
    events = (await shop.get("/v1/events", limit=100))["data"]
    told = [event["data"] for event in events if event["type"] == "policy.published"]
    assert [each["version"] for each in told] == [1, 2]


async def test_a_publication_is_replayed_under_its_key(shop: Shop) -> None:
    await publish(shop, "one", max_age_days=30)
    body = {"rules": {"max_age_days": 30}}
    again = await shop.client.post("/v1/policies", json=body, headers={"Idempotency-Key": "one"})
    other = await shop.client.post("/v1/policies", json={"rules": {}}, headers={"Idempotency-Key": "one"})

    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.json()["version"] == 1
    problem(other, 422, "idempotency-key-reused")
    assert await shop.count("policies") == 1


async def test_policies_published_at_once_all_stand_one_after_the_other(shop: Shop) -> None:
    replies = await asyncio.gather(
        *(shop.client.post("/v1/policies", json={"rules": {"max_age_days": n}}) for n in range(1, 4))
    )
    assert [reply.status_code for reply in replies] == [201] * 3
    assert (await shop.get("/v1/policies/current"))["version"] == 3 == await shop.count("policies")


@pytest.mark.parametrize(
    ("rules", "pointer"),
    [
        ({"max_age_days": -1}, "/rules/max_age_days"),
        ({"max_age_days": 36_501}, "/rules/max_age_days"),
        ({"max_age_days": "30"}, "/rules/max_age_days"),
        ({"max_age_days": 1.5}, "/rules/max_age_days"),
        ({"max_age_days": True}, "/rules/max_age_days"),
        ({"max_amount": {"EUR": 0}}, "/rules/max_amount/EUR"),
        ({"max_amount": {"EUR": 10**12}}, "/rules/max_amount/EUR"),
        ({"max_amount": {"XXX": 1}}, "/rules/max_amount/XXX"),
        ({"max_amount": 5000}, "/rules/max_amount"),
        ({"reasons": "damaged"}, "/rules/reasons"),
        ({"reasons": ["Damaged!"]}, "/rules/reasons/0"),
        ({"reasons": ["__import__('os')"]}, "/rules/reasons/0"),
        ({"reasons": [f"r{n}" for n in range(101)]}, "/rules/reasons"),
        ({"script": "1+1"}, "/rules/script"),
    ],
)
async def test_a_policy_is_data_and_its_mistakes_are_named(shop: Shop, rules: Any, pointer: str) -> None:
    reply = await shop.client.post("/v1/policies", json={"rules": rules})

    assert list(wrong(reply)) == [pointer]
    assert (await shop.get("/v1/policies/current"))["version"] == 0


# -- refused


async def test_a_refused_request_is_written_down_explained_and_replayed(shop: Shop) -> None:
    await publish(shop, max_amount={"EUR": 5000})
    payment = await shop.pay(5990)
    jobs = await shop.count("jobs")

    refused = await shop.ask(payment, 5001, key="too-much")

    told = problem(refused, 422, "refund-refused")
    assert (told["rule"], told["retryable"]) == ("max_amount", False)
    assert told["explanation"] == "50.01 EUR is asked; 50.00 is the largest allowed."
    assert told["detail"] == told["explanation"]
    assert told["links"]["decision"] == f"/v1/decisions/{told['decision_id']}"
    assert "idempotency-replayed" not in refused.headers
    # Nothing is held, nothing will be sent.
    assert (await shop.payment(payment))["available"] == 5990
    assert await shop.count("refunds") == await shop.count("refund_transitions") == 0
    assert await shop.count("jobs") == jobs

    again = await shop.ask(payment, 5001, key="too-much")
    replayed = problem(again, 422, "refund-refused")
    assert again.headers["idempotency-replayed"] == "true"
    assert replayed | {"request_id": ""} == told | {"request_id": ""}
    problem(await shop.ask(payment, 5000, key="too-much"), 422, "idempotency-key-reused")
    assert await shop.count("decisions") == 1

    (event,) = [
        event
        for event in (await shop.get("/v1/events", limit=100))["data"]
        if event["type"] == "refund.refused"
    ]
    assert event["data"] == {
        "decision_id": told["decision_id"],
        "payment_id": payment["id"],
        "order_id": None,
        "rule": "max_amount",
    }


async def test_a_refusal_stays_what_it_was_whatever_is_published_later(shop: Shop) -> None:
    await publish(shop, max_amount={"EUR": 5000})
    payment = await shop.pay(5990)
    told = problem(await shop.ask(payment, 5001, key="too-much"), 422, "refund-refused")

    await publish(shop, max_age_days=None)

    assert (
        problem(await shop.ask(payment, 5001, key="too-much"), 422, "refund-refused")["rule"] == "max_amount"
    )
    assert (await shop.get(told["links"]["decision"]))["policy_version"] == 1
    assert (await shop.refund(payment, 5001))["decision"]["policy_version"] == 2


async def test_a_decision_tells_every_rule_that_was_tried(shop: Shop) -> None:
    await publish(shop, max_age_days=30, max_amount={"EUR": 5000}, reasons=["damaged", "returned"])
    payment = await shop.pay(5990, captured_at=days_ago(40.5))

    told = problem(await shop.ask(payment, 5001, reason="damaged"), 422, "refund-refused")
    decision = await shop.get(told["links"]["decision"])

    assert (decision["id"], decision["outcome"], decision["rule"]) == (
        told["decision_id"],
        "refused",
        "max_age_days",
    )
    assert (decision["payment_id"], decision["refund_id"]) == (payment["id"], None)
    assert (decision["policy_version"], decision["decided_for"]) == (1, "tester")
    assert decision["facts"] == {"amount": 5001, "currency": "EUR", "age_days": 40, "reason": "damaged"}
    assert decision["trace"] == [
        {
            "rule": "max_age_days",
            "limit": 30,
            "found": 40,
            "passed": False,
            "sentence": "The payment was captured 40 days ago; 30 are allowed.",
        },
        {
            "rule": "max_amount",
            "limit": 5000,
            "found": 5001,
            "passed": False,
            "sentence": "50.01 EUR is asked; 50.00 is the largest allowed.",
        },
        {
            "rule": "reasons",
            "limit": ["damaged", "returned"],
            "found": "damaged",
            "passed": True,
            "sentence": "The reason is damaged; accepted are damaged, returned.",
        },
    ]
    assert decision["explanation"] == decision["trace"][0]["sentence"]


async def test_an_allowed_refund_has_its_decision_too(shop: Shop) -> None:
    refund = await shop.refund(await shop.pay(5990), 1250)

    decision = await shop.get(refund["links"]["decision"])

    assert (decision["outcome"], decision["rule"], decision["policy_version"]) == ("allowed", "default", 0)
    assert (decision["refund_id"], decision["payment_id"]) == (refund["id"], refund["payment"]["id"])
    assert [(check["rule"], check["passed"]) for check in decision["trace"]] == [("max_age_days", True)]
    assert decision["facts"]["amount"] == 1250


async def test_a_new_payment_is_registered_even_where_its_refund_is_refused(shop: Shop) -> None:
    await publish(shop, reasons=["damaged"])
    inline = {"gateway_payment_id": "pi_1", "captured": 5990, "currency": "EUR", "order_id": "A-7"}
    body = {"payment": inline, "amount": 1250, "reason": "goodwill"}

    refused = await shop.client.post("/v1/refunds", json=body, headers={"Idempotency-Key": "one"})

    assert problem(refused, 422, "refund-refused")["rule"] == "reasons"
    (payment,) = (await shop.get("/v1/payments", order_id="A-7"))["data"]
    assert (payment["held"], payment["available"]) == (0, 5990)
    again = await shop.client.post("/v1/refunds", json=body, headers={"Idempotency-Key": "one"})
    assert again.headers["idempotency-replayed"] == "true"
    reply = await shop.client.post(
        "/v1/refunds", json=body | {"reason": "damaged"}, headers={"Idempotency-Key": "two"}
    )
    assert reply.status_code == 201
    assert await shop.count("payments") == 1


# -- both sides of each rule


@pytest.mark.parametrize(
    ("limit", "age", "allowed"),
    [
        (365, 365.9, True),
        (365, 366, False),
        (0, 0.9, True),
        (0, 1, False),
        (0, -0.002, True),
        (None, 5000, True),
    ],
)
async def test_the_age_of_a_payment_is_counted_in_whole_days(
    shop: Shop, limit: int | None, age: float, allowed: bool
) -> None:
    if limit != 365:
        await publish(shop, max_age_days=limit)
    payment = await shop.pay(100, captured_at=days_ago(age))

    reply = await shop.ask(payment, 1)

    assert reply.status_code == (201 if allowed else 422)
    if not allowed:
        assert problem(reply, 422, "refund-refused")["rule"] == "max_age_days"


async def test_the_largest_amount_holds_for_its_currency_only(shop: Shop) -> None:
    await publish(shop, max_amount={"EUR": 5000})
    euro, dollar = await shop.pay(5990, "EUR"), await shop.pay(5990, "USD")

    assert (await shop.ask(euro, 5000)).status_code == 201
    problem(await shop.ask(await shop.pay(5990), 5001), 422, "refund-refused")
    assert (await shop.ask(dollar, 5990)).status_code == 201


async def test_the_whole_rest_is_weighed_as_what_it_is(shop: Shop) -> None:
    await publish(shop, max_amount={"EUR": 5000})
    problem(await shop.ask(await shop.pay(5001)), 422, "refund-refused")
    assert (await shop.ask(await shop.pay(5000))).json()["amount"] == 5000


async def test_what_no_policy_can_allow_is_not_decided(shop: Shop) -> None:
    await publish(shop, max_amount={"EUR": 10})
    payment = await shop.pay(100)
    problem(await shop.ask(payment, 101), 422, "amount-exceeds-available")
    problem(await shop.ask(payment, 50, expected_available=99), 412, "available-changed")
    problem(await shop.ask(payment, 50, currency="USD"), 422, "currency-differs")
    problem(await shop.ask(payment, 50, reason="unheard_of"), 422, "reason-unknown")
    assert await shop.count("decisions") == 0


# -- reasons


async def test_reasons_have_sensible_defaults(shop: Shop) -> None:
    listed = (await shop.get("/v1/reasons"))["data"]

    codes = [reason["code"] for reason in listed]
    assert codes == sorted(codes)
    assert {"customer_request", "damaged", "duplicate", "goodwill", "returned", "withdrawal"} <= set(codes)
    assert all(reason["active"] and reason["title"] for reason in listed)
    payment = await shop.pay(5990)
    for code in codes:
        assert (await shop.ask(payment, 1, reason=code)).json()["reason"] == code
    assert (await shop.ask(payment, 1)).json()["reason"] == "customer_request"


async def test_a_reason_is_added_renamed_and_switched_off(shop: Shop) -> None:
    payment = await shop.pay(5990)
    told = problem(await shop.ask(payment, 1, reason="moth_holes"), 422, "reason-unknown")
    assert told["reason"] == "moth_holes"

    async def put(code: str, **body: Any) -> dict[str, Any]:
        reply = await shop.client.put(f"/v1/reasons/{code}", json=body)
        assert reply.status_code == 200, reply.text
        known = {reason["code"]: reason for reason in (await shop.get("/v1/reasons"))["data"]}
        assert known[code] == reply.json()
        return known[code]

    assert await put("moth_holes", title="Moths") == {"code": "moth_holes", "title": "Moths", "active": True}
    refund = (await shop.ask(payment, 1, reason="moth_holes", key="moths")).json()
    assert (await put("moth_holes", title="Eaten by moths"))["title"] == "Eaten by moths"
    await put("moth_holes", title="Eaten by moths", active=False)
    await put("goodwill", title="Not here", active=False)
    for code in ("moth_holes", "goodwill"):
        problem(await shop.ask(payment, 1, reason=code), 422, "reason-unknown")
    # Refunds that have it keep it, and a replay is no new request.
    assert (await shop.see(refund))["reason"] == "moth_holes"
    assert (await shop.ask(payment, 1, reason="moth_holes", key="moths")).status_code == 201
    await put("goodwill", title="Goodwill again", active=True)
    assert (await shop.ask(payment, 1, reason="goodwill")).status_code == 201
    assert await shop.count("reasons") == 2


async def test_a_reasons_code_is_a_word_and_its_title_a_line(shop: Shop) -> None:
    for code in ("Damaged", "1st", "a-b", "a b", "ä", "a" * 65, "_a"):
        reply = await shop.client.put(f"/v1/reasons/{code}", json={"title": "x"})
        problem(reply, 404, "not-found")
    for body, pointer in (
        ({}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": "a\nb"}, "/title"),
        ({"title": "x", "active": 1}, "/active"),
        ({"title": "x", "code": "other"}, "/code"),
    ):
        assert list(wrong(await shop.client.put("/v1/reasons/odd", json=body))) == [pointer]
    assert await shop.count("reasons") == 0
    longest = "a" * 64
    assert (await shop.client.put(f"/v1/reasons/{longest}", json={"title": "x" * 200})).status_code == 200
    refund = await shop.ask(await shop.pay(100), 1, reason=longest, key=uuid4().hex)
    assert refund.json()["reason"] == longest
