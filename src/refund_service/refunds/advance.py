"""Take a refund one step on: what the worker does with each of its jobs.

Read the case, decide the step, write it down, do it, write down what came of it. No transaction
is open while the gateway is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import structlog

from refund_service import metrics
from refund_service.db.engine import Database
from refund_service.db.errors import Duplicate, WriteRefused
from refund_service.errors import Unavailable
from refund_service.gateways.accounts import pause_account
from refund_service.gateways.answers import (
    Absent,
    Accepted,
    Answer,
    CannotTell,
    Declined,
    Finding,
    Found,
    InFlight,
    Misconfigured,
    NotSent,
    Unknown,
)
from refund_service.gateways.ask import ask_refund, look_up
from refund_service.gateways.breaker import Breaker
from refund_service.gateways.gate import Gate
from refund_service.gateways.protocol import GatewayTraits, RefundGateway
from refund_service.gateways.registry import gateway_named
from refund_service.gateways.seal import Keyring
from refund_service.gateways.send import Sender
from refund_service.jobs.lease import Job
from refund_service.jobs.queue import HELD_BACK, finish_job, hold_back, postpone_job
from refund_service.refunds.case import Case
from refund_service.refunds.conclude import (
    Call,
    Conclusion,
    conclude_answer,
    conclude_finding,
    conclude_lost,
    conclude_person,
    conclude_taken,
)
from refund_service.refunds.next_step import (
    Attempt,
    CallPerson,
    LookUp,
    LoseTrack,
    Nothing,
    Send,
    SendAgain,
    WaitUntil,
    next_step,
    sweep_delay,
)
from refund_service.refunds.read_case import read_case
from refund_service.refunds.record import record
from refund_service.refunds.states import AttemptState, Status, move, sending_event
from refund_service.refunds.submit import WORKER, submit

STOPPED_FOR: Final = timedelta(seconds=2)
"""How often a refund that a switch or a paused account holds back is looked at again."""

INSIST_FOR: Final = 4.0
SOONEST_AGAIN: Final = 0.05
"""Seconds; a call, what is insisted on and its last statement fit into one lease."""

BREAKER_OPEN_FOR: Final = timedelta(seconds=5)
UNKNOWN_HELD_BACK_FOR: Final = timedelta(minutes=5)
"""At most. Each new look at an unknown refund begins by asking the gateway: not every few seconds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker works with."""

    db: Database
    keyring: Keyring
    sender: Sender
    breaker: Breaker
    gate: Gate
    refused_gateways: frozenset[str]
    """Kinds of gateway that are not sent through here: the sandbox, in production."""
    now: Callable[[], datetime]
    seconds: Callable[[], float]
    told: Callable[[UUID], None]
    """Called with a refund's id when something has become of it."""


async def advance_refund(desk: Desk, job: Job) -> None:
    """One step in the life of the refund that the job names."""
    case = await read_case(desk.db, desk.keyring, job.merchant_id, job.subject_id)
    if case is None:
        await finish_job(desk.db, job)
        return
    gateway = gateway_named(case.account.gateway)
    traits = gateway.traits(case.account.settings)
    step = next_step(case.status, case.attempt, traits, now=case.now, execute_after=case.execute_after)
    try:
        match step:
            case Send() | SendAgain():
                await _send(desk, job, case, gateway, traits)
            case LookUp():
                await _look_up(desk, job, case, gateway, traits)
            case LoseTrack(why):
                await _write(desk, job, case, conclude_lost(traits, why))
            case CallPerson(attention):
                await _write(desk, job, case, conclude_person(attention))
            case WaitUntil(moment):
                await postpone_job(desk.db, job, moment - case.now)
            case Nothing():
                await finish_job(desk.db, job)
            case _:
                assert_never(step)
    except WriteRefused as refused:
        # Someone else has moved it, or our time was up: what is true now is theirs to follow.
        log.info(
            "refund.step_refused", guard=refused.guard, refund_id=str(case.refund_id), job_id=str(job.id)
        )
        await _hold_back(desk, job, case, STOPPED_FOR)


async def _send(desk: Desk, job: Job, case: Case, gateway: RefundGateway, traits: GatewayTraits) -> None:
    if not case.account_active or case.account.gateway in desk.refused_gateways:
        await _hold_back(desk, job, case, STOPPED_FOR)
        return
    request = case.request or gateway.render_refund(case.command, case.account)
    async with desk.gate.passing(case.account.id, traits.parallel_calls):
        # Not before its turn has come: those that went ahead may have found no one there.
        if not desk.breaker.allows(case.account.id, desk.seconds()):
            await _hold_back(desk, job, case, BREAKER_OPEN_FOR)
            return
        called_at = desk.now()
        try:
            await submit(
                desk.db, job, case, request, due_at=called_at + traits.in_flight_limit, now=called_at
            )
            answer = await ask_refund(desk.sender, gateway, case.account, case.command, request)
        except BaseException:
            desk.breaker.give_back(case.account.id)
            raise
        desk.breaker.record(case.account.id, ok=_reached(answer), now=desk.seconds())
    sending = _as_sending(case)

    if isinstance(answer, Misconfigured):
        reason = answer.reason
        await _insist(
            desk,
            lambda: pause_account(
                desk.db, case.merchant_id, case.account.id, reason, actor=WORKER, now=desk.now()
            ),
        )
        log.error(
            "gateway_account.paused", gateway_account=str(case.account.id), merchant_id=str(case.merchant_id)
        )
    said = conclude_answer(sending, answer, traits)
    kind, detail = _told(answer)
    call = Call("send", kind, detail, called_at, desk.now())
    await _write(desk, job, sending, replace(said, call=call))


async def _look_up(desk: Desk, job: Job, case: Case, gateway: RefundGateway, traits: GatewayTraits) -> None:
    called_at = desk.now()
    request = gateway.render_look_up(case.probe, case.account)
    async with desk.gate.passing(case.account.id, traits.parallel_calls):
        finding = await look_up(desk.sender, gateway, case.account, case.probe, request)
    desk.breaker.record(case.account.id, ok=not isinstance(finding, CannotTell), now=desk.seconds())
    said, then = conclude_finding(case, finding, traits)
    kind, detail = _told(finding)
    call = Call("look_up", kind, detail, called_at, desk.now())
    await _write(desk, job, case, replace(said, call=call), goes_on=then is not None)
    if then is not None and case.request is not None:
        await _send(desk, job, case, gateway, traits)


async def _insist(desk: Desk, write: Callable[[], Awaitable[object]]) -> None:
    """Write what the gateway said, however busy the database is: it is not said a second time.

    For as long as the lease surely holds; after that the look-up has to find it.
    """
    give_up, pause = desk.seconds() + INSIST_FOR, SOONEST_AGAIN
    while True:
        try:
            await write()
        except Unavailable:
            if desk.seconds() + pause > give_up:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
        else:
            return


async def _write(desk: Desk, job: Job, case: Case, said: Conclusion, *, goes_on: bool = False) -> None:
    try:
        await _insist(desk, lambda: record(desk.db, job, case, said, goes_on=goes_on, now=desk.now()))
    except Duplicate as taken:
        if taken.constraint != "uq_refunds_gateway_refund":
            raise
        said = conclude_taken(case, said)
        await record(desk.db, job, case, said, now=desk.now())
    status = move(case.status, said.event) if said.event else case.status
    if said.call is not None:
        took = (said.call.answered_at - said.call.called_at).total_seconds()
        metrics.CALLS.labels(case.account.gateway, said.call.kind, said.call.result).observe(max(0.0, took))
    log.info(
        "refund.step",
        refund_id=str(case.refund_id),
        merchant_id=str(case.merchant_id),
        gateway_account=str(case.account.id),
        status_before=case.status.value,
        status=status.value,
        call=said.call.result if said.call else None,
        attention=said.attention,
        job_id=str(job.id),
    )


async def _hold_back(desk: Desk, job: Job, case: Case, at_first: timedelta) -> None:
    """Look again later at a refund that may not be sent now."""
    if case.status is Status.UNKNOWN and case.attempt is not None:
        rarely = min(sweep_delay(case.attempt.look_ups), UNKNOWN_HELD_BACK_FOR)
        await postpone_job(desk.db, job, rarely, because=HELD_BACK)
        return
    await hold_back(desk.db, job, at_first)


def _as_sending(case: Case) -> Case:
    event = sending_event(case.status)
    attempt = case.attempt or Attempt(
        AttemptState.SENDING,
        ambiguous=False,
        sends=0,
        first_sent_at=case.now,
        last_sent_at=case.now,
        look_ups=0,
        misses=0,
        first_missed_at=None,
    )
    return replace(
        case,
        status=move(case.status, event) if event else case.status,
        attempt=replace(attempt, state=AttemptState.SENDING, sends=attempt.sends + 1),
    )


def _reached(answer: Answer) -> bool:
    """Whether the gateway is there and talking to us."""
    match answer:
        case Accepted() | Declined() | InFlight() | Misconfigured():
            return True
        case NotSent(after=after):
            return after is not None  # turned away by a gateway that works
        case Unknown():
            return False
        case _:
            assert_never(answer)


def _told(said: Answer | Finding) -> tuple[str, str]:
    """An answer as the list of calls shows it."""
    match said:
        case Accepted(refund) | Found(refund):
            return type(said).__name__.lower(), refund.state.value
        case Declined(code, gateway_code):
            return "declined", f"{code.value} ({gateway_code})"
        case NotSent(reason) | Misconfigured(reason):
            return "not_sent" if isinstance(said, NotSent) else "misconfigured", reason
        case Unknown(seen) | CannotTell(seen):
            return "unknown" if isinstance(said, Unknown) else "cannot_tell", seen
        case InFlight():
            return "in_flight", ""
        case Absent():
            return "absent", ""
        case _:
            assert_never(said)
