"""Holding a job for longer than one lease: for the few that take minutes, never for a sending."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from refund_service.db.engine import Database
from refund_service.jobs.lease import LEASE, Job, lease_binds, renewed
from refund_service.jobs.tables import jobs

RENEWED_EVERY: Final = LEASE.total_seconds() / 3

_RENEW: Final = renewed().returning(jobs.c.id)


class LeaseLost(Exception):
    """Another worker may have taken the job."""


async def while_held(
    db: Database, job: Job, work: Coroutine[Any, Any, object], *, every: float = RENEWED_EVERY
) -> None:
    """Do ``work`` and keep the lease on ``job`` meanwhile; cancels it where the lease is lost."""
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({working}, timeout=every))[0]:
            if not await db.rows(_RENEW, **lease_binds(job)):
                raise LeaseLost(job.name)
    finally:
        working.cancel()
        await asyncio.wait({working})
    working.result()
