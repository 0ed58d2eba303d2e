"""The state of the whole house in one statement, for health, metrics and the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from refund_service.db.engine import Database
from refund_service.jobs.tables import heartbeats, jobs
from refund_service.refunds.states import HOLDING, Status
from refund_service.refunds.tables import refunds

ALIVE_WITHIN: Final = 30
"""Seconds since its last heartbeat in which a worker counts as alive."""


@dataclass(frozen=True, slots=True)
class State:
    """What is open, what is late, and who works on it."""

    open_by_status: dict[Status, int]
    oldest_by_status: dict[Status, float]
    """Seconds."""
    attention: int
    job_lag: float
    workers: int


_OPEN: Final = (
    select(
        refunds.c.status,
        func.count().label("number"),
        func.extract("epoch", func.db_now() - func.min(refunds.c.updated_at)).label("oldest"),
    )
    .where(refunds.c.status.in_(sorted(HOLDING)))
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


async def workers_alive(db: Database) -> int:
    """How many workers have been seen lately."""
    number: int = await db.value(_WORKERS)
    return number


async def read_state(db: Database) -> State:
    """Two statements over indexes of what is open; what is finished is not looked at."""
    found = await db.rows(_OPEN)
    rest = (await db.rows(_REST))[0]
    return State(
        open_by_status=dict.fromkeys(HOLDING, 0) | {Status(row["status"]): row["number"] for row in found},
        oldest_by_status=dict.fromkeys(HOLDING, 0.0)
        | {Status(row["status"]): float(row["oldest"]) for row in found},
        attention=rest["attention"],
        job_lag=max(0.0, float(rest["lag"])),
        workers=rest["workers"],
    )
