"""The answer was lost: what is asked after, what is sent again, and when a person is called instead.

The table "what the gateway said → what we do", row by row, through the API, the worker and a gateway
that really listens.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from clockwork import NOTHING_THERE, Asked, Clock, PlayedGateway, Reply
from house import Shop
from over_http import problem

from refund_service.clock import utc_now
from refund_service.refunds.watch import watch_refunds

UNTIL_BELIEVED_ABSENT = (17, 67)
"""Seconds to the first look-up, and from it to the second, after which "not there" is believed."""


async def miss_twice(clock: Clock) -> None:
    for seconds in UNTIL_BELIEVED_ABSENT:
        await clock.turn(seconds=seconds)


async def attempts(shop: Shop, refund: dict[str, Any]) -> list[dict[str, Any]]:
    told = await shop.get(f"/v1/refunds/{refund['id']}/attempts")
    return list(told["data"])


def sends(shop: Shop) -> list[dict[str, Any]]:
    """The requests for refunds that reached the sandbox."""
    return [
        asked for asked in shop.sandbox.record(account=shop.remote)["requests"] if asked["action"] == "refund"
    ]


async def lost(shop: Shop, behaviour: str, amount: int = 1250, **more: Any) -> dict[str, Any]:
    """A refund of a new payment whose answer was lost."""
    refund = await shop.refund(await shop.pay(), amount, metadata={"sandbox": behaviour}, **more)
    assert refund["status"] == "unknown"
    return refund


# --- it was executed -------------------------------------------------------------------------


async def test_a_part_whose_answer_was_lost_is_paid_out_once(
    clock: Clock, till: Shop
) -> None:  # UNK-01, INC-03, sub2api#5187, hyperswitch#3751
    payment = await till.pay(10_000)

    refund = await till.refund(payment, 3000, metadata={"sandbox": "lose_answer"})
    assert (refund["status"], refund["outcome"]) == ("unknown", "open")
    assert (refund["payment"]["held"], refund["payment"]["available"]) == (3000, 7000)
    await clock.turn(seconds=13)
    assert (await till.see(refund))["status"] == "unknown"

    await clock.turn(seconds=4)
    seen = await till.see(refund)
    assert (seen["status"], seen["gateway_refund_id"]) == ("succeeded", till.executions()[0]["refund"])
    assert (seen["payment"]["held"], seen["payment"]["refunded"]) == (0, 3000)
    await clock.turn(days=1)
    assert [paid["amount"] for paid in till.executions()] == [3000]
    assert len(sends(till)) == 1


async def test_a_replay_follows_a_lost_answer_to_its_end(
    clock: Clock, till: Shop
) -> None:  # IDM-14, INC-02, medusa#16681
    payment, key = await till.pay(), uuid4().hex
    asked = {"amount": 1250, "key": key, "metadata": {"sandbox": "lose_answer"}}
    refund = await till.refund(payment, **asked)

    while_unknown = await till.ask(payment, **asked)
    await clock.turn(seconds=17)
    known = await till.ask(payment, **asked)

    for replay in (while_unknown, known):
        assert (replay.status_code, replay.headers["idempotency-replayed"]) == (201, "true")
        assert replay.json()["id"] == refund["id"]
    assert (while_unknown.json()["status"], known.json()["status"]) == ("unknown", "succeeded")
    assert len(till.executions()) == 1


@pytest.mark.parametrize(
    "behaviour", ["lose_answer", "cut_answer", "nonsense", "unknown_status", "error_500_executed", "slow:5"]
)
async def test_an_answer_that_says_nothing_certain_is_looked_up(  # UNK-01, INC-11, FLT-13, hyperswitch#5232
    clock: Clock, new_till: Callable[..., Any], behaviour: str
) -> None:
    till = await new_till(time_limit_seconds=0.5)
    refund = await lost(till, behaviour)
    assert refund["payment"]["held"] == 1250
    assert refund["attention"] is None

    await clock.turn(seconds=17)

    assert (await till.see(refund))["status"] == "succeeded"
    assert [call["kind"] for call in (await attempts(till, refund))[0]["calls"]] == ["send", "look_up"]
    assert (len(till.executions()), len(sends(till))) == (1, 1)


async def test_an_answer_about_another_amount_calls_a_person_and_is_looked_up(
    clock: Clock, till: Shop
) -> None:
    refund = await lost(till, "other_amount")
    assert refund["attention"]["code"] == "answer_differs"

    await clock.turn(seconds=17)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]) == ("succeeded", None)
    assert len(till.executions()) == 1


@pytest.mark.parametrize("lags", [1, 2])
async def test_a_look_up_that_lags_behind_leads_to_no_second_execution(  # GWP-02
    clock: Clock, till: Shop, lags: int
) -> None:
    refund = await lost(till, f"lookup_lags:{lags}")

    await miss_twice(clock)

    seen = await till.see(refund)
    assert (seen["status"], seen["payment"]["refunded"]) == ("succeeded", 1250)
    assert len(till.executions()) == 1
    assert len({asked["key"] for asked in sends(till)}) == 1


@pytest.mark.parametrize("status", ["pending", "requires_action"])
async def test_what_is_found_unfinished_goes_on_from_there(  # GWP-06
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any], status: str
) -> None:
    stands = {"status": status}
    gateway = await played(lambda asked: None if asked.is_send else gateway.found(stands["status"]))
    till = await new_till(gateway)
    refund = await lost(till, "")

    await clock.turn(seconds=17)
    seen = await till.see(refund)
    assert seen["status"] == {"pending": "processing"}.get(status, status)
    assert (seen["payment"]["held"], seen["gateway_refund_id"]) == (1250, f"sbr_{gateway.sends[0].key}")

    stands["status"] = "succeeded"
    gateway.play = lambda asked: (200, gateway.shown(gateway.sends[0]))  # by its id now
    await clock.turn(seconds=17)
    assert (await till.see(refund))["status"] == "succeeded"
    assert len(gateway.sends) == 1


# --- it was not executed ---------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["lose_request", "error_500"])
async def test_a_request_that_was_lost_is_sent_again_once_it_was_missed_long_enough(  # IDM-15, UNK-01, GWP-01
    clock: Clock, till: Shop, behaviour: str
) -> None:
    refund = await lost(till, behaviour)
    await clock.turn(seconds=17)
    assert (await till.see(refund))["status"] == "unknown"
    assert len(sends(till)) == 1, "one miss says nothing: it may only be late"

    await clock.turn(seconds=67)

    seen = await till.see(refund)
    assert (seen["status"], seen["generation"], seen["payment"]["held"]) == ("succeeded", 1, 0)
    assert len(till.executions()) == 1
    (attempt,) = await attempts(till, refund)
    assert [asked["key"] for asked in sends(till)] == [attempt["key"]] * 2
    assert [call["kind"] for call in attempt["calls"]] == ["send", "look_up", "look_up", "send"]


async def test_the_very_same_bytes_are_sent_again(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:  # INC-04, hexclave#1429
    def play(asked: Asked) -> Reply | None:
        if not asked.is_send:
            return NOTHING_THERE
        return (201, gateway.shown(asked)) if len(gateway.sends) == 3 else None

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    refund = await lost(till, "", reference="R-1")

    for _ in range(2):
        await clock.turn(seconds=17)
        await clock.turn(hours=2)
        await clock.turn(hours=2)

    assert (await till.see(refund))["status"] == "succeeded"
    assert len(gateway.sends) == 3
    assert len({asked.content for asked in gateway.sends}) == 1
    assert len({asked.key for asked in gateway.sends}) == 1


async def test_misses_in_a_row_count_only_once_they_have_lasted(clock: Clock, till: Shop) -> None:
    refund = await lost(till, "lose_request")

    for _ in range(5):  # an operator who presses the button again and again
        reply = await till.client.post(f"/v1/refunds/{refund['id']}/refresh", headers={"Prefer": "wait=5"})
        assert reply.json()["status"] == "unknown"
    await clock.work()
    assert len(sends(till)) == 1

    await clock.turn(seconds=46)
    await till.client.post(f"/v1/refunds/{refund['id']}/refresh")
    await clock.work()
    assert (await till.see(refund))["status"] == "succeeded"
    assert (len(sends(till)), len(till.executions())) == (2, 1)


async def test_what_is_found_after_a_miss_is_not_sent_again(
    clock: Clock, new_till: Callable[..., Any]
) -> None:
    till = await new_till(deduplicates=False)
    refund = await lost(till, "lookup_lags:1")

    await miss_twice(clock)

    assert (await till.see(refund))["status"] == "succeeded"
    assert (len(sends(till)), len(till.executions())) == (1, 1)


# --- accounts that lack something ------------------------------------------------------------


async def test_keys_without_a_look_up_send_the_same_again_and_get_the_kept_answer(
    clock: Clock, new_till: Callable[..., Any]
) -> None:
    till = await new_till(looks_up=False)
    executed, not_executed = await lost(till, "lose_answer"), await lost(till, "lose_request", 900)

    await clock.turn(seconds=17)

    for refund in (executed, not_executed):
        assert (await till.see(refund))["status"] == "succeeded"
    assert sorted(paid["amount"] for paid in till.executions()) == [900, 1250]
    assert len(sends(till)) == 4
    assert len({asked["key"] for asked in sends(till)}) == 2


async def test_past_the_horizon_of_the_keys_nothing_is_sent_again(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(lambda asked: None)
    till = await new_till(gateway, looks_up=False)
    refund = await lost(till, "")
    for hours in (5, 12, 6):
        clock.mend(till.account_id)
        await clock.turn(hours=hours)
    inside = len(gateway.sends)
    assert inside > 1
    assert (await till.see(refund))["attention"] is None

    clock.mend(till.account_id)
    await clock.turn(hours=2)
    await clock.turn(hours=7)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("unknown", "past_replay_horizon")
    assert seen["payment"]["held"] == 1250
    assert len(gateway.sends) == inside
    assert len({asked.key for asked in gateway.sends}) == 1


async def test_a_gateway_that_stays_silent_is_not_hammered(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(lambda asked: None)
    till = await new_till(gateway, looks_up=False)
    await lost(till, "")

    for _ in range(60):
        clock.mend(till.account_id)  # so that nothing but the plan holds it back
        await clock.turn(minutes=1)

    assert 4 <= len(gateway.sends) <= 6, "after 15 s, 60 s, 5 min, 15 min, 1 h …"


async def test_a_look_up_without_keys_sends_once_at_most(
    clock: Clock, new_till: Callable[..., Any]
) -> None:  # GWP-04, chobbledotcom/tickets#2065
    till = await new_till(deduplicates=False)
    executed, not_executed = await lost(till, "lose_answer"), await lost(till, "lose_request", 900)

    await miss_twice(clock)
    for _ in range(5):
        await clock.turn(days=1)

    assert (await till.see(executed))["status"] == "succeeded"
    seen = await till.see(not_executed)
    assert (seen["status"], seen["attention"]["code"]) == ("unknown", "not_found_at_gateway")
    assert seen["payment"]["held"] == 900
    assert [paid["amount"] for paid in till.executions()] == [1250]
    assert len(sends(till)) == 2


async def test_without_keys_what_turns_up_late_is_still_found(
    clock: Clock, new_till: Callable[..., Any]
) -> None:
    till = await new_till(deduplicates=False)
    refund = await lost(till, "lookup_lags:4")

    await miss_twice(clock)
    assert (await till.see(refund))["attention"]["code"] == "not_found_at_gateway"
    for _ in range(3):
        await clock.turn(hours=7)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]) == ("succeeded", None)
    assert (len(sends(till)), len(till.executions())) == (1, 1)


@pytest.mark.parametrize(("behaviour", "executed"), [("lose_answer", 1), ("lose_request", 0)])
async def test_with_neither_keys_nor_look_up_a_person_is_called_at_once(  # GWP-05
    clock: Clock, new_till: Callable[..., Any], behaviour: str, executed: int
) -> None:
    till = await new_till(looks_up=False, deduplicates=False)

    refund = await lost(till, behaviour)
    assert refund["attention"]["code"] == "cannot_be_looked_up"
    for _ in range(4):
        await clock.turn(days=1)

    seen = await till.see(refund)
    assert (seen["status"], seen["payment"]["held"]) == ("unknown", 1250)
    assert (len(till.executions()), len(sends(till))) == (executed, 1)
    listed = await till.get("/v1/refunds", attention="true")
    assert [one["id"] for one in listed["data"]] == [refund["id"]]


# --- what the gateway says besides -----------------------------------------------------------


async def test_already_refunded_is_looked_up_before_it_is_believed(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    no: Reply = (422, {"error": {"code": "already_refunded", "message": "All of it is refunded."}})
    gateway: PlayedGateway = await played(lambda asked: no if asked.is_send else gateway.found())
    ours = await new_till(gateway)
    theirs = await new_till()

    found = await ours.refund(await ours.pay(), 1250)
    missed = await theirs.refund(await theirs.pay(), 1250, metadata={"sandbox": "decline:already_refunded"})
    assert (found["status"], missed["status"]) == ("unknown", "unknown")
    await miss_twice(clock)

    assert (await ours.see(found))["status"] == "succeeded"
    seen = await theirs.see(missed)
    assert (seen["status"], seen["failure"]["code"], seen["payment"]["held"]) == (
        "failed",
        "already_refunded",
        0,
    )
    assert (len(gateway.sends), len(sends(theirs))) == (1, 1)


async def test_a_refusal_that_follows_a_doubt_is_looked_up_before_it_is_believed(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    def play(asked: Asked) -> Reply | None:
        if not asked.is_send:
            return NOTHING_THERE
        no = (422, {"error": {"code": "insufficient_balance", "message": "Top up."}})
        return None if len(gateway.sends) == 1 else no

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    refund = await lost(till, "")

    await miss_twice(clock)
    assert (await till.see(refund))["status"] == "unknown", "the first sending may have moved the money"
    for _ in range(3):
        await clock.turn(hours=2)

    seen = await till.see(refund)
    assert (seen["status"], seen["failure"]["code"]) == ("failed", "insufficient_balance")
    assert seen["payment"]["available"] == 10_000
    assert len(gateway.sends) == 2


async def test_in_progress_is_waited_for_under_the_same_key(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    busy: Reply = (409, {"error": {"code": "in_progress", "message": "Wait."}}, {"Retry-After": "7"})

    def play(asked: Asked) -> Reply:
        return busy if len(gateway.sends) < 3 else (201, gateway.shown(asked))

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)

    refund = (await till.ask(await till.pay(), 1250)).json()
    await clock.work()
    assert (await till.see(refund))["status"] == "processing"
    await clock.turn(seconds=6)
    assert len(gateway.sends) == 1, "as long as it asked for"
    await clock.turn(seconds=2)
    await clock.turn(seconds=8)

    assert (await till.see(refund))["status"] == "succeeded"
    assert len({(asked.key, asked.content) for asked in gateway.sends}) == 1


async def test_in_progress_for_longer_than_it_may_be_is_looked_up(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    busy: Reply = (409, {"error": {"code": "in_progress", "message": "Wait."}})
    gateway: PlayedGateway = await played(lambda asked: busy if asked.is_send else gateway.found())
    till = await new_till(gateway)
    refund = (await till.ask(await till.pay(), 1250)).json()
    await clock.work()
    await clock.turn(minutes=9)
    assert (gateway.look_ups, (await till.see(refund))["status"]) == (0, "processing")

    await clock.turn(minutes=2)

    assert (await till.see(refund))["status"] == "succeeded"
    assert (gateway.look_ups, len(gateway.sends)) == (1, 2)


async def test_too_many_requests_waits_as_told_under_the_same_key(clock: Clock, till: Shop) -> None:  # GWP-19
    refund = (await till.ask(await till.pay(), 1250, metadata={"sandbox": "rate_limit"})).json()
    await clock.work()
    seen = await till.see(refund)
    assert (seen["status"], seen["payment"]["held"], "cancel" in seen["links"]) == ("queued", 1250, True)

    await clock.turn(seconds=2)

    assert (await till.see(refund))["status"] == "succeeded"
    assert len({asked["key"] for asked in sends(till)}) == 1
    assert (len(sends(till)), len(till.executions())) == (2, 1)


async def test_an_undocumented_refusal_is_no_refusal(clock: Clock, till: Shop) -> None:
    refund = await lost(till, "undocumented")

    await miss_twice(clock)
    assert len(sends(till)) == 2
    await clock.turn(days=1)
    for _ in range(3):
        await clock.turn(hours=7)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("unknown", "not_found_at_gateway")
    assert (seen["payment"]["held"], till.executions()) == (1250, [])
    assert len({asked["key"] for asked in sends(till)}) == 1


async def test_two_refunds_under_one_reference_call_a_person(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    def play(asked: Asked) -> Reply | None:
        if asked.is_send:
            return None
        twice = [gateway.shown(gateway.sends[0], id=f"sbr_{n}") for n in range(2)]
        return 200, {"data": twice}

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    refund = await lost(till, "")

    await clock.turn(seconds=17)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("unknown", "answer_differs")


@pytest.mark.parametrize("other", [{"amount": 1251}, {"currency": "USD"}], ids=["amount", "currency"])
async def test_a_look_up_that_finds_another_amount_settles_nothing(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any], other: dict[str, Any]
) -> None:
    gateway: PlayedGateway = await played(lambda asked: None if asked.is_send else gateway.found(**other))
    till = await new_till(gateway)
    refund = await lost(till, "")

    await clock.turn(seconds=17)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("unknown", "answer_differs")
    assert (seen["payment"]["held"], seen["payment"]["refunded"]) == (1250, 0)


# --- while it is unknown ---------------------------------------------------------------------


async def test_asking_anew_while_it_is_unknown_is_told_what_is_being_clarified(till: Shop) -> None:  # UNK-08
    payment = await till.pay(2000)
    refund = await till.refund(payment, 1250, metadata={"sandbox": "lose_answer"}, reference="RMA-7")

    again = problem(await till.ask(payment, 1250), 422, "amount-exceeds-available")
    assert again["in_clarification"] == [refund["id"]]
    assert "clarified" in again["detail"]
    assert again["available"] == 750
    named = problem(await till.ask(payment, 100, reference="RMA-7"), 409, "reference-exists")
    assert named["refund_id"] == refund["id"]
    assert (await till.ask(payment, 750)).status_code == 201, "what is not held may still be asked for"


async def test_what_is_unknown_is_not_canceled(till: Shop) -> None:  # UNK-09
    refund = await lost(till, "lose_answer")

    told = problem(await till.client.post(f"/v1/refunds/{refund['id']}/cancel"), 409, "refund-not-in-status")

    assert (told["status"], "cancel" in refund["links"]) == (409, False)
    seen = await till.see(refund)
    assert (seen["status"], seen["payment"]["held"]) == ("unknown", 1250)


@pytest.mark.parametrize("behaviour", ["lose_answer", "pend", "requires_action"])
async def test_what_was_sent_is_not_tried_again_by_hand(till: Shop, behaviour: str) -> None:  # UNK-13, INC-13
    payment = await till.pay()
    refund = (await till.ask(payment, 1250, metadata={"sandbox": behaviour})).json()
    await till.until(refund, "unknown", "processing", "requires_action")

    problem(await till.client.post(f"/v1/refunds/{refund['id']}/retry"), 409, "refund-not-in-status")

    seen = await till.see(refund)
    assert (seen["generation"], seen["payment"]["held"]) == (1, 1250)
    assert len(sends(till)) == 1


async def test_after_eight_days_it_is_still_held_and_a_person_has_been_called(  # UNK-10, INC-09
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    away: Reply = (503, {"error": {"code": "down", "message": "Later."}})
    gateway: PlayedGateway = await played(lambda asked: None if asked.is_send else away)
    till = await new_till(gateway)
    refund = await lost(till, "")
    for _ in range(8):
        await clock.turn(days=1)
        clock.mend(till.account_id)
    asked_after = gateway.look_ups
    assert asked_after >= 8

    await watch_refunds(clock.house.parts.db, now=utc_now() + timedelta(days=8))
    seen = await till.see(refund)
    assert (seen["status"], seen["payment"]["held"]) == ("unknown", 1250)
    assert seen["attention"]["code"] == "unknown_for_long"
    events = await till.get(f"/v1/refunds/{refund['id']}/events")
    assert events["data"][-1]["type"] == "refund.needs_attention"

    # It goes on being looked up, and what is found then counts.
    gateway.play = lambda asked: gateway.found()
    await clock.turn(hours=7)
    seen = await till.see(refund)
    assert (seen["status"], seen["attention"], len(gateway.sends)) == ("succeeded", None, 1)


async def test_what_was_missed_only_after_the_horizon_is_never_sent_again(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(lambda asked: None if asked.is_send else (503, {}))
    till = await new_till(gateway)
    refund = await lost(till, "")
    for _ in range(2):
        await clock.turn(days=1)

    gateway.play = lambda asked: None if asked.is_send else NOTHING_THERE
    for _ in range(4):
        await clock.turn(hours=7)

    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("unknown", "not_found_at_gateway")
    assert (seen["payment"]["held"], len(gateway.sends)) == (1250, 1)


async def test_no_exception_says_failed_and_no_replay_repeats_a_doubt(
    clock: Clock, till: Shop
) -> None:  # INC-12
    payment, key = await till.pay(), uuid4().hex
    first = await till.ask(payment, 1250, key=key, metadata={"sandbox": "lose_answer"}, wait=10)
    await clock.turn(seconds=17)

    replay = await till.ask(payment, 1250, key=key, metadata={"sandbox": "lose_answer"})

    assert first.json()["failure"] is None
    assert (replay.json()["status"], replay.json()["failure"]) == ("succeeded", None)
