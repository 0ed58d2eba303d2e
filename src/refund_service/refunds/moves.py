"""What every move of a refund has in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CTE, BindParameter, ColumnElement, Update, update

from refund_service import ids
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.refunds.creation import event_data
from refund_service.refunds.errors import RefundNotInStatus
from refund_service.refunds.queries import Refund
from refund_service.refunds.states import TRANSITIONS, RefundEvent, Status, hold_change, move
from refund_service.refunds.tables import refund_transitions, refunds

TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Changed:
    """The refund, and whether the same request had changed it before."""

    refund_id: UUID
    replayed: bool


def job_key(refund_id: UUID) -> str:
    """The one job that follows a refund."""
    return f"refund:{refund_id}"


def refuse_status(refund: Refund, event: RefundEvent) -> None:
    """Raise ``RefundNotInStatus`` where the table has no such move."""
    status = Status(refund["status"])
    allowed = [before for before, known in TRANSITIONS if known is event and before is not None]
    if status not in allowed:
        raise RefundNotInStatus(
            f"It is {status}; {event} is possible from {' or '.join(allowed)}.",
            refund_status=status,
            allowed_from=allowed,
            links={"refund": f"/v1/refunds/{ids.show('refund', refund['id'])}"},
        )


def moved_refund(*conditions: ColumnElement[bool], **values: Any) -> Update:
    """Guard: the refund still is what was read; it moves, and no one is called to it any more."""
    return (
        update(refunds)
        .where(
            refunds.c.merchant_id == P("merchant_id"),
            refunds.c.id == P("refund_id"),
            refunds.c.status == P("from_status"),
            refunds.c.version == P("version"),
            *conditions,
        )
        .values(
            status=P("to_status"),
            version=refunds.c.version + 1,
            failure_code=None,
            failure_gateway_code=None,
            attention=None,
            attention_since=None,
            updated_at=P("now"),
            **values,
        )
    )


def add_history(
    write: WriteSet,
    refund: CTE,
    event: RefundEvent | BindParameter[Any],
    *,
    moved: ColumnElement[bool] | None = None,
    tells: ColumnElement[bool] | None = None,
) -> None:
    """The move in the refund's history, and the event that tells it; each only where it is so."""
    write.insert(
        "transition",
        refund_transitions,
        {
            "merchant_id": P("merchant_id"),
            "refund_id": P("refund_id"),
            "version": refund.c.version,
            "event": event.value if isinstance(event, RefundEvent) else event,
            "from_status": P("from_status"),
            "to_status": P("to_status"),
            "actor": P("actor"),
            "at": P("now"),
        },
        when=moved,
    )
    write.insert("told", *event_values("told", sequence=refund.c.version), when=tells)


def move_binds(
    merchant_id: UUID, refund: Refund, event: RefundEvent, *, actor: str, now: datetime
) -> dict[str, Any]:
    """The bind parameters of the parts above, and of the change of the payment's hold."""
    before = Status(refund["status"])
    after = move(before, event)
    return {
        "merchant_id": merchant_id,
        "refund_id": refund["id"],
        "payment_id": refund["payment_id"],
        "from_status": before,
        "to_status": after,
        "version": refund["version"],
        "held_change": hold_change(before, after, refund["amount"]),
        "job_key": job_key(refund["id"]),
        "actor": actor,
        "now": now,
        "told_id": ids.new_id(),
        "told_type": f"refund.{after}",
        "told_resource": "refund",
        "told_resource_id": refund["id"],
        "told_data": event_data(refund["id"], after, refund, order_name=refund["order_name"]),
    }
