"""Stop a refund that has not been sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Select, delete, update

from refund_service.db.engine import Database
from refund_service.db.errors import Busy, WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.idempotency.keys import Claim, claim_binds, claim_key, kept_under
from refund_service.jobs.tables import jobs
from refund_service.payments.tables import payments
from refund_service.refunds.errors import RefundNotInStatus
from refund_service.refunds.moves import TRIES, Changed, add_history, move_binds, moved_refund, refuse_status
from refund_service.refunds.queries import get_refund
from refund_service.refunds.states import RefundEvent
from refund_service.refunds.tables import refunds


def _cancel(*, keyed: bool) -> Select[Any]:
    write = WriteSet("refunds.cancel")
    if keyed:
        claim_key(write)
    # Before the refund, as the worker's writes take them: the other way round each would wait
    # for what the other holds.
    write.guard("job", delete(jobs).where(jobs.c.key == P("job_key")))
    refund = write.guard("refund", moved_refund(due_at=None, finished_at=P("now")), refunds.c.version)
    write.guard(
        "payment",
        update(payments)
        .where(payments.c.merchant_id == P("merchant_id"), payments.c.id == P("payment_id"))
        .values(
            held=payments.c.held + P("held_change", BigInteger),
            version=payments.c.version + 1,
            updated_at=P("now"),
        ),
    )
    add_history(write, refund, RefundEvent.CANCEL)
    return write.done()


_CANCEL: Final = {keyed: _cancel(keyed=keyed) for keyed in (False, True)}


async def cancel_refund(
    db: Database, merchant_id: UUID, refund_id: UUID, *, claim: Claim | None, actor: str, now: datetime
) -> Changed:
    """Stop the refund and give its hold back.

    Raises ``RefundNotInStatus`` once the worker has marked it as being sent: then it may arrive.
    """
    for _ in range(TRIES):
        if kept := await kept_under(db, merchant_id, claim):
            return Changed(kept.resource_id, replayed=True)
        refund = await get_refund(db, merchant_id, refund_id)
        try:
            refuse_status(refund, RefundEvent.CANCEL)
        except RefundNotInStatus:
            # It may be this very request, sent twice, that has canceled it since the key was read.
            if kept := await kept_under(db, merchant_id, claim):
                return Changed(kept.resource_id, replayed=True)
            raise
        binds = move_binds(merchant_id, refund, RefundEvent.CANCEL, actor=actor, now=now)
        if claim is not None:
            binds |= claim_binds(claim, 200, "refund", refund_id)
        try:
            await db.write(_CANCEL[claim is not None], **binds)
        except WriteRefused:
            continue  # it moved between reading and writing: read again and say what is so now
        return Changed(refund_id, replayed=False)
    raise Busy("Others keep changing the same refund.")
