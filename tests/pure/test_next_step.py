"""What a worker does next: every status by what is known of its attempt and how the gateway behaves.

"One tick" is a microsecond, the smallest step of the database's clock.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.gateways.protocol import GatewayTraits
from refund_service.refunds.next_step import (
    SWEEPS,
    Attempt,
    CallPerson,
    LookUp,
    LoseTrack,
    Nothing,
    Send,
    SendAgain,
    Step,
    WaitUntil,
    after_miss,
    back_off,
    believed_absent,
    inside_horizon,
    next_step,
    sweep_delay,
)
from refund_service.refunds.states import AttemptState, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HORIZON = timedelta(hours=24)

BOTH = GatewayTraits(
    idempotency="header",
    replay_horizon=HORIZON,
    lookup="by_reference",
    enough_misses=2,
    enough_miss_time=timedelta(seconds=45),
    time_limit=timedelta(seconds=20),
    in_flight_limit=timedelta(minutes=10),
)
ONLY_KEYS = replace(BOTH, lookup="none")
ONLY_LOOK_UP = replace(BOTH, idempotency="none", replay_horizon=timedelta(0))
NEITHER = replace(ONLY_LOOK_UP, lookup="none")
CARELESS = replace(ONLY_LOOK_UP, replay_horizon=HORIZON)
"""An adapter that names a horizon for keys that its gateway does not know."""

GATEWAYS = {
    "careless": CARELESS,
    "both": BOTH,
    "only keys": ONLY_KEYS,
    "only look-up": ONLY_LOOK_UP,
    "neither": NEITHER,
}
every_gateway = pytest.mark.parametrize("traits", GATEWAYS.values(), ids=GATEWAYS)


def attempt(
    state: AttemptState = AttemptState.LOST,
    *,
    sent: timedelta = timedelta(minutes=1),
    last_sent: timedelta | None = None,
    missed: timedelta | None = None,
    **more: Any,
) -> Attempt:
    """An attempt; ``sent``, ``last_sent`` and ``missed`` say how long ago it was."""
    known: dict[str, Any] = {"ambiguous": True, "sends": 1, "look_ups": 0, "misses": 0}
    return Attempt(
        state=state,
        first_sent_at=NOW - sent,
        last_sent_at=NOW - (sent if last_sent is None else last_sent),
        first_missed_at=None if missed is None else NOW - missed,
        **(known | more),
    )


def step(status: Status, sent: Attempt | None = None, traits: GatewayTraits = BOTH, **more: Any) -> Step:
    return next_step(status, sent, traits, now=NOW, **more)


def kind(taken: Step) -> type[Step]:
    return type(taken)


# Queued


@every_gateway
def test_what_is_queued_is_sent_and_what_never_left_is_sent_as_it_was(traits: GatewayTraits) -> None:
    assert step(Status.QUEUED, None, traits) == Send()
    assert step(Status.QUEUED, attempt(AttemptState.UNSENT, ambiguous=False), traits) == SendAgain()


@pytest.mark.parametrize(
    ("execute_after", "taken"),
    [
        (None, Send()),
        (NOW - TICK, Send()),
        (NOW, Send()),
        (NOW + TICK, WaitUntil(NOW + TICK)),
        (NOW + timedelta(days=30), WaitUntil(NOW + timedelta(days=30))),
    ],
)
def test_nothing_is_sent_before_its_time(execute_after: datetime | None, taken: Step) -> None:
    assert step(Status.QUEUED, execute_after=execute_after) == taken


# Processing


@every_gateway
@pytest.mark.parametrize("sent", [timedelta(0), timedelta(days=365)])
def test_a_sending_that_no_one_ended_is_lost_and_never_repeated_at_once(  # IDM-13
    traits: GatewayTraits, sent: timedelta
) -> None:
    assert kind(step(Status.PROCESSING, attempt(AttemptState.SENDING, sent=sent), traits)) is LoseTrack


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (timedelta(minutes=10) - TICK, SendAgain),
        (timedelta(minutes=10), SendAgain),
        (timedelta(minutes=10) + TICK, LoseTrack),
    ],
)
def test_in_progress_is_believed_for_as_long_as_it_may_be(sent: timedelta, taken: type[Step]) -> None:
    assert kind(step(Status.PROCESSING, attempt(AttemptState.WAITING, sent=sent))) is taken


@pytest.mark.parametrize("traits", [ONLY_LOOK_UP, CARELESS, NEITHER])
def test_in_progress_is_not_asked_again_where_it_would_act_again(traits: GatewayTraits) -> None:
    assert kind(step(Status.PROCESSING, attempt(AttemptState.WAITING), traits)) is LoseTrack


def test_in_progress_is_not_asked_again_past_the_keys_horizon() -> None:
    short = replace(BOTH, replay_horizon=timedelta(minutes=5))
    inside = attempt(AttemptState.WAITING, sent=timedelta(minutes=5) - TICK)
    past = attempt(AttemptState.WAITING, sent=timedelta(minutes=5))
    assert step(Status.PROCESSING, inside, short) == SendAgain()
    assert kind(step(Status.PROCESSING, past, short)) is LoseTrack


@pytest.mark.parametrize(
    ("traits", "taken"),
    [
        (BOTH, LookUp()),
        (ONLY_LOOK_UP, LookUp()),
        (ONLY_KEYS, CallPerson("waits_for_notification")),
        (NEITHER, CallPerson("waits_for_notification")),
    ],
)
def test_what_the_gateway_has_is_asked_after(traits: GatewayTraits, taken: Step) -> None:
    assert step(Status.PROCESSING, attempt(AttemptState.PENDING), traits) == taken


@pytest.mark.parametrize(
    ("traits", "taken"),
    [
        (BOTH, LookUp()),
        (ONLY_LOOK_UP, LookUp()),
        (ONLY_KEYS, CallPerson("waits_for_customer")),
        (NEITHER, CallPerson("waits_for_customer")),
    ],
)
def test_what_waits_for_the_customer_is_looked_up(traits: GatewayTraits, taken: Step) -> None:
    assert step(Status.REQUIRES_ACTION, attempt(AttemptState.PENDING), traits) == taken


TOLD = replace(ONLY_KEYS, notified_within=timedelta(hours=6))


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (timedelta(hours=6) - TICK, WaitUntil(NOW + TICK)),
        (timedelta(hours=6), CallPerson("waits_for_notification")),
    ],
)
def test_a_gateway_that_tells_by_itself_is_given_its_time(sent: timedelta, taken: Step) -> None:
    assert step(Status.PROCESSING, attempt(AttemptState.PENDING, sent=sent), TOLD) == taken


BY_ID = replace(BOTH, lookup="by_id")


def test_a_refund_that_is_found_by_its_id_alone_is_looked_up_once_that_is_known() -> None:
    for status in (Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN):
        known = attempt(AttemptState.PENDING, gateway_refund_id="re_1")
        assert step(status, known, BY_ID) == LookUp()
    assert step(Status.UNKNOWN, attempt(), BY_ID) == SendAgain()
    assert step(Status.PROCESSING, attempt(AttemptState.PENDING), BY_ID) == CallPerson(
        "waits_for_notification"
    )
    assert step(Status.SUCCEEDED, attempt(AttemptState.DONE), BY_ID) == Nothing()


# Unknown


@pytest.mark.parametrize("traits", [BOTH, ONLY_LOOK_UP])
@pytest.mark.parametrize("sent", [timedelta(0), HORIZON, timedelta(days=365)])
def test_what_is_unknown_is_looked_up_before_anything_else(  # UNK-01
    traits: GatewayTraits, sent: timedelta
) -> None:
    believed = attempt(sent=sent, misses=99, missed=timedelta(days=1))
    assert step(Status.UNKNOWN, attempt(sent=sent), traits) == LookUp()
    assert step(Status.UNKNOWN, believed, traits) == LookUp()


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (timedelta(0), SendAgain()),
        (HORIZON - TICK, SendAgain()),
        (HORIZON, CallPerson("past_replay_horizon")),
        (HORIZON + TICK, CallPerson("past_replay_horizon")),
    ],
)
def test_without_a_look_up_the_same_bytes_are_sent_again_inside_the_horizon(
    sent: timedelta, taken: Step
) -> None:
    assert step(Status.UNKNOWN, attempt(sent=sent), ONLY_KEYS) == taken


def test_with_neither_a_person_is_called_at_once() -> None:  # GWP-05
    assert step(Status.UNKNOWN, attempt(sent=timedelta(0)), NEITHER) == CallPerson("cannot_be_looked_up")


# A look-up that found nothing

ENOUGH = attempt(sent=timedelta(hours=1), look_ups=2, misses=2, missed=timedelta(seconds=45))


@pytest.mark.parametrize(
    ("missed", "believed"),
    [
        (ENOUGH, True),
        (replace(ENOUGH, misses=3), True),
        (replace(ENOUGH, misses=1), False),
        (replace(ENOUGH, first_missed_at=NOW - timedelta(seconds=45) - TICK), True),
        (replace(ENOUGH, first_missed_at=NOW - timedelta(seconds=45) + TICK), False),
        (replace(ENOUGH, first_missed_at=None), False),
        # A sender that was frozen right before its call may still send until its time is up.
        (replace(ENOUGH, last_sent_at=NOW - timedelta(seconds=20) - TICK), True),
        (replace(ENOUGH, last_sent_at=NOW - timedelta(seconds=20)), False),
    ],
)
def test_not_there_is_believed_after_enough_misses_over_enough_time(  # GWP-02
    missed: Attempt, believed: bool
) -> None:
    assert believed_absent(missed, BOTH, NOW) is believed
    assert (kind(after_miss(missed, BOTH, now=NOW)) is SendAgain) is believed


@pytest.mark.parametrize(
    ("traits", "sent", "taken"),
    [
        (BOTH, HORIZON - TICK, SendAgain()),
        (BOTH, HORIZON, CallPerson("not_found_at_gateway")),
        (ONLY_LOOK_UP, timedelta(hours=1), CallPerson("not_found_at_gateway")),  # GWP-04
        (CARELESS, timedelta(hours=1), CallPerson("not_found_at_gateway")),
    ],
)
def test_what_is_not_there_is_sent_again_only_where_its_key_is_surely_known(
    traits: GatewayTraits, sent: timedelta, taken: Step
) -> None:
    assert after_miss(replace(ENOUGH, first_sent_at=NOW - sent), traits, now=NOW) == taken


@pytest.mark.parametrize("traits", [BOTH, ONLY_LOOK_UP])
def test_a_refusal_after_a_doubt_is_believed_once_the_look_ups_agree(traits: GatewayTraits) -> None:
    refused = replace(ENOUGH, refusal_code="disputed")
    assert after_miss(refused, traits, now=NOW) == Nothing()
    assert kind(after_miss(replace(refused, misses=1), traits, now=NOW)) is WaitUntil


@pytest.mark.parametrize("look_ups", range(1, 40))
def test_the_next_look_up_follows_the_sweeps(look_ups: int) -> None:
    early = replace(ENOUGH, look_ups=look_ups, misses=1)
    assert after_miss(early, BOTH, now=NOW) == WaitUntil(NOW + sweep_delay(look_ups))


def test_the_sweeps_are_the_designs() -> None:
    hour = timedelta(hours=1)
    first = [timedelta(seconds=15), timedelta(seconds=60), timedelta(minutes=5), timedelta(minutes=15), hour]
    assert list(SWEEPS[:5]) == first
    assert set(SWEEPS[4:]) == {hour}
    assert sum(SWEEPS[4:], timedelta(0)) == timedelta(days=1)
    assert sweep_delay(0) == timedelta(seconds=15)
    assert sweep_delay(len(SWEEPS) - 1) == hour
    assert sweep_delay(len(SWEEPS)) == sweep_delay(10_000) == timedelta(hours=6)


# The ends


@every_gateway
@pytest.mark.parametrize(
    "status", [Status.AWAITING_APPROVAL, Status.CANCELED, Status.REJECTED, Status.EXPIRED, Status.REVERSED]
)
def test_what_is_not_to_be_sent_is_left_alone(status: Status, traits: GatewayTraits) -> None:
    assert step(status, None, traits) == step(status, attempt(AttemptState.DONE), traits) == Nothing()


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_an_end_is_asked_after_once_more_where_it_can_be(status: Status) -> None:
    assert step(status, attempt(AttemptState.DONE)) == LookUp()
    assert step(status, attempt(AttemptState.DONE), ONLY_KEYS) == Nothing()
    assert step(status, None) == Nothing()


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.UNKNOWN])
def test_what_was_sent_without_an_attempt_is_an_error_of_ours(status: Status) -> None:
    with pytest.raises(ValueError, match="attempt"):
        step(status, None)


@pytest.mark.parametrize(
    ("sends", "seconds"), [(1, 1), (2, 2), (3, 4), (8, 128), (9, 256), (10, 300), (11, 300), (10_000, 300)]
)
def test_what_did_not_leave_is_tried_after_twice_the_time_up_to_five_minutes(
    sends: int, seconds: int
) -> None:
    assert back_off(sends) == timedelta(seconds=seconds)


# What holds for everything

ages = st.timedeltas(timedelta(0), timedelta(days=40))
attempts = st.builds(
    attempt,
    st.sampled_from(AttemptState),
    sent=ages,
    last_sent=ages,
    missed=st.none() | ages,
    ambiguous=st.booleans(),
    sends=st.integers(1, 50),
    look_ups=st.integers(0, 50),
    misses=st.integers(0, 50),
    refusal_code=st.sampled_from([None, "disputed"]),
)


@given(
    st.sampled_from([Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN]),
    attempts,
    st.sampled_from(list(GATEWAYS.values())),
)
def test_what_may_have_arrived_is_sent_again_only_under_a_key_that_is_known(
    status: Status, sent: Attempt, traits: GatewayTraits
) -> None:
    """Promise 2: whatever is known of an attempt, a second sending can never act a second time."""
    again = step(status, sent, traits)
    assert again != Send()
    if again == SendAgain():
        assert traits.deduplicates
        assert inside_horizon(sent, traits, NOW)
        assert sent.state is not AttemptState.SENDING or status is Status.UNKNOWN


@given(attempts, st.sampled_from([BOTH, ONLY_LOOK_UP]))
def test_after_a_miss_nothing_is_sent_that_may_still_turn_up(missed: Attempt, traits: GatewayTraits) -> None:
    if after_miss(missed, traits, now=NOW) == SendAgain():
        assert traits.deduplicates
        assert inside_horizon(missed, traits, NOW)
        assert believed_absent(missed, traits, NOW)
        assert missed.refusal_code is None
