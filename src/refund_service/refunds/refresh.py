"""Ask the gateway now what became of a refund, whatever was planned."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from refund_service.db.engine import Database
from refund_service.jobs.queue import wake_job
from refund_service.refunds.moves import job_key
from refund_service.refunds.queries import get_refund
from refund_service.refunds.states import LEFT_THE_HOUSE, Status

ASKED_AFTER: Final = LEFT_THE_HOUSE | {Status.QUEUED, Status.SUCCEEDED, Status.FAILED}
"""A success can turn, and so can a failure; what was stopped was never sent."""


async def refresh_refund(db: Database, merchant_id: UUID, refund_id: UUID) -> bool:
    """Wake the refund's job, or make one; false where there is nothing to ask after."""
    refund = await get_refund(db, merchant_id, refund_id)
    if Status(refund["status"]) not in ASKED_AFTER:
        return False
    await wake_job(
        db,
        "refund",
        job_key(refund_id),
        merchant_id=merchant_id,
        lane=refund["gateway_account_id"],
        subject_id=refund_id,
    )
    return True
