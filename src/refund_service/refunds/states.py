"""The life of a refund as one table. Everything else about statuses is derived from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a refund stands."""

    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REVERSED = "reversed"


class Outcome(StrEnum):
    """What a status comes to, for clients that meet one they do not know."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class RefundEvent(StrEnum):
    """What can happen to a refund."""

    REQUEST = "request"
    REQUEST_APPROVAL = "request_approval"
    APPROVE = "approve"
    REJECT = "reject"
    EXPIRE = "expire"
    CANCEL = "cancel"
    SUBMIT = "submit"
    RESUBMIT = "resubmit"
    NOT_SENT = "not_sent"
    LOSE_TRACK = "lose_track"
    FIND_PENDING = "find_pending"
    NEED_ACTION = "need_action"
    SUCCEED = "succeed"
    FAIL = "fail"
    REVERSE = "reverse"
    TURN_OUT_DONE = "turn_out_done"
    RETRY = "retry"


class AttemptState(StrEnum):
    """What is known of the latest sending of an attempt."""

    SENDING = "sending"  # marked as being sent; no answer written down yet
    UNSENT = "unsent"  # nothing left this machine
    WAITING = "waiting"  # the gateway is still working on an earlier sending
    PENDING = "pending"  # the gateway has it and has not finished
    LOST = "lost"  # no one can say
    DONE = "done"
    REFUSED = "refused"


_S, _E = Status, RefundEvent

TRANSITIONS: Final[dict[tuple[Status | None, RefundEvent], Status]] = {
    (None, _E.REQUEST): _S.QUEUED,
    (None, _E.REQUEST_APPROVAL): _S.AWAITING_APPROVAL,
    (_S.AWAITING_APPROVAL, _E.APPROVE): _S.QUEUED,
    (_S.AWAITING_APPROVAL, _E.REJECT): _S.REJECTED,
    (_S.AWAITING_APPROVAL, _E.EXPIRE): _S.EXPIRED,
    (_S.AWAITING_APPROVAL, _E.CANCEL): _S.CANCELED,
    (_S.QUEUED, _E.CANCEL): _S.CANCELED,
    (_S.QUEUED, _E.SUBMIT): _S.PROCESSING,
    # Only when nothing left this machine, and no earlier sending of the attempt was ambiguous.
    (_S.PROCESSING, _E.NOT_SENT): _S.QUEUED,
    (_S.PROCESSING, _E.NEED_ACTION): _S.REQUIRES_ACTION,
    (_S.PROCESSING, _E.LOSE_TRACK): _S.UNKNOWN,
    (_S.PROCESSING, _E.SUCCEED): _S.SUCCEEDED,
    (_S.PROCESSING, _E.FAIL): _S.FAILED,
    (_S.REQUIRES_ACTION, _E.FIND_PENDING): _S.PROCESSING,
    (_S.REQUIRES_ACTION, _E.LOSE_TRACK): _S.UNKNOWN,
    (_S.REQUIRES_ACTION, _E.SUCCEED): _S.SUCCEEDED,
    (_S.REQUIRES_ACTION, _E.FAIL): _S.FAILED,
    # The same attempt under the same key, once the look-ups have missed often and long enough.
    (_S.UNKNOWN, _E.RESUBMIT): _S.PROCESSING,
    (_S.UNKNOWN, _E.FIND_PENDING): _S.PROCESSING,
    (_S.UNKNOWN, _E.NEED_ACTION): _S.REQUIRES_ACTION,
    (_S.UNKNOWN, _E.SUCCEED): _S.SUCCEEDED,
    (_S.UNKNOWN, _E.FAIL): _S.FAILED,
    (_S.SUCCEEDED, _E.REVERSE): _S.REVERSED,
    # By the gateway's evidence only: it raises the payment's excess where the hold was given away.
    (_S.FAILED, _E.TURN_OUT_DONE): _S.SUCCEEDED,
    (_S.FAILED, _E.RETRY): _S.QUEUED,
}

HOLDING: Final = frozenset(
    {Status.AWAITING_APPROVAL, Status.QUEUED, Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN}
)
"""While it stands here, the refund's amount is set aside on its payment."""

COUNTED: Final = frozenset({Status.SUCCEEDED})
"""While it stands here, the refund's amount counts as given back."""

LEFT_THE_HOUSE: Final = frozenset({Status.PROCESSING, Status.REQUIRES_ACTION, Status.UNKNOWN})
"""The gateway may have it: it can no longer be stopped here."""

_OUTCOMES: Final = dict.fromkeys(HOLDING, Outcome.OPEN) | {
    Status.SUCCEEDED: Outcome.SUCCEEDED,
    Status.FAILED: Outcome.FAILED,
    Status.REVERSED: Outcome.FAILED,
    Status.CANCELED: Outcome.STOPPED,
    Status.REJECTED: Outcome.STOPPED,
    Status.EXPIRED: Outcome.STOPPED,
}


class NotAllowed(ValueError):
    """The table has no such move."""


def move(status: Status | None, event: RefundEvent) -> Status:
    """The status that ``event`` leads to from ``status``."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise NotAllowed(f"{event} from {status}") from None


def sending_event(status: Status) -> RefundEvent | None:
    """The move that a sending makes from ``status``; ``None`` where it is being sent already."""
    return {Status.QUEUED: RefundEvent.SUBMIT, Status.UNKNOWN: RefundEvent.RESUBMIT}.get(status)


def allows(status: Status | None, event: RefundEvent) -> bool:
    """Whether ``event`` may happen to a refund that stands at ``status``."""
    return (status, event) in TRANSITIONS


def outcome(status: Status) -> Outcome:
    """What a status comes to."""
    return _OUTCOMES[status]


def statuses_of(wanted: Outcome) -> list[Status]:
    """The statuses that come to ``wanted``."""
    return [status for status in Status if _OUTCOMES[status] is wanted]


def hold_change(before: Status | None, after: Status, amount: int) -> int:
    """By how many minor units the payment's ``held`` changes with this move."""
    return amount * ((after in HOLDING) - (before in HOLDING))


def refunded_change(before: Status | None, after: Status, amount: int) -> int:
    """By how many minor units the payment's ``refunded`` changes with this move."""
    return amount * ((after in COUNTED) - (before in COUNTED))
