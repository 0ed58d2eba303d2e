"""Look after what the jobs cannot say themselves: refunds that are late, and promises that were lost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Select, Text, and_, cast, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from refund_service import ids
from refund_service.db.engine import Database, Row
from refund_service.db.errors import Busy, WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.jobs.tables import LATER, heartbeats, jobs
from refund_service.orders.tables import orders
from refund_service.refunds.creation import event_data
from refund_service.refunds.states import HOLDING, Status
from refund_service.refunds.submit import WORKER
from refund_service.refunds.tables import refunds

AT_ONCE: Final = 500
"""In one statement."""

log = structlog.get_logger()

_LATE: Final = (
    select(refunds, orders.c.order_id.label("order_name"))
    .outerjoin(orders, and_(orders.c.merchant_id == refunds.c.merchant_id, orders.c.id == refunds.c.order_id))
    .where(
        refunds.c.due_at < P("now"),
        refunds.c.attention.is_(None),
        refunds.c.status.in_(sorted(HOLDING)),
    )
    .order_by(refunds.c.due_at)
    .limit(AT_ONCE)
)


def _call_person() -> Select[Any]:
    write = WriteSet("refunds.late")
    refund = write.guard(
        "refund",
        update(refunds)
        .where(
            refunds.c.merchant_id == P("merchant_id"),
            refunds.c.id == P("refund_id"),
            refunds.c.status == P("status"),
            refunds.c.attention.is_(None),
            refunds.c.due_at < P("now"),
        )
        .values(
            attention=P("attention"),
            attention_since=P("now"),
            version=refunds.c.version + 1,
            updated_at=P("now"),
        ),
        refunds.c.version,
    )
    write.insert("told", *event_values("told", sequence=refund.c.version))
    return write.done()


_CALL_PERSON: Final = _call_person()

# A live refund without a job would wait for ever. No write makes one; a restored or repaired
# database may hold one.
_LOST: Final = (
    insert(jobs)
    .from_select(
        ["id", "name", "key", "merchant_id", "lane", "subject_id", "priority", "run_at", "tries"],
        select(
            func.gen_random_uuid(),
            literal("refund"),
            literal("refund:").concat(cast(refunds.c.id, Text)),
            refunds.c.merchant_id,
            refunds.c.gateway_account_id,
            refunds.c.id,
            literal(LATER),
            func.db_now(),
            literal(0),
        )
        .where(
            refunds.c.status.in_(sorted(HOLDING - {Status.AWAITING_APPROVAL})),
            ~exists(select(jobs.c.id).where(jobs.c.subject_id == refunds.c.id)),
        )
        .limit(AT_ONCE),
    )
    .on_conflict_do_nothing()
    .returning(jobs.c.subject_id)
)

_GONE: Final = delete(heartbeats).where(heartbeats.c.seen_at < func.db_now() - timedelta(hours=1))


async def watch_refunds(db: Database, *, now: datetime) -> int:
    """Call a person to every refund that is late, promise anew what was lost; returns how many were late."""
    late = await db.rows(_LATE, now=now)
    for refund in late:
        try:
            await _call_to(db, refund, now=now)
        except WriteRefused:
            continue  # it has moved meanwhile
        except Busy:
            # Its turn comes in the next round; the others shall not wait for it.
            log.info("watch.busy", refund_id=str(refund["id"]), merchant_id=str(refund["merchant_id"]))
    await db.rows(_GONE)
    # A restored database may have lost very many: each statement is a short one.
    while len(await db.rows(_LOST)) == AT_ONCE:
        pass
    return len(late)


async def _call_to(db: Database, refund: Row, *, now: datetime) -> None:
    status, attention = Status(refund["status"]), f"{refund['status']}_for_long"
    await db.write(
        _CALL_PERSON,
        merchant_id=refund["merchant_id"],
        refund_id=refund["id"],
        status=status,
        attention=attention,
        actor=WORKER,
        now=now,
        told_id=ids.new_id(),
        told_type="refund.needs_attention",
        told_resource="refund",
        told_resource_id=refund["id"],
        told_data=event_data(
            refund["id"], status, refund, order_name=refund["order_name"], attention=attention
        ),
    )
