"""Asking for a refund in every way, and everything that may be done to it, over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from house import House, Shop
from over_http import problem, wrong
from sqlalchemy import text

from refund_service import ids


async def reversed_refund(shop: Shop, payment: dict[str, Any], amount: int) -> dict[str, Any]:
    """A refund that had succeeded, and whose money came back."""
    refund = await shop.refund(payment, amount, metadata={"sandbox": "fail_after_success:0.05"})
    async with asyncio.timeout(10):
        while refund["status"] != "reversed":
            assert refund["status"] == "succeeded", refund
            path = f"/v1/refunds/{refund['id']}/refresh"
            refund = (await shop.client.post(path, headers={"Prefer": "wait=1"})).json()
    return refund


def near(moment: str, expected: datetime) -> bool:
    return abs(datetime.fromisoformat(moment) - expected) < timedelta(minutes=1)


# -- how much


async def test_without_an_amount_the_whole_rest_goes_back(shop: Shop) -> None:
    payment = await shop.pay(5990)
    assert (await shop.refund(payment, 1250))["amount"] == 1250

    rest = await shop.refund(payment)

    assert (rest["amount"], rest["payment"]["available"]) == (4740, 0)
    told = problem(await shop.ask(payment), 422, "nothing-available")
    assert {name: told[name] for name in ("captured", "held", "refunded", "disputed", "available")} == {
        "captured": 5990,
        "held": 0,
        "refunded": 5990,
        "disputed": 0,
        "available": 0,
    }
    assert [paid["amount"] for paid in shop.executions()] == [1250, 4740]


async def test_more_than_is_available_is_refused_with_the_numbers(shop: Shop) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990)
    assert (await shop.ask(payment, 1000)).status_code == 201

    told = problem(await shop.ask(payment, 4991), 422, "amount-exceeds-available")

    assert (told["asked"], told["available"], told["held"], told["refunded"]) == (4991, 4990, 1000, 0)
    assert (told["captured"], told["currency"]) == (5990, "EUR")
    assert told["links"]["payment"] == f"/v1/payments/{payment['id']}"
    assert (await shop.ask(payment, 4990)).status_code == 201
    assert (await shop.payment(payment))["held"] == 5990


async def test_what_was_authorised_beyond_the_capture_is_not_there_to_refund(
    shop: Shop,
) -> None:  # INC-44, FRD-07
    # Authorised were 100; the merchant captured 40 and tells us of those.
    payment = await shop.pay(4000, metadata={"authorised": "10000"})

    told = problem(await shop.ask(payment, 5000), 422, "amount-exceeds-available")

    assert (told["asked"], told["captured"], told["available"]) == (5000, 4000, 4000)
    problem(await shop.ask(payment, 4001), 422, "amount-exceeds-available")
    assert (await shop.refund(payment, 4000))["status"] == "succeeded"
    assert [paid["amount"] for paid in shop.executions()] == [4000]


async def test_what_is_being_clarified_is_named_where_it_is_missing(shop: Shop) -> None:
    payment = await shop.pay(1000)
    lost = await shop.refund(payment, 600, metadata={"sandbox": "lose_answer"})
    assert lost["status"] == "unknown"

    told = problem(await shop.ask(payment, 600), 422, "amount-exceeds-available")

    assert told["in_clarification"] == [lost["id"]]
    assert "6.00" in told["detail"]


async def test_a_refund_may_depend_on_what_the_caller_saw(shop: Shop) -> None:
    payment = await shop.pay(5990)
    seen = payment["available"]

    for other in (seen - 1, seen + 1, 0):
        told = problem(await shop.ask(payment, 100, expected_available=other), 412, "available-changed")
        assert (told["available"], told["expected_available"]) == (5990, other)
    assert await shop.count("refunds") == 0

    first, second = await asyncio.gather(*(shop.ask(payment, 100, expected_available=seen) for _ in range(2)))
    assert sorted([first.status_code, second.status_code]) == [201, 412]
    assert (await shop.ask(payment, 100, expected_available=5890)).status_code == 201


async def test_an_expectation_holds_for_an_inline_payment_too(shop: Shop) -> None:
    inline = {"gateway_payment_id": "pi_1", "captured": 1000, "currency": "EUR", "already_refunded": 300}
    for available, status in ((1000, 412), (700, 201)):
        body = {"payment": inline, "amount": 100, "expected_available": available}
        headers = {"Idempotency-Key": uuid4().hex}
        reply = await shop.client.post("/v1/refunds", json=body, headers=headers)
        assert reply.status_code == status, reply.text
    assert reply.json()["payment"]["available"] == 600


# -- what is told with it


async def test_what_the_caller_tells_is_kept_and_shown(shop: Shop) -> None:
    payment = await shop.pay(5990, order={"id": "A-1"}, customer={"id": "c-1", "email": "ada@example.org"})
    told = {
        "reason": "damaged",
        "channel": "chat",
        "ticket": "T-2041",
        "reference": "RMA-1",
        "requested_at": "2026-03-01T12:00:00+01:00",
        "metadata": {"cart": "c-17"},
    }

    refund = await shop.refund(payment, 1250, note="Box was wet; see photos.", **told)

    assert {name: refund[name] for name in told} == told | {"requested_at": "2026-03-01T11:00:00Z"}
    assert (refund["order_id"], refund["customer_id"]) == ("A-1", "c-1")
    assert refund["links"]["order"] == "/v1/orders/A-1"
    assert (refund["livemode"], refund["requested_by"]) == (False, "tester")
    assert (refund["gateway_account"], refund["generation"]) == ("sandbox", 1)
    assert refund["decision"] | {"id": ""} == {
        "id": "",
        "outcome": "allowed",
        "rule": "default",
        "policy_version": 0,
    }
    assert refund["bank_reference"] == {
        "type": "arn",
        "value": f"arn_{refund['gateway_refund_id']}",
        "status": "available",
    }
    # The note is for the staff: it stands apart and in no answer and no event.
    row = await shop.house.parts.db.row(
        text("SELECT text, author, subject_kind FROM notes WHERE subject_id = :in_id"),
        id=ids.read("refund", refund["id"]),
    )
    assert dict(row or {}) == {
        "text": "Box was wet; see photos.",
        "author": "tester",
        "subject_kind": "refund",
    }
    events = (await shop.client.get(refund["links"]["events"])).text
    for personal in ("Box was wet", "ada@example.org"):
        assert personal not in events + str(refund)


@pytest.mark.parametrize(
    "way_in", ["payment_id", "payment_reference", "gateway_payment_id", "order_id", "payment"]
)
async def test_the_answer_is_the_refund_as_it_is_read_a_moment_later(shop: Shop, way_in: str) -> None:
    await shop.stop_sends()
    capture = {"gateway_payment_id": f"pi_{uuid4().hex}", "captured": 5990, "currency": "EUR"}
    order = {"order": {"id": f"A-{uuid4().hex}"}, "customer": {"id": "C-7"}}
    if way_in == "payment":
        named: dict[str, Any] = {"payment": capture | order}
    else:
        reference = f"capture-{uuid4().hex}"
        payment = await shop.pay(
            5990, **order, reference=reference, gateway_payment_id=capture["gateway_payment_id"]
        )
        assert (await shop.ask(payment, 40)).status_code == 201
        named = {
            "payment_id": {"payment_id": payment["id"]},
            "payment_reference": {"payment_reference": reference},
            "gateway_payment_id": {"gateway_payment_id": capture["gateway_payment_id"]},
            "order_id": {"order_id": order["order"]["id"]},
        }[way_in]
    asked = {
        "amount": 1250,
        "reason": "damaged",
        "note": "The lid was broken.",
        "channel": "chat",
        "ticket": "T-1",
        "reference": f"rma-{uuid4().hex}",
        "requested_at": "2026-01-02T03:04:05.678901Z",
        "execute_after": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        "metadata": {"cart": "c-17"},
    }

    reply = await shop.client.post(
        "/v1/refunds", json=named | asked, headers={"Idempotency-Key": uuid4().hex}
    )

    assert reply.status_code == 201, reply.text
    assert reply.json() == await shop.see(reply.json())
    assert reply.json()["order_id"] == order["order"]["id"]
    assert reply.json()["customer_id"] == "C-7"


@pytest.mark.parametrize("member", ["requested_at", "execute_after"])
@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("2026-03-01T12:00:00", "zone-missing"),
        ("2026-03-01", "wrong-format"),
        ("2026-02-30T12:00:00Z", "wrong-format"),
        ("yesterday", "wrong-format"),
        ("", "wrong-format"),
        (1772366400, "wrong-format"),
        (True, "wrong-format"),
    ],
)
async def test_a_time_has_its_zone(shop: Shop, member: str, moment: object, code: str) -> None:
    payment = await shop.pay(100)
    assert wrong(await shop.ask(payment, 1, **{member: moment})) == {f"/{member}": code}


async def test_a_member_that_is_not_known_is_refused(shop: Shop) -> None:
    payment = await shop.pay(100)
    assert wrong(await shop.ask(payment, 1, amuont=2)) == {"/amuont": "unknown-member"}
    assert wrong(await shop.ask(payment, 1, status="succeeded")) == {"/status": "unknown-member"}


async def test_nothing_is_sent_before_the_time_that_was_told(own_house: House, own_shop: Shop) -> None:
    await own_house.start_worker()
    payment = await own_shop.pay(5990)
    later = datetime.now(UTC) + timedelta(hours=1)
    told = later.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    waiting = await own_shop.refund(payment, 1250, execute_after=told, wait=0)
    at_once = await own_shop.refund(payment, 100)

    assert at_once["status"] == "succeeded"
    seen = await own_shop.see(waiting)
    assert (seen["status"], seen["payment"]["held"]) == ("queued", 1250)
    assert datetime.fromisoformat(seen["execute_after"]) == datetime.fromisoformat(told)
    assert near(seen["due_at"], later + timedelta(minutes=15))
    assert datetime.fromisoformat(seen["expected_by"]) > datetime.fromisoformat(at_once["expected_by"])
    assert len(own_shop.executions()) == 1

    # Not even when it is asked after.
    await own_shop.client.post(f"/v1/refunds/{waiting['id']}/refresh", headers={"Prefer": "wait=5"})
    assert (await own_shop.see(waiting))["status"] == "queued"
    await own_house.turn_clock(minutes=59)
    second = await own_shop.refund(payment, 100)
    assert (second["status"], (await own_shop.see(waiting))["status"]) == ("succeeded", "queued")
    await own_house.turn_clock(minutes=61)
    await own_shop.until(waiting, "succeeded")
    assert len(own_shop.executions()) == 3


async def test_a_time_that_has_passed_means_now(shop: Shop) -> None:
    payment = await shop.pay(100)
    refund = await shop.refund(payment, 1, execute_after="2020-01-01T00:00:00Z")
    assert refund["status"] == "succeeded"
    assert datetime.fromisoformat(refund["expected_by"]) > datetime.now(UTC)


# -- replaces


async def test_a_reversed_refund_is_made_good_by_a_new_one_that_names_it(shop: Shop) -> None:
    payment = await shop.pay(5990)
    gone = await reversed_refund(shop, payment, 1250)
    assert (gone["outcome"], gone["payment"]["refunded"], gone["payment"]["available"]) == ("failed", 0, 5990)
    assert "retry" not in gone["links"]
    problem(await shop.client.post(f"/v1/refunds/{gone['id']}/retry"), 409, "refund-not-in-status")

    good = await shop.refund(payment, 1250, replaces=gone["id"])

    assert (good["status"], good["replaces"]) == ("succeeded", gone["id"])
    assert (await shop.see(gone))["status"] == "reversed"


async def test_only_a_reversed_refund_of_the_same_payment_can_be_replaced(shop: Shop) -> None:
    payment, elsewhere = await shop.pay(5990), await shop.pay(5990)
    succeeded = await shop.refund(payment, 100)
    failed = await shop.refund(payment, 100, metadata={"sandbox": "decline"})
    gone = await reversed_refund(shop, elsewhere, 100)
    for refund, status in ((succeeded, "succeeded"), (failed, "failed"), (gone, "reversed")):
        told = problem(await shop.ask(payment, 100, replaces=refund["id"]), 422, "refund-not-replaceable")
        assert (told["replaces"], told["refund_status"]) == (refund["id"], status)
    assert wrong(await shop.ask(payment, 100, replaces="rf_1")) == {"/replaces": "not-an-id"}
    assert wrong(await shop.ask(payment, 100, replaces=payment["id"])) == {"/replaces": "not-an-id"}
    assert await shop.count("refunds") == 3


# -- Prefer: wait


async def test_without_waiting_the_answer_comes_at_once(shop: Shop) -> None:
    payment = await shop.pay(5990)
    reply = await shop.ask(payment, 100)

    assert (reply.json()["status"], reply.json()["outcome"]) == ("queued", "open")
    assert "preference-applied" not in reply.headers
    assert (await shop.until(reply.json(), "succeeded"))["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=5", "wait=5"),
        ("wait=20", "wait=20"),
        ("wait=21", "wait=20"),
        ("wait=99999999999999", "wait=20"),
        ("respond-async, wait=3", "wait=3"),
        ("Wait = 3", "wait=3"),
        ("wait=0", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=٣", None),
        ("wait", None),
        ("handling=lenient", None),
    ],
)
async def test_who_prefers_to_wait_is_told_for_how_long(shop: Shop, prefer: str, applied: str | None) -> None:
    payment = await shop.pay(5990)

    reply = await shop.client.post(
        "/v1/refunds",
        json={"payment_id": payment["id"], "amount": 100},
        headers=[(b"Prefer", prefer.encode()), (b"Idempotency-Key", b"one")],
    )

    assert (reply.status_code, reply.headers.get("preference-applied")) == (201, applied)
    assert reply.headers["location"] == f"/v1/refunds/{reply.json()['id']}"
    assert reply.json()["status"] == ("succeeded" if applied else "queued")


async def test_waiting_ends_when_its_time_is_up_and_costs_no_connection(shop: Shop) -> None:
    await shop.stop_sends()
    settings = shop.house.parts.settings
    many = settings.database_pool + 10
    payment = await shop.pay(5990)
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = [asyncio.create_task(shop.ask(payment, 1, wait=2)) for _ in range(many)]
    while await shop.count("refunds") < many:
        await asyncio.sleep(0.02)

    asked = loop.time()
    assert (await shop.payment(payment))["held"] == many
    assert loop.time() - asked < 0.5

    replies = await asyncio.gather(*waiting)
    assert loop.time() - began >= 2
    assert {(reply.status_code, reply.json()["status"]) for reply in replies} == {(201, "queued")}
    assert {reply.headers["preference-applied"] for reply in replies} == {"wait=2"}


# -- cancel


async def test_a_refund_that_was_not_sent_can_be_canceled(shop: Shop) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990)
    refund = (await shop.ask(payment, 1250)).json()
    assert refund["links"]["cancel"] == f"/v1/refunds/{refund['id']}/cancel"

    reply = await shop.client.post(refund["links"]["cancel"])

    told = reply.json()
    assert (reply.status_code, told["status"], told["outcome"]) == (200, "canceled", "stopped")
    assert (told["payment"]["held"], told["payment"]["available"]) == (0, 5990)
    assert told["finished_at"] is not None
    assert "cancel" not in told["links"]
    again = problem(await shop.client.post(refund["links"]["cancel"]), 409, "refund-not-in-status")
    assert again["refund_status"] == "canceled"
    assert set(again["allowed_from"]) == {"awaiting_approval", "queued"}
    await shop.resume_sends()
    assert (await shop.refund(payment, 5990))["status"] == "succeeded"
    assert [paid["amount"] for paid in shop.executions()] == [5990]


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [("succeed", "succeeded"), ("decline", "failed"), ("lose_answer", "unknown"), ("pend", "processing")],
)
async def test_a_refund_that_was_sent_cannot_be_canceled(shop: Shop, behaviour: str, status: str) -> None:
    payment = await shop.pay(5990)
    refund = await shop.refund(payment, 1250, metadata={"sandbox": behaviour}, wait=0)
    refund = await shop.until(refund, status)
    assert "cancel" not in refund["links"]

    refused = await shop.client.post(f"/v1/refunds/{refund['id']}/cancel")

    assert problem(refused, 409, "refund-not-in-status")["refund_status"] == status
    assert (await shop.see(refund))["status"] == status


# -- retry


async def test_a_failed_refund_is_tried_again_under_a_new_key(shop: Shop) -> None:
    payment = await shop.pay(5990)
    failed = await shop.refund(payment, 1250, metadata={"sandbox": "decline:insufficient_balance"})
    assert (failed["status"], failed["payment"]["held"]) == ("failed", 0)
    assert failed["failure"]["code"] == "insufficient_balance"
    assert failed["failure"]["retryable"] is True
    assert failed["failure"]["merchant_text"]
    assert failed["failure"]["customer_text"]
    patched = await shop.client.patch(f"/v1/refunds/{failed['id']}", json={"metadata": {}})
    assert patched.status_code == 200

    headers = {"Prefer": "wait=10", "Idempotency-Key": "retry-1"}
    reply = await shop.client.post(failed["links"]["retry"], headers=headers)

    told = reply.json()
    assert (reply.status_code, told["status"], told["generation"]) == (200, "succeeded", 2)
    assert (told["id"], told["failure"]) == (failed["id"], None)
    assert told["payment"]["refunded"] == 1250
    attempts = (await shop.client.get(told["links"]["attempts"])).json()["data"]
    assert [(each["generation"], each["state"]) for each in attempts] == [(1, "refused"), (2, "done")]
    assert attempts[0]["key"] != attempts[1]["key"]
    again = await shop.client.post(failed["links"]["retry"], headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert len(shop.executions()) == 1


async def test_a_retry_holds_anew_and_may_come_too_late(shop: Shop) -> None:
    payment = await shop.pay(1000)
    failed = await shop.refund(payment, 600, metadata={"sandbox": "decline"})
    taken = await shop.refund(payment, 401)
    assert taken["status"] == "succeeded"

    told = problem(await shop.client.post(failed["links"]["retry"]), 422, "amount-exceeds-available")

    assert (told["asked"], told["available"]) == (600, 599)
    assert (await shop.see(failed))["status"] == "failed"
    assert (await shop.payment(payment))["held"] == 0


async def test_only_a_failed_refund_is_tried_again(shop: Shop) -> None:
    refund = await shop.refund(await shop.pay(5990), 1250)
    assert "retry" not in refund["links"]

    told = problem(await shop.client.post(f"/v1/refunds/{refund['id']}/retry"), 409, "refund-not-in-status")

    assert (told["refund_status"], told["allowed_from"]) == ("succeeded", ["failed"])
    with_body = await shop.client.post(f"/v1/refunds/{refund['id']}/retry", json={"amount": 1})
    assert wrong(with_body) == {"": "unknown-member"}


# -- refresh, attempts, events, metadata


async def test_a_lost_answer_is_looked_up_at_once_when_asked_to(shop: Shop) -> None:
    payment = await shop.pay(5990)
    lost = await shop.refund(payment, 1250, metadata={"sandbox": "lose_answer"})
    assert (lost["status"], lost["outcome"]) == ("unknown", "open")

    reply = await shop.client.post(f"/v1/refunds/{lost['id']}/refresh", headers={"Prefer": "wait=5"})

    assert (reply.status_code, reply.json()["status"]) == (200, "succeeded")
    assert reply.headers["preference-applied"] == "wait=5"
    assert len(shop.executions()) == 1
    (attempt,) = (await shop.client.get(lost["links"]["attempts"])).json()["data"]
    assert [(call["kind"], call["result"]) for call in attempt["calls"]] == [
        ("send", "unknown"),
        ("look_up", "found"),
    ]
    assert (attempt["sends"], attempt["look_ups"]) == (1, 1)


async def test_a_refund_shows_what_was_sent_and_what_came_back(shop: Shop) -> None:
    await shop.stop_sends()
    refund = (await shop.ask(await shop.pay(5990), 1250, key="shown")).json()
    path = refund["links"]["attempts"]
    assert (await shop.client.get(path)).json() == {"data": []}
    await shop.resume_sends()
    refund = await shop.until(refund, "succeeded")

    (attempt,) = (await shop.client.get(path)).json()["data"]

    (paid,) = shop.executions()
    assert attempt["key"] == paid["reference"] == str(ids.gateway_key(shop.merchant_id, "shown", 1))
    assert UUID(attempt["key"]).version == 4
    assert (attempt["generation"], attempt["state"], attempt["sends"]) == (1, "done", 1)
    (call,) = attempt["calls"]
    assert (call["kind"], call["result"], call["detail"]) == ("send", "accepted", "succeeded")
    assert attempt["first_sent_at"] <= call["answered_at"]
    assert refund["gateway_refund_id"] == paid["refund"]


async def test_a_refund_tells_its_history(shop: Shop) -> None:
    payment = await shop.pay(5990, order={"id": "A-1"})
    refund = await shop.refund(payment, 1250, reference="RMA-1", reason="damaged")
    await shop.client.patch(f"/v1/refunds/{refund['id']}", json={"metadata": {"a": "b"}})

    told = (await shop.client.get(refund["links"]["events"])).json()["data"]

    assert [(event["sequence"], event["type"], event["data"]["status"]) for event in told] == [
        (1, "refund.created", "queued"),
        (2, "refund.processing", "processing"),
        (3, "refund.succeeded", "succeeded"),
        (4, "refund.updated", "succeeded"),
    ]
    assert [event["caused_by"] for event in told] == ["tester", "worker", "worker", "tester"]
    assert told[0]["data"] == {
        "refund_id": refund["id"],
        "status": "queued",
        "outcome": "open",
        "amount": 1250,
        "currency": "EUR",
        "payment_id": payment["id"],
        "order_id": "A-1",
        "reference": "RMA-1",
        "reason": "damaged",
    }
    assert [event["occurred_at"] for event in told] == sorted(event["occurred_at"] for event in told)


async def test_metadata_is_replaced_and_nothing_else_changes(shop: Shop) -> None:
    refund = await shop.refund(await shop.pay(5990), 1250, metadata={"a": "1", "b": "2"})
    path = f"/v1/refunds/{refund['id']}"

    patched = (await shop.client.patch(path, json={"metadata": {"b": "3"}})).json()

    assert patched["metadata"] == {"b": "3"}
    changed = {name for name in refund if refund[name] != patched[name]}
    assert changed == {"metadata", "updated_at"}
    assert await shop.see(refund) == patched
    for body in ({"metadata": {}, "amount": 1}, {"reason": "damaged"}, {}, {"metadata": None}):
        assert (await shop.client.patch(path, json=body)).status_code == 422
    assert (await shop.see(refund))["metadata"] == {"b": "3"}


async def test_a_refund_that_a_switch_holds_back_goes_on_when_it_is_opened(shop: Shop) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990)
    refund = await shop.refund(payment, 1250, wait=1)
    assert (refund["status"], shop.executions()) == ("queued", [])

    await shop.resume_sends()

    assert (await shop.until(refund, "succeeded"))["status"] == "succeeded"
    assert len(shop.executions()) == 1
