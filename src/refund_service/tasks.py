"""What each job does, by its name."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from refund_service.jobs.hold import while_held
from refund_service.jobs.lease import Job
from refund_service.jobs.queue import postpone_job, promise_once
from refund_service.jobs.worker import Handler
from refund_service.refunds.advance import Desk, advance_refund
from refund_service.refunds.watch import watch_refunds
from refund_service.reports.rounds import go_round

EVERY_MINUTE: Final = timedelta(seconds=60)
EVERY_TEN_MINUTES: Final = timedelta(minutes=10)
FIRST_ROUND: Final = timedelta(hours=1)
"""A new database has nothing to verify, and a new version something else to do."""

CUT_SHORT: Final = frozenset({"verify"})
"""What reads for long and changes nothing: a worker that is asked to end does not wait for it."""


def handlers(desk: Desk) -> dict[str, Handler]:
    """The handlers of a worker."""

    async def refund(job: Job) -> None:
        await advance_refund(desk, job)
        desk.told(job.subject_id)

    async def watch(job: Job) -> None:
        await while_held(desk.db, job, watch_refunds(desk.db, now=desk.now()))
        await postpone_job(desk.db, job, EVERY_MINUTE)

    async def verify(job: Job) -> None:
        await while_held(desk.db, job, go_round(desk.db))
        await postpone_job(desk.db, job, EVERY_TEN_MINUTES)

    return {"refund": refund, "watch": watch, "verify": verify}


async def promise_recurring(desk: Desk) -> None:
    """See that every recurring job is there; many processes may say so, it runs once."""
    await promise_once(desk.db, "watch")
    await promise_once(desk.db, "verify", after=FIRST_ROUND)
