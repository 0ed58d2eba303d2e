"""What each job does, by its name."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from refund_service.jobs.lease import Job
from refund_service.jobs.queue import postpone_job, promise_once
from refund_service.jobs.worker import Handler
from refund_service.refunds.advance import Desk, advance_refund
from refund_service.refunds.watch import watch_refunds

EVERY_MINUTE: Final = timedelta(seconds=60)


def handlers(desk: Desk) -> dict[str, Handler]:
    """The handlers of a worker."""

    async def refund(job: Job) -> None:
        await advance_refund(desk, job)
        desk.told(job.subject_id)

    async def watch(job: Job) -> None:
        await watch_refunds(desk.db, now=desk.now())
        await postpone_job(desk.db, job, EVERY_MINUTE)

    return {"refund": refund, "watch": watch}


async def promise_recurring(desk: Desk) -> None:
    """See that every recurring job is there; many processes may say so, it runs once."""
    await promise_once(desk.db, "watch")
