"""The right to work on a job for a while, by the database's clock.

A job is taken by moving ``run_at`` to the end of the lease: until then no one else sees it as
due, and after it anyone may take it. Whatever a worker writes is guarded by its lease, so that
one who comes back late changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Delete, Interval, Text, Update, delete, func, update

from refund_service.db.writeset import P
from refund_service.jobs.tables import LATER, jobs

LEASE: Final = timedelta(seconds=30)
"""Longer than any call to a gateway may take, with room to write down what came of it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that this worker holds."""

    id: UUID
    name: str
    key: str
    merchant_id: UUID
    lane: UUID
    subject_id: UUID
    lease: UUID
    tries: int


def _held() -> tuple[Any, ...]:
    return (jobs.c.id == P("job_id"), jobs.c.lease == P("lease"), jobs.c.run_at > func.db_now())


def renewed() -> Update:
    """Guard: the lease still holds; it now holds for its full time again."""
    return update(jobs).where(*_held()).values(run_at=func.db_now() + LEASE)


def done() -> Delete:
    """Guard: the lease still holds; the promise is kept."""
    return delete(jobs).where(*_held())


def put_back() -> Update:
    """Guard: the lease still holds; the job is due again after ``wait``."""
    return (
        update(jobs)
        .where(*_held())
        .values(
            lease=None,
            priority=LATER,
            run_at=func.db_now() + P("wait", Interval),
            tries=jobs.c.tries + 1,
            because=P("because", Text),
        )
    )


def lease_binds(job: Job) -> dict[str, Any]:
    """The bind parameters of the guards above."""
    return {"job_id": job.id, "lease": job.lease}
