"""What a payment holds and has given back, over every life that a refund can have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from refund_service.refunds.states import (
    TRANSITIONS,
    RefundEvent,
    Status,
    hold_change,
    refunded_change,
)

AMOUNT = 1250
HOLDS = {
    Status.AWAITING_APPROVAL,
    Status.QUEUED,
    Status.PROCESSING,
    Status.REQUIRES_ACTION,
    Status.UNKNOWN,
}


def lives(longest: int) -> list[list[Status]]:
    """Every sequence of statuses up to so many moves, from the request on."""
    found: list[list[Status]] = [[after] for (before, _), after in TRANSITIONS.items() if before is None]
    waiting = list(found)
    while waiting:
        life = waiting.pop()
        if len(life) == longest:
            continue
        for (before, _), after in TRANSITIONS.items():
            if before is life[-1]:
                waiting.append([*life, after])
                found.append([*life, after])
    return found


def test_after_any_life_held_and_refunded_are_what_the_status_says() -> None:  # INV-01, INV-02
    for life in lives(11):
        held = refunded = 0
        before: Status | None = None
        for after in life:
            held += hold_change(before, after, AMOUNT)
            refunded += refunded_change(before, after, AMOUNT)
            # Never below nothing, never more than once, at no moment of the way.
            assert (held, refunded) == (AMOUNT * (after in HOLDS), AMOUNT * (after is Status.SUCCEEDED)), life
            before = after


@given(
    st.sampled_from([(before, after) for (before, _), after in TRANSITIONS.items()]), st.integers(1, 10**12)
)
def test_a_move_changes_by_the_amount_or_not_at_all(move: tuple[Status | None, Status], amount: int) -> None:
    before, after = move
    assert hold_change(before, after, amount) in {-amount, 0, amount}
    assert refunded_change(before, after, amount) in {-amount, 0, amount}


def test_no_move_gives_back_what_it_still_holds() -> None:
    for (before, event), after in TRANSITIONS.items():
        held, refunded = hold_change(before, after, AMOUNT), refunded_change(before, after, AMOUNT)
        if event is RefundEvent.SUCCEED:
            assert (held, refunded) == (-AMOUNT, AMOUNT)
        elif event is RefundEvent.TURN_OUT_DONE:
            # The hold was given back when it failed: only what the gateway shows is counted.
            assert (held, refunded) == (0, AMOUNT)
        elif event is RefundEvent.REVERSE:
            assert (held, refunded) == (0, -AMOUNT)
        else:
            assert refunded == 0
