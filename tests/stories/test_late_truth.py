"""What the gateway tells later: finished, failed after all, taken back, or done although it had said no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clockwork import NOTHING_THERE, Asked, Clock, PlayedGateway, Reply
from house import Shop
from over_http import problem

DECLINED: Reply = (422, {"error": {"code": "issuer_declined", "message": "The bank says no."}})


async def ask_after(shop: Shop, refund: dict[str, Any]) -> dict[str, Any]:
    """Press the button that asks the gateway now."""
    reply = await shop.client.post(f"/v1/refunds/{refund['id']}/refresh", headers={"Prefer": "wait=10"})
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


async def event_types(shop: Shop, refund: dict[str, Any]) -> list[str]:
    told = await shop.get(f"/v1/refunds/{refund['id']}/events")
    return [event["type"] for event in told["data"]]


# --- finished later --------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["pend", "requires_action"])
@pytest.mark.parametrize("end", ["succeeded", "failed"])
async def test_what_is_not_finished_is_asked_after_until_it_is(  # GWP-06, emfcamp/Website#1017, solidus_stripe#265
    clock: Clock, till: Shop, behaviour: str, end: str
) -> None:
    reply = await till.ask(await till.pay(), 1250, metadata={"sandbox": behaviour})
    assert reply.status_code == 201, "what the gateway has not finished is no error of the request"
    refund = reply.json()
    await clock.work()
    seen = await till.see(refund)
    assert seen["status"] == {"pend": "processing"}.get(behaviour, behaviour)
    assert (seen["outcome"], seen["payment"]["held"]) == ("open", 1250)
    await clock.turn(seconds=20)
    assert (await till.see(refund))["status"] == seen["status"]

    (executed,) = till.executions()
    till.sandbox.settle(executed["refund"], end)
    await clock.turn(seconds=20)

    seen = await till.see(refund)
    assert (seen["status"], seen["outcome"]) == (end, end)
    gone = 1250 if end == "succeeded" else 0
    assert (seen["payment"]["held"], seen["payment"]["refunded"]) == (0, gone)
    assert seen["payment"]["available"] == 10_000 - gone
    assert till.sandbox.record(account=till.remote)["counts"]["refund"] == 1


async def test_what_waits_for_the_customer_goes_on_when_it_is_pending_again(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    stands = {"status": "requires_action"}
    gateway: PlayedGateway = await played(lambda asked: (200, gateway.shown(gateway.sends[0], **stands)))
    till = await new_till(gateway)
    refund = await till.refund(await till.pay(), 1250)
    assert refund["status"] == "requires_action"

    for there, here in (
        ("pending", "processing"),
        ("requires_action", "requires_action"),
        ("failed", "failed"),
    ):
        stands["status"] = there
        await clock.turn(seconds=20)
        assert (await till.see(refund))["status"] == here
    assert (await till.payment(refund["payment"]))["available"] == 10_000


async def test_an_account_without_a_look_up_waits_for_its_notification_and_calls_a_person(
    clock: Clock, new_till: Callable[..., Any]
) -> None:
    till = await new_till(looks_up=False)
    refund = (await till.ask(await till.pay(), 1250, metadata={"sandbox": "pend"})).json()
    await clock.work()
    await clock.turn(seconds=20)

    seen = await till.see(refund)

    assert (seen["status"], seen["attention"]["code"]) == ("processing", "waits_for_notification")
    assert till.sandbox.record(account=till.remote)["counts"]["refund"] == 1


async def test_a_bank_reference_that_comes_later_is_kept(clock: Clock, till: Shop) -> None:
    refund = (await till.ask(await till.pay(), 1250, metadata={"sandbox": "pend"})).json()
    await clock.work()
    assert (await till.see(refund))["bank_reference"] is None

    (executed,) = till.executions()
    till.sandbox.settle(executed["refund"], "succeeded")
    await clock.turn(seconds=20)

    reference = (await till.see(refund))["bank_reference"]
    assert reference == {"type": "arn", "value": f"arn_{executed['refund']}", "status": "available"}


# --- taken back ------------------------------------------------------------------------------


async def test_a_success_that_turns_is_reversed_and_made_good_by_another(
    clock: Clock, till: Shop
) -> None:  # GWP-11, adyen-magento#631
    payment = await till.pay(2000)
    refund = await till.refund(payment, 2000, metadata={"sandbox": "fail_after_success:0.05"})
    assert (refund["status"], refund["payment"]["available"]) == ("succeeded", 0)
    while till.executions()[0]["status"] != "failed":
        pass  # the sandbox's own clock

    seen = await ask_after(till, refund)
    assert (seen["status"], seen["outcome"], seen["failure"]["code"]) == (
        "reversed",
        "failed",
        "issuer_declined",
    )
    assert (seen["payment"]["refunded"], seen["payment"]["available"]) == (0, 2000)
    assert await event_types(till, refund) == [
        "refund.created",
        "refund.processing",
        "refund.succeeded",
        "refund.reversed",
    ]
    problem(await till.client.post(f"/v1/refunds/{refund['id']}/retry"), 409, "refund-not-in-status")
    assert "retry" not in seen["links"]

    better = await till.refund(payment, 2000, replaces=refund["id"])
    assert (better["status"], better["replaces"]) == ("succeeded", refund["id"])
    assert better["payment"]["refunded"] == 2000
    assert (await till.see(refund))["status"] == "reversed"


async def test_only_a_reversed_refund_of_the_same_payment_is_replaced(till: Shop) -> None:
    payment, other = await till.pay(), await till.pay()
    done = await till.refund(payment, 100)

    for named, over in ((done, payment), (done, other)):
        problem(await till.ask(over, 100, replaces=named["id"]), 422, "refund-not-replaceable")


async def test_asking_after_a_success_that_stands_changes_nothing(till: Shop) -> None:
    refund = await till.refund(await till.pay(), 1250)

    seen = await ask_after(till, refund)

    assert seen["status"] == "succeeded"
    assert await event_types(till, refund) == ["refund.created", "refund.processing", "refund.succeeded"]
    assert len(till.executions()) == 1


@pytest.mark.parametrize("answer", [NOTHING_THERE, (503, {}), (404, {"error": {"code": "not_found"}})])
async def test_a_look_up_that_is_blind_turns_no_success(
    new_till: Callable[..., Any], played: Callable[..., Any], answer: Reply
) -> None:
    gateway: PlayedGateway = await played(
        lambda asked: (201, gateway.shown(asked)) if asked.is_send else answer
    )
    till = await new_till(gateway)
    refund = await till.refund(await till.pay(), 1250)

    seen = await ask_after(till, refund)

    assert (seen["status"], seen["payment"]["refunded"]) == ("succeeded", 1250)


# --- done after all --------------------------------------------------------------------------


async def test_a_failure_that_turns_out_done_counts_and_calls_a_person(
    new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(lambda asked: DECLINED if asked.is_send else gateway.found())
    till = await new_till(gateway)
    payment = await till.pay(10_000)
    refund = await till.refund(payment, 6000)
    assert (refund["status"], refund["payment"]["available"]) == ("failed", 10_000)

    seen = await ask_after(till, refund)

    assert (seen["status"], seen["failure"]) == ("succeeded", None)
    assert seen["attention"]["code"] == "succeeded_after_failure"
    assert (seen["payment"]["refunded"], seen["payment"]["available"]) == (6000, 4000)
    assert (await till.payment(payment))["excess"] == 0


async def test_where_the_hold_was_given_away_the_late_success_shows_as_excess(
    new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    def play(asked: Asked) -> Reply:
        if not asked.is_send:
            return gateway.found()
        return DECLINED if len(gateway.sends) == 1 else (201, gateway.shown(asked))

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    payment = await till.pay(10_000)
    first = await till.refund(payment, 6000)
    second = await till.refund(payment, 9000)
    assert (first["status"], second["status"]) == ("failed", "succeeded")

    seen = await ask_after(till, first)

    assert (seen["status"], seen["attention"]["code"]) == ("succeeded", "succeeded_after_failure")
    now = await till.payment(payment)
    assert (now["refunded"], now["excess"], now["available"]) == (15_000, 5000, 0)
    problem(await till.ask(payment, 1), 422, "amount-exceeds-available")
    last = (await till.get(f"/v1/refunds/{first['id']}/events"))["data"][-1]
    assert (last["type"], last["data"]["attention"]) == ("refund.succeeded", "succeeded_after_failure")


async def test_an_excess_goes_down_with_the_success_that_made_it(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    shown = "succeeded"

    def play(asked: Asked) -> Reply:
        if not asked.is_send:
            return (200, gateway.shown(gateway.sends[0], shown)) if "sbr_" in asked.path else gateway.found()
        return DECLINED if len(gateway.sends) == 1 else (201, gateway.shown(asked))

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    payment = await till.pay(10_000)
    first = await till.refund(payment, 6000)
    await till.refund(payment, 9000)
    await ask_after(till, first)

    shown = "failed"
    seen = await ask_after(till, first)

    assert seen["status"] == "reversed"
    now = await till.payment(payment)
    assert (now["refunded"], now["available"]) == (9000, 1000)


# --- refused, and tried again ----------------------------------------------------------------


async def test_a_documented_refusal_gives_the_hold_back_and_may_be_tried_again(  # solidus#3831, vendure#3152
    new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(
        lambda asked: DECLINED if len(gateway.sends) == 1 else (201, gateway.shown(asked))
    )
    till = await new_till(gateway)
    refund = await till.refund(await till.pay(), 1250)
    assert (refund["status"], refund["failure"]["code"]) == ("failed", "issuer_declined")
    assert (refund["payment"]["held"], refund["payment"]["available"]) == (0, 10_000)

    again = await till.client.post(refund["links"]["retry"], headers={"Prefer": "wait=10"})

    assert again.status_code == 200
    told = again.json()
    assert (told["status"], told["generation"], told["failure"]) == ("succeeded", 2, None)
    assert told["payment"]["refunded"] == 1250
    keys = [asked.key for asked in gateway.sends]
    assert len(set(keys)) == 2, "a definite no is answered by a new generation, under a new key"
    attempts = (await till.get(f"/v1/refunds/{refund['id']}/attempts"))["data"]
    assert [(one["generation"], one["key"], one["state"]) for one in attempts] == [
        (1, keys[0], "refused"),
        (2, keys[1], "done"),
    ]
    assert [asked.body["reference"] for asked in gateway.sends] == keys


async def test_trying_again_is_refused_where_others_have_taken_the_rest(till: Shop) -> None:
    payment = await till.pay(2000)
    refund = await till.refund(payment, 1250, metadata={"sandbox": "decline"})
    await till.refund(payment, 1000)

    told = problem(await till.client.post(refund["links"]["retry"]), 422, "amount-exceeds-available")

    assert (told["asked"], told["available"]) == (1250, 1000)
    seen = await till.see(refund)
    assert (seen["status"], seen["generation"], seen["payment"]["held"]) == ("failed", 1, 0)


async def test_a_retry_sent_twice_with_one_key_tries_once(till: Shop) -> None:
    refund = await till.refund(await till.pay(), 1250, metadata={"sandbox": "decline"})
    headers = {"Idempotency-Key": f"retry-{refund['id']}", "Prefer": "wait=10"}

    first = await till.client.post(refund["links"]["retry"], headers=headers)
    again = await till.client.post(refund["links"]["retry"], headers=headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert (again.json()["status"], again.json()["generation"]) == ("failed", 2)
    assert again.headers["idempotency-replayed"] == "true"
    assert till.sandbox.record(account=till.remote)["counts"]["refund"] == 2


async def test_a_replay_of_a_failed_refund_tries_nothing_by_itself(till: Shop) -> None:  # IDM-16
    payment = await till.pay()
    asked = {"amount": 1250, "key": "failed-1", "metadata": {"sandbox": "decline"}}
    refund = await till.refund(payment, **asked)

    replay = await till.ask(payment, **asked, wait=1)

    assert (replay.status_code, replay.headers["idempotency-replayed"]) == (201, "true")
    told = replay.json()
    assert (told["id"], told["status"], told["generation"]) == (refund["id"], "failed", 1)
    assert told["links"]["retry"] == f"/v1/refunds/{refund['id']}/retry"
    assert told["failure"]["merchant_text"]
    assert told["failure"]["customer_text"]
    counts = till.sandbox.record(account=till.remote)["counts"]
    assert (counts["refund"], counts["executions"]) == (1, 0)


async def test_a_failed_refund_that_was_asked_after_may_be_tried_again(
    new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(
        lambda asked: (
            (DECLINED if len(gateway.sends) == 1 else (201, gateway.shown(asked)))
            if asked.is_send
            else NOTHING_THERE
        )
    )
    till = await new_till(gateway)
    refund = await till.refund(await till.pay(), 1250)

    assert (await ask_after(till, refund))["status"] == "failed"
    again = await till.client.post(refund["links"]["retry"], headers={"Prefer": "wait=10"})

    assert again.status_code == 200, again.text
    assert again.json()["status"] == "succeeded"
