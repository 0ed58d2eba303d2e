"""What a worker does next about a refund: decided from plain values, the database's time among them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from refund_service.gateways.protocol import GatewayTraits
from refund_service.refunds.states import AttemptState, Status

_HOURLY: Final = timedelta(hours=1)
_LATER: Final = timedelta(hours=6)
SWEEPS: Final = (
    timedelta(seconds=15),
    timedelta(seconds=60),
    timedelta(minutes=5),
    timedelta(minutes=15),
    *[_HOURLY] * 24,
)
"""How long after one look-up the next one follows; every six hours once these are used up."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The current generation's attempt as it was read."""

    state: AttemptState
    ambiguous: bool
    sends: int
    first_sent_at: datetime
    last_sent_at: datetime
    look_ups: int
    misses: int
    first_missed_at: datetime | None
    refusal_code: str | None = None
    refusal_gateway_code: str | None = None
    gateway_refund_id: str | None = None
    """The gateway's own id of what this attempt made there."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write the attempt down and send it for the first time."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Send the very same bytes under the very same key."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the gateway what became of it."""


@dataclass(frozen=True, slots=True)
class LoseTrack:
    """Write down that no one knows, and look it up."""

    why: str


@dataclass(frozen=True, slots=True)
class CallPerson:
    """No machine may do more: say so and wait."""

    attention: str


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Too early."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class Nothing:
    """Its end is known."""


Step = Send | SendAgain | LookUp | LoseTrack | CallPerson | WaitUntil | Nothing


def next_step(
    status: Status,
    attempt: Attempt | None,
    traits: GatewayTraits,
    *,
    now: datetime,
    execute_after: datetime | None = None,
) -> Step:
    """The step that the table in DESIGN 6 demands. ``now`` is the database's."""
    match status:
        case Status.QUEUED:
            if execute_after is not None and execute_after > now:
                return WaitUntil(execute_after)
            return Send() if attempt is None else SendAgain()
        case Status.PROCESSING:
            return _while_processing(attempt, traits, now)
        case Status.REQUIRES_ACTION:
            return LookUp() if _sees(attempt, traits) else CallPerson("waits_for_customer")
        case Status.UNKNOWN:
            return _while_unknown(attempt, traits, now)
        case Status.SUCCEEDED | Status.FAILED:
            # Asked after once more, by hand: a success can turn, and so can a failure.
            return LookUp() if attempt is not None and _sees(attempt, traits) else Nothing()
        case Status.AWAITING_APPROVAL | Status.CANCELED | Status.REJECTED | Status.EXPIRED | Status.REVERSED:
            return Nothing()
        case _:
            assert_never(status)


def _while_processing(attempt: Attempt | None, traits: GatewayTraits, now: datetime) -> Step:
    if attempt is None:
        raise ValueError("a refund in processing has an attempt")
    if attempt.state is AttemptState.SENDING:
        # Whoever marked it did not write down what came back: it may have arrived.
        return LoseTrack("the worker that was sending it did not come back")
    if attempt.state is AttemptState.WAITING:
        if now - attempt.first_sent_at > traits.in_flight_limit:
            return LoseTrack("in progress for longer than it may be")
        if traits.deduplicates and inside_horizon(attempt, traits, now):
            return SendAgain()
        return LoseTrack("in progress, and the gateway would not recognise it again")
    if _sees(attempt, traits):
        return LookUp()
    told_by = attempt.last_sent_at + traits.notified_within if traits.notified_within else now
    return WaitUntil(told_by) if told_by > now else CallPerson("waits_for_notification")


def _while_unknown(attempt: Attempt | None, traits: GatewayTraits, now: datetime) -> Step:
    if attempt is None:
        raise ValueError("an unknown refund has an attempt")
    if _sees(attempt, traits):
        return LookUp()
    if traits.deduplicates:
        return SendAgain() if inside_horizon(attempt, traits, now) else CallPerson("past_replay_horizon")
    return CallPerson("cannot_be_looked_up")


def after_miss(attempt: Attempt, traits: GatewayTraits, *, now: datetime) -> Step:
    """What a look-up that found nothing leads to; ``attempt`` counts this miss already."""
    if not believed_absent(attempt, traits, now):
        return WaitUntil(now + sweep_delay(attempt.look_ups))
    if attempt.refusal_code is not None:
        return Nothing()  # the refusal that came after a doubt is now believed
    if traits.deduplicates and inside_horizon(attempt, traits, now):
        return SendAgain()
    return CallPerson("not_found_at_gateway")


def believed_absent(attempt: Attempt, traits: GatewayTraits, now: datetime) -> bool:
    """Whether it was missed often enough, over long enough, that it is not there."""
    return (
        attempt.first_missed_at is not None
        and attempt.misses >= traits.enough_misses
        and now - attempt.first_missed_at >= traits.enough_miss_time
        # A sender that was frozen just before its call may still send until its time is up.
        and now - attempt.last_sent_at > traits.time_limit
    )


def _sees(attempt: Attempt | None, traits: GatewayTraits) -> bool:
    return traits.sees(id_known=attempt is not None and attempt.gateway_refund_id is not None)


def inside_horizon(attempt: Attempt, traits: GatewayTraits, now: datetime) -> bool:
    """Whether the gateway surely still knows the attempt's key."""
    return now - attempt.first_sent_at < traits.replay_horizon


def sweep_delay(look_ups: int) -> timedelta:
    """How long to wait after so many look-ups."""
    return SWEEPS[look_ups] if look_ups < len(SWEEPS) else _LATER


def back_off(sends: int) -> timedelta:
    """How long to wait after so many sendings that never left: 1 s, doubling, to 5 minutes."""
    return min(timedelta(seconds=2 ** min(sends - 1, 20)), timedelta(minutes=5))
