"""The state of the whole house in one statement, for health, metrics and the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from refund_service.db.engine import Database
from refund_service.events.tables import feed_epochs
from refund_service.jobs.tables import heartbeats, jobs, verifications
from refund_service.refunds.states import HOLDING, Status
from refund_service.refunds.tables import refunds
from refund_service.reports.verify import CHECKS

ALIVE_WITHIN: Final = 30
"""Seconds since its last heartbeat in which a worker counts as alive."""


@dataclass(frozen=True, slots=True)
class State:
    """What is open, what is late, and who works on it."""

    open_by_status: dict[Status, int]
    oldest_by_status: dict[Status, float]
    """Seconds since its last change; what is not to be sent before its time is not old before it."""
    overdue_by_status: dict[Status, float]
    """Seconds past ``due_at``, which a call of a person or new metadata does not move."""
    attention: int
    job_lag: float
    workers: int
    verify_age: float
    """Seconds since the check that has waited longest was made; since the database began for none."""
    violations: dict[tuple[str, str], int]
    """By promise and check, for those that have been made."""


_OPEN: Final = (
    select(
        refunds.c.status,
        func.count().label("number"),
        func.extract(
            "epoch",
            func.db_now() - func.min(func.greatest(refunds.c.updated_at, refunds.c.execute_after)),
        ).label("oldest"),
    )
    .where(refunds.c.status.in_(sorted(HOLDING)))
    .group_by(refunds.c.status)
)
_OVERDUE: Final = (
    select(
        refunds.c.status,
        func.extract("epoch", func.db_now() - func.min(refunds.c.due_at)).label("late"),
    )
    .where(refunds.c.due_at < func.db_now(), refunds.c.status.in_(sorted(HOLDING)))
    .group_by(refunds.c.status)
)
_WORKERS: Final = select(func.count()).where(
    heartbeats.c.seen_at > func.db_now() - func.make_interval(0, 0, 0, 0, 0, 0, ALIVE_WITHIN)
)
_REST: Final = select(
    select(func.count()).where(refunds.c.attention.is_not(None)).scalar_subquery().label("attention"),
    func.coalesce(
        select(func.extract("epoch", func.db_now() - func.min(jobs.c.run_at))).scalar_subquery(), 0
    ).label("lag"),
    _WORKERS.scalar_subquery().label("workers"),
)


_VERIFIED: Final = select(
    verifications.c.says,
    verifications.c.broken,
    func.extract("epoch", func.db_now() - verifications.c.looked_at).label("ago"),
)
_BEGAN: Final = select(func.extract("epoch", func.db_now() - func.min(feed_epochs.c.began_at)))
_PROMISE_OF: Final = {says: promise for promise, says, _ in CHECKS}


async def workers_alive(db: Database) -> int:
    """How many workers have been seen lately."""
    number: int = await db.value(_WORKERS)
    return number


async def read_state(db: Database) -> State:
    """A few statements over indexes of what is open; what is finished is not looked at."""
    found = await db.rows(_OPEN)
    late = await db.rows(_OVERDUE)
    rest = (await db.rows(_REST))[0]
    # Another version of the service may have made checks that this one does not know.
    verified = [row for row in await db.rows(_VERIFIED) if row["says"] in _PROMISE_OF]
    ages = [row["ago"] for row in verified]
    if len(verified) < len(CHECKS):
        ages.append(await db.value(_BEGAN))
    return State(
        open_by_status=dict.fromkeys(HOLDING, 0) | {Status(row["status"]): row["number"] for row in found},
        oldest_by_status=dict.fromkeys(HOLDING, 0.0)
        | {Status(row["status"]): max(0.0, float(row["oldest"])) for row in found},
        overdue_by_status=dict.fromkeys(HOLDING, 0.0)
        | {Status(row["status"]): float(row["late"]) for row in late},
        attention=rest["attention"],
        job_lag=max(0.0, float(rest["lag"])),
        workers=rest["workers"],
        verify_age=max(0.0, float(max(ages))),
        violations={(_PROMISE_OF[row["says"]], row["says"]): row["broken"] for row in verified},
    )
