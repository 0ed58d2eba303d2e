"""The design's table "what the gateway said → what we do", row by row, for every kind of gateway."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    Answer,
    BankReference,
    CannotTell,
    DeclineCode,
    Declined,
    Finding,
    Found,
    GatewayRefund,
    GatewayState,
    InFlight,
    Misconfigured,
    NotSent,
    Unknown,
)
from refund_service.gateways.protocol import Account, GatewayTraits
from refund_service.money import Money
from refund_service.refunds.case import Case
from refund_service.refunds.conclude import (
    Conclusion,
    conclude_answer,
    conclude_finding,
    conclude_lost,
    conclude_person,
    conclude_taken,
)
from refund_service.refunds.next_step import Attempt, SendAgain
from refund_service.refunds.states import AttemptState, RefundEvent, Status, allows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
NONE = timedelta(0)
HOUR = timedelta(hours=1)
PERSON = timedelta(hours=6)

BOTH = GatewayTraits(
    idempotency="header",
    replay_horizon=timedelta(hours=24),
    lookup="by_reference",
    enough_misses=2,
    enough_miss_time=timedelta(seconds=45),
    time_limit=timedelta(seconds=20),
)
ONLY_KEYS = replace(BOTH, lookup="none")
ONLY_LOOK_UP = replace(BOTH, idempotency="none", replay_horizon=timedelta(0))
NEITHER = replace(ONLY_LOOK_UP, lookup="none")
GATEWAYS = {"both": BOTH, "only keys": ONLY_KEYS, "only look-up": ONLY_LOOK_UP, "neither": NEITHER}
every_gateway = pytest.mark.parametrize("traits", GATEWAYS.values(), ids=GATEWAYS)
every_doubt = pytest.mark.parametrize("ambiguous", [False, True], ids=["no doubt", "after a doubt"])


def case(status: Status = Status.PROCESSING, **of_attempt: Any) -> Case:
    """A refund of 12.50 whose attempt was sent a minute ago."""
    attempt = Attempt(
        state=AttemptState.SENDING,
        ambiguous=False,
        sends=1,
        first_sent_at=NOW - timedelta(minutes=1),
        last_sent_at=NOW - timedelta(minutes=1),
        look_ups=0,
        misses=0,
        first_missed_at=None,
    )
    return Case(
        now=NOW,
        merchant_id=UUID(int=1),
        refund_id=UUID(int=2),
        status=status,
        version=3,
        generation=1,
        amount=Money(1250, "EUR"),
        reference=None,
        reason="damaged",
        idempotency_key="first-1",
        execute_after=None,
        attention=None,
        gateway_refund_id=None,
        metadata={},
        payment_id=UUID(int=3),
        gateway_payment_id="pi_1",
        order_name=None,
        account=Account(UUID(int=4), "sandbox", "http://127.0.0.1", {}, {}),
        account_active=True,
        attempt=replace(attempt, **of_attempt),
        request=None,
    )


def shown(state: GatewayState = GatewayState.SUCCEEDED, **other: Any) -> GatewayRefund:
    """The refund as the gateway shows it: what was asked, but for ``other``."""
    as_asked = {
        "id": "re_1",
        "state": state,
        "amount": Money(1250, "EUR"),
        "payment_reference": "pi_1",
        "our_reference": str(case().key),
    }
    return GatewayRefund(**(as_asked | other))


def said(answer: Answer, traits: GatewayTraits = BOTH, **of_attempt: Any) -> Conclusion:
    return conclude_answer(case(**of_attempt), answer, traits)


def found(
    finding: Finding, status: Status = Status.UNKNOWN, traits: GatewayTraits = BOTH, **of_attempt: Any
) -> Conclusion:
    known = {"state": AttemptState.LOST, "ambiguous": True} | of_attempt
    conclusion, then = conclude_finding(case(status, **known), finding, traits)
    assert then is None
    return conclusion


# Nothing left this machine


@every_gateway
def test_what_never_left_is_queued_again(traits: GatewayTraits) -> None:
    assert said(NotSent("no connection"), traits) == Conclusion(
        event=RefundEvent.NOT_SENT, attempt_state=AttemptState.UNSENT, due_in=HOUR, wait=timedelta(seconds=1)
    )


@every_gateway
def test_what_never_left_this_time_may_have_arrived_before(traits: GatewayTraits) -> None:
    conclusion = said(NotSent("no connection"), traits, ambiguous=True)
    assert (conclusion.event, conclusion.attempt_state) == (RefundEvent.LOSE_TRACK, AttemptState.LOST)


@pytest.mark.parametrize(
    ("sends", "after", "wait"),
    [
        (1, None, 1),
        (3, None, 4),
        (50, None, 300),
        (1, 30, 30),  # 429 with Retry-After
        (50, 30, 300),
        (1, 0, 1),
    ],
)
def test_a_gateway_that_asks_to_be_left_alone_is(sends: int, after: int | None, wait: int) -> None:  # GWP-19
    asked = None if after is None else timedelta(seconds=after)
    assert said(NotSent("HTTP 429", asked), sends=sends).wait == timedelta(seconds=wait)


@pytest.mark.parametrize(("sends", "attention"), [(9, None), (10, "not_sent_for_long")])
@every_doubt
def test_a_person_is_called_when_nothing_leaves_for_long(
    sends: int, attention: str | None, ambiguous: bool
) -> None:
    assert said(NotSent("no connection"), sends=sends, ambiguous=ambiguous).attention == attention


@every_gateway
def test_refused_credentials_pause_and_the_refund_stays_queued(traits: GatewayTraits) -> None:
    conclusion = said(Misconfigured("HTTP 401"), traits)
    assert (conclusion.event, conclusion.attention) == (RefundEvent.NOT_SENT, "gateway_account_paused")
    after_a_doubt = said(Misconfigured("HTTP 401"), traits, ambiguous=True)
    assert after_a_doubt.event is RefundEvent.LOSE_TRACK


# A definite no


@every_gateway
@pytest.mark.parametrize("code", [code for code in DeclineCode if code is not DeclineCode.ALREADY_REFUNDED])
def test_a_documented_refusal_ends_it(code: DeclineCode, traits: GatewayTraits) -> None:
    assert said(Declined(code, "their_code", "their text"), traits) == Conclusion(
        event=RefundEvent.FAIL, attempt_state=AttemptState.REFUSED, failure=(code.value, "their_code")
    )


@pytest.mark.parametrize("traits", [BOTH, ONLY_LOOK_UP])
def test_a_refusal_after_a_doubt_is_looked_up_before_it_counts(traits: GatewayTraits) -> None:
    conclusion = said(Declined(DeclineCode.DISPUTED, "their_code", ""), traits, ambiguous=True)
    assert (conclusion.event, conclusion.failure) == (RefundEvent.LOSE_TRACK, None)
    assert conclusion.refusal == ("disputed", "their_code")


@every_gateway
@every_doubt
def test_already_refunded_is_most_likely_our_own(traits: GatewayTraits, ambiguous: bool) -> None:
    conclusion = said(Declined(DeclineCode.ALREADY_REFUNDED, "done", ""), traits, ambiguous=ambiguous)
    assert (conclusion.event, conclusion.attempt_state) == (RefundEvent.LOSE_TRACK, AttemptState.LOST)
    assert conclusion.refusal == ("already_refunded", "done")
    assert conclusion.failure is None


# In progress


@every_gateway
@pytest.mark.parametrize(("after", "wait"), [(None, 5), (0, 5), (17, 17)])
def test_in_progress_waits_as_told(traits: GatewayTraits, after: int | None, wait: int) -> None:
    asked = None if after is None else timedelta(seconds=after)
    conclusion = said(InFlight(asked), traits)
    assert (conclusion.event, conclusion.attempt_state) == (None, AttemptState.WAITING)
    assert conclusion.wait == timedelta(seconds=wait)
    assert conclusion.ambiguous


# No one can say


@pytest.mark.parametrize(
    ("traits", "wait", "attention"),
    [
        (BOTH, timedelta(seconds=15), None),
        (ONLY_LOOK_UP, timedelta(seconds=15), None),
        (ONLY_KEYS, timedelta(seconds=15), None),
        (NEITHER, PERSON, "cannot_be_looked_up"),
    ],
)
def test_a_lost_answer_is_not_a_no(  # UNK-01, GWP-05
    traits: GatewayTraits, wait: timedelta, attention: str | None
) -> None:
    assert said(Unknown("HTTP 500, no code"), traits) == Conclusion(
        event=RefundEvent.LOSE_TRACK,
        attempt_state=AttemptState.LOST,
        ambiguous=True,
        due_in=HOUR,
        wait=wait,
        attention=attention,
    )


@every_gateway
def test_an_answer_about_something_else_calls_a_person(traits: GatewayTraits) -> None:
    conclusion = said(Unknown("mismatch: asked 1250 EUR, taken 1300 EUR", differs=True), traits)
    assert (conclusion.event, conclusion.attention) == (RefundEvent.LOSE_TRACK, "answer_differs")


@pytest.mark.parametrize(
    ("sends", "seconds"), [(1, 15), (2, 60), (3, 300), (4, 900), (5, 3600), (99, 21_600)]
)
def test_where_nothing_can_be_asked_the_same_bytes_are_sent_ever_more_rarely(
    sends: int, seconds: int
) -> None:
    assert said(Unknown("no answer"), ONLY_KEYS, sends=sends).wait == timedelta(seconds=seconds)
    assert said(Unknown("no answer"), BOTH, sends=sends).wait == timedelta(seconds=15)


@every_gateway
def test_a_sending_that_no_one_ended_is_lost_and_looked_up_at_once(traits: GatewayTraits) -> None:
    conclusion = conclude_lost(traits, "the worker did not come back")
    assert (conclusion.event, conclusion.ambiguous, conclusion.wait) == (RefundEvent.LOSE_TRACK, True, NONE)
    assert conclusion.because == "the worker did not come back"


def test_where_no_machine_may_do_more_a_person_is_called_and_nothing_moves() -> None:
    assert conclude_person("past_replay_horizon") == Conclusion(
        attention="past_replay_horizon", due_in=PERSON, wait=PERSON
    )


# The gateway has it

E_ = RefundEvent
FROM_ANSWER = {
    GatewayState.PENDING: (None, AttemptState.PENDING),
    GatewayState.REQUIRES_ACTION: (E_.NEED_ACTION, AttemptState.PENDING),
    GatewayState.SUCCEEDED: (E_.SUCCEED, AttemptState.DONE),
    GatewayState.FAILED: (E_.FAIL, AttemptState.REFUSED),
    GatewayState.CANCELED: (E_.FAIL, AttemptState.REFUSED),
}


@every_gateway
@pytest.mark.parametrize("state", GatewayState)
def test_what_the_gateway_took_stands_as_it_says(state: GatewayState, traits: GatewayTraits) -> None:
    conclusion = said(Accepted(shown(state)), traits)
    assert (conclusion.event, conclusion.attempt_state) == FROM_ANSWER[state]
    assert conclusion.gateway_refund_id == "re_1"
    assert (conclusion.wait is None) is (state not in {GatewayState.PENDING, GatewayState.REQUIRES_ACTION})


FROM_FINDING: dict[tuple[Status, GatewayState], RefundEvent | None] = {
    (Status.PROCESSING, GatewayState.PENDING): None,
    (Status.PROCESSING, GatewayState.REQUIRES_ACTION): E_.NEED_ACTION,
    (Status.PROCESSING, GatewayState.SUCCEEDED): E_.SUCCEED,
    (Status.PROCESSING, GatewayState.FAILED): E_.FAIL,
    (Status.PROCESSING, GatewayState.CANCELED): E_.FAIL,
    (Status.REQUIRES_ACTION, GatewayState.PENDING): E_.FIND_PENDING,
    (Status.REQUIRES_ACTION, GatewayState.REQUIRES_ACTION): None,
    (Status.REQUIRES_ACTION, GatewayState.SUCCEEDED): E_.SUCCEED,
    (Status.REQUIRES_ACTION, GatewayState.FAILED): E_.FAIL,
    (Status.REQUIRES_ACTION, GatewayState.CANCELED): E_.FAIL,
    (Status.UNKNOWN, GatewayState.PENDING): E_.FIND_PENDING,
    (Status.UNKNOWN, GatewayState.REQUIRES_ACTION): E_.NEED_ACTION,
    (Status.UNKNOWN, GatewayState.SUCCEEDED): E_.SUCCEED,
    (Status.UNKNOWN, GatewayState.FAILED): E_.FAIL,
    (Status.UNKNOWN, GatewayState.CANCELED): E_.FAIL,
    # Asked after once more: a success can turn, and so can a failure. Nothing else moves an end.
    (Status.SUCCEEDED, GatewayState.PENDING): None,
    (Status.SUCCEEDED, GatewayState.REQUIRES_ACTION): None,
    (Status.SUCCEEDED, GatewayState.SUCCEEDED): None,
    (Status.SUCCEEDED, GatewayState.FAILED): E_.REVERSE,  # GWP-11
    (Status.SUCCEEDED, GatewayState.CANCELED): E_.REVERSE,
    (Status.FAILED, GatewayState.PENDING): None,
    (Status.FAILED, GatewayState.REQUIRES_ACTION): None,
    (Status.FAILED, GatewayState.SUCCEEDED): E_.TURN_OUT_DONE,
    (Status.FAILED, GatewayState.FAILED): None,
    (Status.FAILED, GatewayState.CANCELED): None,
}


@pytest.mark.parametrize(("status", "state"), FROM_FINDING)
def test_a_refund_that_is_found_stands_as_found(status: Status, state: GatewayState) -> None:
    conclusion = found(Found(shown(state)), status)
    event = FROM_FINDING[status, state]
    assert conclusion.event is event
    assert event is None or allows(status, event)
    assert (conclusion.look_ups, conclusion.missed) == (1, False)
    assert conclusion.gateway_refund_id == "re_1"


def test_a_failure_that_turns_out_done_calls_a_person() -> None:
    assert found(Found(shown()), Status.FAILED).attention == "succeeded_after_failure"
    assert found(Found(shown()), Status.UNKNOWN).attention is None


ALIVE = "pending_after_failure"


@pytest.mark.parametrize("state", [GatewayState.PENDING, GatewayState.REQUIRES_ACTION])
def test_a_failure_that_the_gateway_works_on_again_calls_a_person_and_is_asked_after(
    state: GatewayState,
) -> None:
    alive = found(Found(shown(state)), Status.FAILED)
    assert (alive.event, alive.attention, alive.wait) == (None, ALIVE, BOTH.poll_plan[0])
    assert found(Found(shown(state)), Status.SUCCEEDED).attention is None


def test_a_failure_that_came_alive_is_calm_once_it_has_failed_again() -> None:
    def seen(finding: Finding, attention: str | None) -> Conclusion:
        again = replace(case(Status.FAILED, look_ups=1), attention=attention)
        return conclude_finding(again, finding, BOTH)[0]

    assert seen(Found(shown(GatewayState.FAILED)), ALIVE).calm
    assert not seen(Found(shown(GatewayState.FAILED)), "succeeded_after_failure").calm
    for nothing in (Absent(), CannotTell("HTTP 502")):
        # Not seen is not ended: it is asked after until it is.
        assert seen(nothing, ALIVE) == Conclusion(look_ups=1, wait=timedelta(minutes=5))
        assert seen(nothing, None) == Conclusion(look_ups=1)


@pytest.mark.parametrize(
    ("status", "event"),
    [
        (Status.PROCESSING, RefundEvent.LOSE_TRACK),
        (Status.REQUIRES_ACTION, RefundEvent.LOSE_TRACK),
        (Status.UNKNOWN, None),
        (Status.FAILED, None),
    ],
)
def test_a_gateways_refund_is_never_two_of_ours(status: Status, event: RefundEvent | None) -> None:
    taken = conclude_taken(case(status), Conclusion(event=RefundEvent.SUCCEED, look_ups=1))
    assert (taken.event, taken.attention) == (event, "gateway_reference_taken")
    assert event is None or allows(status, event)
    assert (taken.gateway_refund_id, taken.look_ups, taken.wait) == (None, 1, PERSON)


def test_what_the_gateway_still_works_on_is_asked_after_as_often_as_it_bears() -> None:  # GWP-06
    slow = replace(BOTH, poll_plan=(timedelta(minutes=7),), arrives_within=timedelta(days=3))
    pending = found(Found(shown(GatewayState.PENDING)), traits=slow)
    assert (pending.wait, pending.due_in) == (timedelta(minutes=7), timedelta(days=3))
    waits = found(Found(shown(GatewayState.REQUIRES_ACTION)), traits=slow)
    assert (waits.wait, waits.due_in) == (timedelta(minutes=7), slow.action_window)


def test_the_banks_reference_and_the_gateways_reason_are_kept() -> None:
    bank = BankReference("arn", "74537", "available")
    assert said(Accepted(shown(bank_reference=bank))).bank_reference == bank
    refused = shown(GatewayState.FAILED, failure=(DeclineCode.ISSUER_DECLINED, "closed"))
    assert said(Accepted(refused)).failure == ("issuer_declined", "closed")
    assert said(Accepted(shown(GatewayState.FAILED))).failure == ("other", "failed")
    assert said(Accepted(shown(GatewayState.CANCELED))).failure == ("other", "canceled")


# A look-up that finds something else, or cannot tell

OTHERS = [
    {"amount": Money(1251, "EUR")},
    {"amount": Money(1249, "EUR")},
    {"amount": Money(1250, "USD")},
    {"payment_reference": "pi_2"},
    {"our_reference": "another"},
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    ("status", "event"),
    [
        (Status.PROCESSING, RefundEvent.LOSE_TRACK),
        (Status.REQUIRES_ACTION, RefundEvent.LOSE_TRACK),
        (Status.UNKNOWN, None),
        (Status.SUCCEEDED, None),
        (Status.FAILED, None),
    ],
)
def test_what_differs_is_never_taken_for_ours(
    other: dict[str, Any], status: Status, event: RefundEvent | None
) -> None:
    conclusion = found(Found(shown(**other)), status)
    assert (conclusion.event, conclusion.attention) == (event, "answer_differs")
    assert conclusion.gateway_refund_id is None


def test_two_refunds_under_one_reference_call_a_person() -> None:
    conclusion = found(CannotTell("mismatch: 2 refunds under one reference", differs=True))
    assert (conclusion.event, conclusion.attention) == (None, "answer_differs")


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN])
@pytest.mark.parametrize(("look_ups", "seconds"), [(0, 60), (1, 300), (3, 3600), (27, 21_600)])
def test_a_look_up_without_an_answer_is_no_miss(status: Status, look_ups: int, seconds: int) -> None:
    conclusion = found(CannotTell("HTTP 502"), status, look_ups=look_ups, misses=1)
    assert (conclusion.event, conclusion.missed, conclusion.look_ups) == (None, None, 1)
    assert conclusion.wait == timedelta(seconds=seconds)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
@pytest.mark.parametrize("finding", [CannotTell("HTTP 502"), Absent()])
def test_an_end_is_not_doubted_because_a_look_up_shows_nothing(status: Status, finding: Finding) -> None:
    assert found(finding, status) == Conclusion(look_ups=1)


# A look-up that answers "not there"


def test_the_first_miss_waits_for_the_next_look_up() -> None:
    assert found(Absent()) == Conclusion(look_ups=1, missed=True, due_in=HOUR, wait=timedelta(seconds=60))


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.REQUIRES_ACTION])
def test_what_the_gateway_had_and_shows_no_more_is_unknown(status: Status) -> None:
    conclusion = found(Absent(), status, state=AttemptState.PENDING)
    assert (conclusion.event, conclusion.missed, conclusion.ambiguous) == (RefundEvent.LOSE_TRACK, True, True)


def missed_enough(traits: GatewayTraits, *, missed: timedelta, **more: Any) -> tuple[Conclusion, Any]:
    known = {"state": AttemptState.LOST, "ambiguous": True, "look_ups": 1, "misses": 1}
    known |= {"first_missed_at": NOW - missed} | more
    return conclude_finding(case(Status.UNKNOWN, **known), Absent(), traits)


def test_the_second_miss_is_believed_when_it_is_late_enough() -> None:  # GWP-02
    early, then = missed_enough(BOTH, missed=timedelta(seconds=45) - TICK)
    assert (early.wait, then) == (timedelta(minutes=5), None)
    late, then = missed_enough(BOTH, missed=timedelta(seconds=45))
    assert (late.event, late.wait, then) == (None, NONE, SendAgain())
    assert late.missed


def test_where_sending_again_could_pay_again_a_person_is_called() -> None:  # GWP-04
    no_keys, then = missed_enough(ONLY_LOOK_UP, missed=HOUR)
    assert (no_keys.event, no_keys.attention, then) == (None, "not_found_at_gateway", None)
    past, then = missed_enough(BOTH, missed=HOUR, first_sent_at=NOW - timedelta(hours=24))
    assert (past.event, past.attention, then) == (None, "not_found_at_gateway", None)
    inside, then = missed_enough(BOTH, missed=HOUR, first_sent_at=NOW - timedelta(hours=24) + TICK)
    assert (inside.attention, then) == (None, SendAgain())


@pytest.mark.parametrize("traits", [BOTH, ONLY_LOOK_UP])
def test_a_refusal_that_was_doubted_counts_once_nothing_is_found(traits: GatewayTraits) -> None:
    refusal = {"refusal_code": "disputed", "refusal_gateway_code": "their_code"}
    early, _ = missed_enough(traits, missed=NONE, **refusal)
    assert early.event is None
    late, then = missed_enough(traits, missed=HOUR, **refusal)
    assert (late.event, late.attempt_state, then) == (RefundEvent.FAIL, AttemptState.REFUSED, None)
    assert late.failure == ("disputed", "their_code")
    assert late.due_in is late.wait is None


# What holds for everything

money = st.sampled_from([Money(1250, "EUR"), Money(1300, "EUR"), Money(1250, "USD")])
refunds = st.builds(
    shown,
    st.sampled_from(GatewayState),
    amount=money,
    payment_reference=st.sampled_from(["pi_1", "pi_2"]),
)
answers = st.one_of(
    st.builds(shown, st.sampled_from(GatewayState)).map(Accepted),
    st.builds(Declined, st.sampled_from(DeclineCode), st.just("x"), st.just("")),
    st.builds(NotSent, st.just("x"), st.none() | st.just(HOUR)),
    st.builds(InFlight, st.none() | st.just(HOUR)),
    st.builds(Unknown, st.just("HTTP 500"), st.booleans()),
    st.just(Misconfigured("x")),
)
findings = st.one_of(
    refunds.map(Found), st.just(Absent()), st.builds(CannotTell, st.just("x"), st.booleans())
)
pasts = st.fixed_dictionaries(
    {
        "ambiguous": st.booleans(),
        "sends": st.integers(1, 40),
        "look_ups": st.integers(0, 40),
        "misses": st.integers(0, 9),
        "first_sent_at": st.timedeltas(NONE, timedelta(days=3)).map(lambda ago: NOW - ago),
        "last_sent_at": st.timedeltas(NONE, timedelta(days=3)).map(lambda ago: NOW - ago),
        "first_missed_at": st.none() | st.timedeltas(NONE, timedelta(days=3)).map(lambda ago: NOW - ago),
        "refusal_code": st.sampled_from([None, "disputed"]),
    }
)
traits_of_any = st.sampled_from(list(GATEWAYS.values()))
asked_about = st.sampled_from(
    [Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN, Status.SUCCEEDED, Status.FAILED]
)


@given(answers, pasts, traits_of_any)
def test_whatever_is_answered_leads_to_a_move_of_the_table_and_to_someone_who_goes_on(
    answer: Answer, past: dict[str, Any], traits: GatewayTraits
) -> None:
    conclusion = conclude_answer(case(**past), answer, traits)
    assert conclusion.event is None or allows(Status.PROCESSING, conclusion.event)
    ended = conclusion.event in {RefundEvent.SUCCEED, RefundEvent.FAIL}
    assert (conclusion.wait is None) is ended  # a job goes on with it, unless it has come to its end
    assert ended or conclusion.due_in is not None


@given(answers, pasts, traits_of_any)
def test_only_a_definite_no_fails_and_only_evidence_succeeds(  # promise 3
    answer: Answer, past: dict[str, Any], traits: GatewayTraits
) -> None:
    event = conclude_answer(case(**past), answer, traits).event
    if event is RefundEvent.FAIL:
        assert isinstance(answer, Declined | Accepted)
    if event is RefundEvent.SUCCEED:
        assert isinstance(answer, Accepted)
    if event is RefundEvent.NOT_SENT:
        assert isinstance(answer, NotSent | Misconfigured)
        assert not past["ambiguous"]


@given(findings, asked_about, pasts, traits_of_any)
def test_whatever_is_found_leads_to_a_move_of_the_table_and_to_someone_who_goes_on(  # adyen-magento2#1493
    finding: Finding, status: Status, past: dict[str, Any], traits: GatewayTraits
) -> None:
    conclusion, then = conclude_finding(case(status, **past), finding, traits)
    after = status if conclusion.event is None else conclusion.event
    assert conclusion.event is None or allows(status, conclusion.event)
    assert conclusion.look_ups == 1
    if then is not None:
        assert isinstance(finding, Absent)
        assert (status, traits.deduplicates) == (Status.UNKNOWN, True)
    ends = {RefundEvent.SUCCEED, RefundEvent.FAIL, RefundEvent.REVERSE, RefundEvent.TURN_OUT_DONE}
    if after not in ends | {Status.SUCCEEDED, Status.FAILED}:
        assert conclusion.wait is not None
        assert conclusion.due_in is not None
