"""Replace a refund's metadata, the only thing of it that a caller may change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, update

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Busy, WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.refunds.creation import event_data
from refund_service.refunds.moves import TRIES
from refund_service.refunds.queries import get_refund
from refund_service.refunds.states import Status
from refund_service.refunds.tables import refunds


def _relabel() -> Select[Any]:
    write = WriteSet("refunds.relabel")
    refund = write.guard(
        "refund",
        update(refunds)
        .where(
            refunds.c.merchant_id == P("merchant_id"),
            refunds.c.id == P("refund_id"),
            # The event tells the status too: it must be the one that it had been read with.
            refunds.c.version == P("version"),
        )
        .values(metadata=P("metadata"), version=refunds.c.version + 1, updated_at=P("now")),
        refunds.c.version,
    )
    write.insert("told", *event_values("told", sequence=refund.c.version))
    return write.done()


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
    """Put ``metadata`` in the place of what was there."""
    for _ in range(TRIES):
        refund = await get_refund(db, merchant_id, refund_id)
        status = Status(refund["status"])
        try:
            await db.write(
                _RELABEL,
                merchant_id=merchant_id,
                refund_id=refund_id,
                version=refund["version"],
                metadata=dict(metadata),
                actor=actor,
                now=now,
                told_id=ids.new_id(),
                told_type="refund.updated",
                told_resource="refund",
                told_resource_id=refund_id,
                told_data=event_data(refund_id, status, refund, order_name=refund["order_name"]),
            )
        except WriteRefused:
            continue  # it moved between reading and writing
        return
    raise Busy("The refund is moving; nothing was changed.")
