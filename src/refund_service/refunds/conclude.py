"""What an answer or a finding means for a refund: pure, so that every row of the table can be tried.

This is the table "what the gateway said → what we do" of the design, and the heart of the
service: silence is not a no, and nothing is sent anew that might have arrived.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

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
from refund_service.gateways.protocol import GatewayTraits
from refund_service.refunds.case import Case
from refund_service.refunds.next_step import (
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
    sweep_delay,
)
from refund_service.refunds.states import AttemptState, RefundEvent, Status

AT_ONCE: Final = timedelta(0)
ASK_PERSON_AGAIN: Final = timedelta(hours=6)
PAUSED_FOR: Final = timedelta(seconds=30)
IN_FLIGHT_FOR: Final = timedelta(seconds=5)
UNKNOWN_IS_LATE_AFTER: Final = timedelta(hours=1)
UNSENT_IS_LONG_AFTER: Final = 10
"""Sendings that never left before a person is called."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the gateway, for whoever asks later what was said."""

    kind: str
    result: str
    detail: str
    called_at: datetime
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a worker concludes about a refund; ``None`` leaves things as they are."""

    event: RefundEvent | None = None
    attempt_state: AttemptState | None = None
    ambiguous: bool = False
    look_ups: int = 0
    """By how many the attempt's count rises."""
    missed: bool | None = None
    """A look-up that answered "not there" counts a miss; one that found it clears them."""
    refusal: tuple[str, str] | None = None
    """A refusal that came after a doubt: kept until the look-ups agree."""
    gateway_refund_id: str | None = None
    bank_reference: BankReference | None = None
    failure: tuple[str, str] | None = None
    attention: str | None = None
    calm: bool = False
    """What a person was called for is over."""
    due_in: timedelta | None = None
    wait: timedelta | None = None
    """When the job is due again; ``None`` where it is done."""
    because: str | None = None
    call: Call | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """What the event tells besides."""


def conclude_answer(case: Case, answer: Answer, traits: GatewayTraits) -> Conclusion:
    """What the answer to a sending comes to. ``case`` stands at ``processing``, the attempt counted."""
    attempt = case.attempt
    if attempt is None:
        raise ValueError("an answer belongs to an attempt")
    match answer:
        case Accepted(refund):
            return conclude_state(case, refund, traits)
        case Declined(code, gateway_code):
            return _declined(attempt, code, gateway_code, traits)
        case NotSent(_, after):
            return _not_sent(attempt, max(after or AT_ONCE, back_off(attempt.sends)))
        case Misconfigured():
            return replace(_not_sent(attempt, PAUSED_FOR), attention="gateway_account_paused")
        case InFlight(after):
            return Conclusion(
                attempt_state=AttemptState.WAITING,
                ambiguous=True,
                due_in=traits.in_flight_limit,
                wait=after or IN_FLIGHT_FOR,
            )
        case Unknown(differs=differs):
            # Silence is not a no: the hold stays until we have looked it up.
            return _lost(traits, mismatch=differs, sends=attempt.sends)
        case _:
            assert_never(answer)


def conclude_finding(case: Case, finding: Finding, traits: GatewayTraits) -> tuple[Conclusion, Step | None]:
    """What a look-up comes to, and the step to take right after it, if any."""
    attempt = case.attempt
    if attempt is None:
        raise ValueError("a look-up belongs to an attempt")
    match finding:
        case Found(refund):
            if _differs(case, refund):
                return _mismatched(case, attempt), None
            return replace(conclude_state(case, refund, traits), look_ups=1, missed=False), None
        case CannotTell(differs=differs):
            if differs:
                return _mismatched(case, attempt), None
            return _asked_in_vain(case, attempt), None
        case Absent():
            return _absent(case, attempt, traits)
        case _:
            assert_never(finding)


def conclude_state(case: Case, refund: GatewayRefund, traits: GatewayTraits) -> Conclusion:
    """What the gateway's own state of the refund comes to."""
    known = Conclusion(gateway_refund_id=refund.id, bank_reference=refund.bank_reference)
    match refund.state:
        case GatewayState.PENDING | GatewayState.REQUIRES_ACTION:
            return _under_way(case, refund.state, known, traits)
        case GatewayState.SUCCEEDED:
            if case.status is Status.SUCCEEDED:
                return known
            if case.status is Status.FAILED:
                return replace(
                    known,
                    event=RefundEvent.TURN_OUT_DONE,
                    attempt_state=AttemptState.DONE,
                    attention="succeeded_after_failure",
                )
            return replace(known, event=RefundEvent.SUCCEED, attempt_state=AttemptState.DONE)
        case GatewayState.FAILED | GatewayState.CANCELED:
            if case.status is Status.FAILED:
                return replace(known, calm=case.attention == PENDING_AFTER_FAILURE)
            failed_as = DeclineCode.OTHER.value, refund.state.value
            return replace(
                known,
                event=RefundEvent.REVERSE if case.status is Status.SUCCEEDED else RefundEvent.FAIL,
                attempt_state=AttemptState.REFUSED,
                failure=(refund.failure[0].value, refund.failure[1]) if refund.failure else failed_as,
            )
        case _:
            assert_never(refund.state)


def _under_way(case: Case, state: GatewayState, known: Conclusion, traits: GatewayTraits) -> Conclusion:
    if case.status is Status.SUCCEEDED:
        return known
    if case.status is Status.FAILED:
        return replace(known, attention=PENDING_AFTER_FAILURE, wait=traits.poll_after(case.look_ups))
    event: RefundEvent | None
    if state is GatewayState.PENDING:
        back = case.status in {Status.UNKNOWN, Status.REQUIRES_ACTION}
        event, window = RefundEvent.FIND_PENDING if back else None, traits.arrives_within
    else:
        known_so = case.status is Status.REQUIRES_ACTION
        event, window = None if known_so else RefundEvent.NEED_ACTION, traits.action_window
    return replace(
        known, event=event, attempt_state=AttemptState.PENDING, due_in=window, wait=_next_poll(case, traits)
    )


def _next_poll(case: Case, traits: GatewayTraits) -> timedelta:
    """When a refund that the gateway works on is asked after again, or a person called for it."""
    if traits.sees(id_known=True) or traits.notified_within is None:
        return traits.poll_after(case.look_ups)
    return traits.notified_within


PENDING_AFTER_FAILURE: Final = "pending_after_failure"
"""The gateway works on what it had refused: until that ends, a retry could pay twice."""


def conclude_lost(traits: GatewayTraits, why: str) -> Conclusion:
    """A sending whose end no one wrote down: looked up at once."""
    return replace(_lost(traits, mismatch=False), wait=AT_ONCE, because=why)


def conclude_taken(case: Case, said: Conclusion) -> Conclusion:
    """The gateway named a refund of its own that is another refund of ours already."""
    lose = case.status is Status.PROCESSING or case.status is Status.REQUIRES_ACTION
    return Conclusion(
        event=RefundEvent.LOSE_TRACK if lose else None,
        attempt_state=AttemptState.LOST if lose else None,
        ambiguous=True,
        look_ups=said.look_ups,
        attention="gateway_reference_taken",
        due_in=ASK_PERSON_AGAIN,
        wait=ASK_PERSON_AGAIN,
        call=said.call,
    )


def conclude_person(attention: str) -> Conclusion:
    """No machine may do more; what the gateway tells by itself can still settle it."""
    return Conclusion(attention=attention, due_in=ASK_PERSON_AGAIN, wait=ASK_PERSON_AGAIN)


def _declined(attempt: Attempt, code: DeclineCode, gateway_code: str, traits: GatewayTraits) -> Conclusion:
    # "Already refunded" is most likely our own; and a no that follows a doubt may answer the
    # second sending while the first one moved the money. Both are looked up before they count.
    doubtful = code is DeclineCode.ALREADY_REFUNDED or (attempt.ambiguous and traits.looks_up)
    if not doubtful:
        return Conclusion(
            event=RefundEvent.FAIL, attempt_state=AttemptState.REFUSED, failure=(code.value, gateway_code)
        )
    return replace(_lost(traits, mismatch=False, sends=attempt.sends), refusal=(code.value, gateway_code))


def _not_sent(attempt: Attempt, wait: timedelta) -> Conclusion:
    attention = "not_sent_for_long" if attempt.sends >= UNSENT_IS_LONG_AFTER else None
    if attempt.ambiguous:
        # This sending did nothing, but an earlier one of the same attempt may have.
        return Conclusion(
            event=RefundEvent.LOSE_TRACK,
            attempt_state=AttemptState.LOST,
            attention=attention,
            due_in=UNKNOWN_IS_LATE_AFTER,
            wait=wait,
        )
    return Conclusion(
        event=RefundEvent.NOT_SENT,
        attempt_state=AttemptState.UNSENT,
        attention=attention,
        due_in=UNKNOWN_IS_LATE_AFTER,
        wait=wait,
    )


def _lost(traits: GatewayTraits, *, mismatch: bool, sends: int = 1) -> Conclusion:
    attention = "answer_differs" if mismatch else None
    # Where there is nothing to ask, the same bytes are sent again: ever more rarely, as look-ups are.
    wait = sweep_delay(0 if traits.looks_up else sends - 1)
    if not traits.looks_up and not traits.deduplicates:
        attention, wait = attention or "cannot_be_looked_up", ASK_PERSON_AGAIN
    return Conclusion(
        event=RefundEvent.LOSE_TRACK,
        attempt_state=AttemptState.LOST,
        ambiguous=True,
        attention=attention,
        due_in=UNKNOWN_IS_LATE_AFTER,
        wait=wait,
    )


def _absent(case: Case, attempt: Attempt, traits: GatewayTraits) -> tuple[Conclusion, Step | None]:
    if case.status in {Status.SUCCEEDED, Status.FAILED}:
        return _end_unseen(case, attempt), None
    if case.status is not Status.UNKNOWN:
        # The gateway had it and shows it no more.
        return replace(_lost(traits, mismatch=False), look_ups=1, missed=True), None

    counted = replace(
        attempt,
        look_ups=attempt.look_ups + 1,
        misses=attempt.misses + 1,
        first_missed_at=attempt.first_missed_at or case.now,
    )
    missed = Conclusion(look_ups=1, missed=True, due_in=UNKNOWN_IS_LATE_AFTER)
    step = after_miss(counted, traits, now=case.now)
    match step:
        case WaitUntil(moment):
            return replace(missed, wait=moment - case.now), None
        case SendAgain():
            return replace(missed, wait=AT_ONCE), step
        case CallPerson(attention):
            return replace(missed, attention=attention, wait=ASK_PERSON_AGAIN), None
        case Nothing():
            code, gateway_code = attempt.refusal_code or "other", attempt.refusal_gateway_code or ""
            return (
                replace(
                    missed,
                    event=RefundEvent.FAIL,
                    attempt_state=AttemptState.REFUSED,
                    failure=(code, gateway_code),
                    due_in=None,
                ),
                None,
            )
        case Send() | LookUp() | LoseTrack():
            raise ValueError(f"a miss does not lead to {step}")
        case _:
            assert_never(step)


def _mismatched(case: Case, attempt: Attempt) -> Conclusion:
    lose = case.status not in {Status.UNKNOWN, Status.SUCCEEDED, Status.FAILED}
    return Conclusion(
        event=RefundEvent.LOSE_TRACK if lose else None,
        attempt_state=AttemptState.LOST if lose else None,
        ambiguous=True,
        look_ups=1,
        attention="answer_differs",
        due_in=ASK_PERSON_AGAIN,
        wait=sweep_delay(attempt.look_ups + 1),
    )


def _asked_in_vain(case: Case, attempt: Attempt) -> Conclusion:
    if case.status in {Status.SUCCEEDED, Status.FAILED}:
        return _end_unseen(case, attempt)
    return Conclusion(look_ups=1, due_in=UNKNOWN_IS_LATE_AFTER, wait=sweep_delay(attempt.look_ups + 1))


def _end_unseen(case: Case, attempt: Attempt) -> Conclusion:
    """An end stands though a look-up shows nothing; one that came alive again is asked after on."""
    if case.attention != PENDING_AFTER_FAILURE:
        return Conclusion(look_ups=1)
    return Conclusion(look_ups=1, wait=sweep_delay(attempt.look_ups + 1))


def _differs(case: Case, refund: GatewayRefund) -> bool:
    return (
        refund.amount != case.amount
        or refund.payment_reference != case.gateway_payment_id
        or refund.our_reference != str(case.key)
    )
