"""The table of a refund's life, compared with the design's: every status by every event."""

from __future__ import annotations

import pytest

from refund_service.refunds.states import (
    COUNTED,
    HOLDING,
    LEFT_THE_HOUSE,
    TRANSITIONS,
    NotAllowed,
    Outcome,
    RefundEvent,
    Status,
    allows,
    move,
    outcome,
    statuses_of,
)

# The design's words, written down a second time on purpose: a slip in the table is a slip here or there.
LIVES = """
nothing              request           queued
nothing              request_approval  awaiting_approval
awaiting_approval    approve           queued
awaiting_approval    reject            rejected
awaiting_approval    expire            expired
awaiting_approval    cancel            canceled
queued               cancel            canceled
queued               submit            processing
processing           not_sent          queued
processing           need_action       requires_action
processing           lose_track        unknown
processing           succeed           succeeded
processing           fail              failed
requires_action      find_pending      processing
requires_action      lose_track        unknown
requires_action      succeed           succeeded
requires_action      fail              failed
unknown              resubmit          processing
unknown              find_pending      processing
unknown              need_action       requires_action
unknown              succeed           succeeded
unknown              fail              failed
succeeded            reverse           reversed
failed               turn_out_done     succeeded
failed               retry             queued
"""
ALLOWED = {
    (None if before == "nothing" else Status(before), RefundEvent(event)): Status(after)
    for before, event, after in (line.split() for line in LIVES.strip().splitlines())
}
PAIRS = [(before, event) for before in (None, *Status) for event in RefundEvent]


@pytest.mark.parametrize(("before", "event"), PAIRS, ids=lambda one: str(one or "nothing"))
def test_exactly_the_moves_of_the_table_are_allowed(
    before: Status | None, event: RefundEvent
) -> None:  # INV-09
    assert allows(before, event) is ((before, event) in ALLOWED)
    if (before, event) in ALLOWED:
        assert move(before, event) is ALLOWED[before, event]
    else:
        with pytest.raises(NotAllowed, match=event.value):
            move(before, event)


def test_the_statuses_and_outcomes_are_the_designs() -> None:
    comes_to = {
        "awaiting_approval": "open",
        "queued": "open",
        "processing": "open",
        "requires_action": "open",
        "unknown": "open",
        "succeeded": "succeeded",
        "failed": "failed",
        "canceled": "stopped",
        "rejected": "stopped",
        "expired": "stopped",
        "reversed": "failed",
    }
    assert {status.value: outcome(status).value for status in Status} == comes_to


def test_every_outcome_has_its_statuses_and_every_status_one_outcome() -> None:
    listed = [status for wanted in Outcome for status in statuses_of(wanted)]
    assert sorted(listed) == sorted(Status)


def test_every_status_can_be_reached_and_every_event_can_happen() -> None:
    reached: set[Status | None] = {None}
    while more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached:
        reached |= more
    assert reached == {None, *Status}
    assert {event for _, event in TRANSITIONS} == set(RefundEvent)


def test_nothing_leads_out_of_a_final_status() -> None:  # INV-09
    final = set(Status) - {before for before, _ in TRANSITIONS}
    assert final == {Status.CANCELED, Status.REJECTED, Status.EXPIRED, Status.REVERSED}
    assert all(outcome(status) is not Outcome.OPEN for status in final)


def test_what_came_to_an_end_moves_on_by_evidence_or_retry_only() -> None:
    after_the_end = {
        (before, event) for before, event in TRANSITIONS if before and outcome(before) is not Outcome.OPEN
    }
    assert after_the_end == {
        (Status.SUCCEEDED, RefundEvent.REVERSE),
        (Status.FAILED, RefundEvent.TURN_OUT_DONE),
        (Status.FAILED, RefundEvent.RETRY),
    }


def test_every_open_status_leads_to_an_end() -> None:
    leads_on = {
        status: {after for (before, _), after in TRANSITIONS.items() if before is status} for status in Status
    }
    ended = {status for status in Status if outcome(status) is not Outcome.OPEN}
    while more := {status for status in Status if leads_on[status] & ended} - ended:
        ended |= more
    assert ended == set(Status)


def test_what_may_have_left_the_house_is_never_stopped_by_us() -> None:  # UNK-09
    assert {Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN} == LEFT_THE_HOUSE
    stops = {RefundEvent.CANCEL, RefundEvent.REJECT, RefundEvent.EXPIRE}
    assert not [
        (before, event) for before, event in TRANSITIONS if before in LEFT_THE_HOUSE and event in stops
    ]


def test_a_refund_leaves_the_house_only_by_being_submitted() -> None:
    inside = {None, Status.AWAITING_APPROVAL, Status.QUEUED}
    leaving = {
        (before, event): after
        for (before, event), after in TRANSITIONS.items()
        if before in inside and after in LEFT_THE_HOUSE | COUNTED
    }
    assert leaving == {(Status.QUEUED, RefundEvent.SUBMIT): Status.PROCESSING}


def test_holding_is_being_open_and_counted_is_having_succeeded() -> None:
    assert set(statuses_of(Outcome.OPEN)) == HOLDING
    assert set(statuses_of(Outcome.SUCCEEDED)) == COUNTED
