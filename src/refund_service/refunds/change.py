"""What a caller may do to a refund that is there: cancel it, try it again, ask after it, relabel it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Select, delete, func, update

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Busy, Duplicate, WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.idempotency.keys import Claim, claim_binds, claim_key, kept_under
from refund_service.jobs.enqueue import job_values
from refund_service.jobs.queue import wake_job
from refund_service.jobs.tables import jobs
from refund_service.payments.balance import available, available_of
from refund_service.payments.tables import payments
from refund_service.refunds.creation import QUEUED_IS_LATE_AFTER, event_data
from refund_service.refunds.errors import AmountExceedsAvailable, RefundNotInStatus
from refund_service.refunds.queries import Refund, get_refund
from refund_service.refunds.states import TRANSITIONS, RefundEvent, Status, hold_change, move
from refund_service.refunds.tables import refund_transitions, refunds

TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Changed:
    """The refund, and whether the same request had changed it before."""

    refund_id: UUID
    replayed: bool


def _move(event: RefundEvent, *, keyed: bool) -> Select[Any]:
    write = WriteSet(f"refunds.{event}")
    if keyed:
        claim_key(write)
    retries = event is RefundEvent.RETRY
    # The job before the refund, as the worker's writes take them: the other way round each would
    # wait for what the other holds.
    if retries:
        write.insert("job", *job_values(run_at=func.db_now()))
    else:
        write.guard("job", delete(jobs).where(jobs.c.key == P("job_key")))
    refund = write.guard(
        "refund",
        update(refunds)
        .where(
            refunds.c.merchant_id == P("merchant_id"),
            refunds.c.id == P("refund_id"),
            refunds.c.status == P("from_status"),
            refunds.c.version == P("version"),
        )
        .values(
            status=P("to_status"),
            version=refunds.c.version + 1,
            generation=refunds.c.generation + (1 if retries else 0),
            failure_code=None,
            failure_gateway_code=None,
            gateway_refund_id=None if retries else refunds.c.gateway_refund_id,
            attention=None,
            attention_since=None,
            due_at=P("due_at"),
            finished_at=P("finished_at"),
            updated_at=P("now"),
        ),
        refunds.c.version,
    )
    change = P("held_change", BigInteger)
    write.guard(
        "payment",
        update(payments)
        .where(
            payments.c.merchant_id == P("merchant_id"),
            payments.c.id == P("payment_id"),
            # A retry holds anew, and may find that others have taken the rest meanwhile.
            *([available(payments) >= change] if retries else []),
        )
        .values(held=payments.c.held + change, version=payments.c.version + 1, updated_at=P("now")),
    )
    write.insert(
        "transition",
        refund_transitions,
        {
            "merchant_id": P("merchant_id"),
            "refund_id": P("refund_id"),
            "version": refund.c.version,
            "event": event.value,
            "from_status": P("from_status"),
            "to_status": P("to_status"),
            "actor": P("actor"),
            "at": P("now"),
        },
    )
    write.insert("told", *event_values("told", sequence=refund.c.version))
    return write.done(version=refund.c.version)


_MOVES: Final = {
    (event, keyed): _move(event, keyed=keyed)
    for event in (RefundEvent.CANCEL, RefundEvent.RETRY)
    for keyed in (False, True)
}


async def cancel_refund(
    db: Database, merchant_id: UUID, refund_id: UUID, *, claim: Claim | None, actor: str, now: datetime
) -> Changed:
    """Stop a refund that has not been sent and give its hold back.

    Raises ``RefundNotInStatus`` once the worker has marked it as being sent: then it may arrive.
    """
    return await _change(db, merchant_id, refund_id, RefundEvent.CANCEL, claim=claim, actor=actor, now=now)


async def retry_refund(
    db: Database, merchant_id: UUID, refund_id: UUID, *, claim: Claim | None, actor: str, now: datetime
) -> Changed:
    """Hold the amount anew and send a failed refund as the next generation, under a new gateway key.

    Raises ``RefundNotInStatus``, or ``AmountExceedsAvailable`` where the rest is no longer there.
    """
    return await _change(db, merchant_id, refund_id, RefundEvent.RETRY, claim=claim, actor=actor, now=now)


async def refresh_refund(db: Database, merchant_id: UUID, refund_id: UUID) -> UUID:
    """Ask the gateway now what became of a refund, whatever was planned."""
    refund = await get_refund(db, merchant_id, refund_id)
    if Status(refund["status"]) in _ASKED_AFTER:
        await wake_job(
            db,
            "refund",
            f"refund:{refund_id}",
            merchant_id=merchant_id,
            lane=refund["gateway_account_id"],
            subject_id=refund_id,
        )
    return refund_id


_ASKED_AFTER: Final = frozenset(
    {
        Status.QUEUED,
        Status.PROCESSING,
        Status.REQUIRES_ACTION,
        Status.UNKNOWN,
        Status.SUCCEEDED,
        Status.FAILED,
    }
)


async def _change(
    db: Database,
    merchant_id: UUID,
    refund_id: UUID,
    event: RefundEvent,
    *,
    claim: Claim | None,
    actor: str,
    now: datetime,
) -> Changed:
    for _ in range(TRIES):
        if kept := await kept_under(db, merchant_id, claim):
            return Changed(kept.resource_id, replayed=True)
        refund = await get_refund(db, merchant_id, refund_id)
        _refuse_impossible(refund, event)
        binds = _binds(merchant_id, refund, event, actor=actor, now=now)
        if claim is not None:
            binds |= claim_binds(claim, 200, "refund", refund_id)
        try:
            await db.write(_MOVES[event, claim is not None], **binds)
        except (WriteRefused, Duplicate):
            continue  # it moved between reading and writing: read again and say what is so now
        return Changed(refund_id, replayed=False)
    raise Busy("Others keep changing the same refund.")


def _refuse_impossible(refund: Refund, event: RefundEvent) -> None:
    status = Status(refund["status"])
    allowed = [before for before, known in TRANSITIONS if known is event and before is not None]
    if status not in allowed:
        shown = ids.show("refund", refund["id"])
        raise RefundNotInStatus(
            f"It is {status}; {event} is possible from {' or '.join(allowed)}.",
            refund_status=status,
            allowed_from=allowed,
            links={"refund": f"/v1/refunds/{shown}"},
        )
    left = available_of_view(refund)
    if event is RefundEvent.RETRY and left < refund["amount"]:
        raise AmountExceedsAvailable(
            "The hold was given back when the refund failed, and others have taken what was left.",
            asked=refund["amount"],
            available=left,
            currency=refund["currency"],
            links={"payment": f"/v1/payments/{ids.show('payment', refund['payment_id'])}"},
        )


def available_of_view(refund: Mapping[str, Any]) -> int:
    """What is available of the payment that a refund's view shows."""
    return available_of(*(refund[f"payment_{part}"] for part in ("captured", "held", "refunded", "disputed")))


def _binds(
    merchant_id: UUID, refund: Refund, event: RefundEvent, *, actor: str, now: datetime
) -> dict[str, Any]:
    before = Status(refund["status"])
    after = move(before, event)
    refund_id, key = refund["id"], f"refund:{refund['id']}"
    job = (
        {
            "job_id": ids.new_id(),
            "job_name": "refund",
            "job_lane": refund["gateway_account_id"],
            "job_subject_id": refund_id,
        }
        if event is RefundEvent.RETRY
        else {}
    )
    return {
        "merchant_id": merchant_id,
        "refund_id": refund_id,
        "payment_id": refund["payment_id"],
        "from_status": before,
        "to_status": after,
        "version": refund["version"],
        "held_change": hold_change(before, after, refund["amount"]),
        "due_at": now + QUEUED_IS_LATE_AFTER if after is Status.QUEUED else None,
        "finished_at": None if after is Status.QUEUED else now,
        "job_key": key,
        "actor": actor,
        "now": now,
        "told_id": ids.new_id(),
        "told_type": f"refund.{after}",
        "told_resource": "refund",
        "told_resource_id": refund_id,
        "told_data": event_data(refund_id, after, refund, order_name=refund["order_name"]),
    } | job


def _relabel() -> Select[Any]:
    write = WriteSet("refunds.relabel")
    refund = write.guard(
        "refund",
        update(refunds)
        .where(refunds.c.merchant_id == P("merchant_id"), refunds.c.id == P("refund_id"))
        .values(metadata=P("metadata"), version=refunds.c.version + 1, updated_at=P("now")),
        refunds.c.version,
    )
    write.insert("told", *event_values("told", sequence=refund.c.version))
    return write.done(version=refund.c.version)


_RELABEL: Final = _relabel()


async def relabel_refund(
    db: Database,
    merchant_id: UUID,
    refund_id: UUID,
    metadata: Mapping[str, str],
    *,
    actor: str,
    now: datetime,
) -> None:
    """Replace a refund's metadata, the only thing of it that a caller may change."""
    refund = await get_refund(db, merchant_id, refund_id)
    status = Status(refund["status"])
    await db.write(
        _RELABEL,
        merchant_id=merchant_id,
        refund_id=refund_id,
        metadata=dict(metadata),
        actor=actor,
        now=now,
        told_id=ids.new_id(),
        told_type="refund.updated",
        told_resource="refund",
        told_resource_id=refund_id,
        told_data=event_data(refund_id, status, refund, order_name=refund["order_name"]),
    )
