"""Taking jobs that are due, each lane in its turn, and giving them back."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Integer,
    Interval,
    Text,
    Uuid,
    and_,
    column,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    update,
    values,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.writeset import P
from refund_service.jobs.lease import LEASE, Job
from refund_service.jobs.tables import LATER, URGENT, jobs


def _claim() -> Any:
    """A few due jobs of each lane, soonest first within it.

    The lanes are found by walking the index from one to the next, so that a lane with a
    million jobs costs no more than one with a single job, and hides no other.
    """
    first = select(jobs.c.lane).order_by(jobs.c.lane).limit(1).scalar_subquery()
    lanes = select(first.label("lane")).cte("lanes", recursive=True)
    following = (
        select(jobs.c.lane)
        .where(jobs.c.lane > lanes.c.lane)
        .order_by(jobs.c.lane)
        .limit(1)
        .correlate(lanes)
        .scalar_subquery()
    )
    lanes = lanes.union_all(select(following).where(lanes.c.lane.is_not(None)))
    priority = values(column("level", Integer), name="priority").data([(URGENT,), (LATER,)])
    due = (
        select(jobs.c.id, jobs.c.priority, jobs.c.run_at)
        .where(
            jobs.c.lane == lanes.c.lane,
            jobs.c.priority == priority.c.level,
            jobs.c.run_at <= func.db_now(),
        )
        .order_by(jobs.c.run_at)
        .limit(P("per_lane", Integer))
        .with_for_update(skip_locked=True)
        .lateral("due")
    )
    chosen = (
        select(due.c.id)
        .select_from(lanes)
        .join(priority, true())
        .join(due, true())
        .where(lanes.c.lane.is_not(None), lanes.c.lane != func.all(P("closed_lanes", ARRAY(Uuid))))
        # What is urgent goes first, but not for ever: half a minute late counts as much.
        .order_by(due.c.run_at + due.c.priority * literal(timedelta(seconds=30), Interval))
        .limit(P("at_most", Integer))
        .cte("chosen")
    )
    return (
        update(jobs)
        .where(jobs.c.id.in_(select(chosen.c.id)))
        .values(lease=P("lease"), run_at=func.db_now() + literal(LEASE, Interval))
        .returning(
            jobs.c.id,
            jobs.c.name,
            jobs.c.key,
            jobs.c.merchant_id,
            jobs.c.lane,
            jobs.c.subject_id,
            jobs.c.lease,
            jobs.c.tries,
        )
    )


_CLAIM: Final = _claim()


async def claim_jobs(
    db: Database, *, at_most: int, per_lane: int, closed_lanes: Collection[UUID] = ()
) -> list[Job]:
    """Take jobs that are due, under one lease of ``LEASE`` by the database's clock."""
    rows = await db.rows(
        _CLAIM,
        at_most=at_most,
        per_lane=per_lane,
        closed_lanes=list(closed_lanes),
        lease=ids.new_id(),
    )
    return [Job(**row) for row in rows]


_held = and_(jobs.c.id == P("job_id"), jobs.c.lease == P("lease"))
_FINISH: Final = delete(jobs).where(_held)
_POSTPONE: Final = (
    update(jobs)
    .where(_held)
    .values(
        lease=None,
        run_at=func.db_now() + P("wait", Interval),
        tries=jobs.c.tries + P("tried", Integer),
        because=P("because", Text),
    )
)


async def finish_job(db: Database, job: Job) -> None:
    """The promise is kept; nothing happens where the lease is another's by now."""
    await db.rows(_FINISH, job_id=job.id, lease=job.lease)


async def postpone_job(db: Database, job: Job, wait: timedelta, *, because: str | None = None) -> None:
    """Give the job back, due again after ``wait``; nothing happens where the lease is another's by now.

    With a reason it counts as a try: the next wait may be longer.
    """
    await db.rows(
        _POSTPONE,
        job_id=job.id,
        lease=job.lease,
        wait=wait,
        tried=int(because is not None),
        because=because,
    )


HELD_BACK: Final = "held back"
"""Why a job waits that may not send now: a stop switch, a paused account, an open breaker."""

_LONGEST_HELD_BACK: Final = 60.0

_LET_GO: Final = (
    update(jobs)
    .where(
        jobs.c.because == HELD_BACK,
        jobs.c.lease.is_(None),
        or_(jobs.c.lane == P("scope"), jobs.c.merchant_id == P("scope"), P("scope", Uuid) == ids.NIL),
    )
    .values(run_at=func.db_now(), tries=0, because=None)
)


async def hold_back(db: Database, job: Job, at_first: timedelta) -> None:
    """Look at the job again after ``at_first``, and ever more rarely: thousands may be held back at once."""
    wait = min(at_first.total_seconds() * 2 ** min(job.tries, 10), _LONGEST_HELD_BACK)
    await postpone_job(db, job, timedelta(seconds=ids.jitter(wait)), because=HELD_BACK)


async def let_go(db: Database, scope: UUID) -> None:
    """What was held back under ``scope`` (a lane, a merchant, or ``ids.NIL`` for all) is due now."""
    await db.rows(_LET_GO, scope=scope)


_promise = insert(jobs).values(
    id=P("job_id"),
    name=P("name"),
    key=P("key"),
    merchant_id=P("merchant_id"),
    lane=P("lane"),
    subject_id=P("subject_id"),
    priority=URGENT,
    run_at=func.db_now() + P("wait", Interval),
    tries=0,
)
_PROMISE_ONCE: Final = _promise.on_conflict_do_nothing(index_elements=[jobs.c.key])
_PROMISE_NOW: Final = _promise.on_conflict_do_update(
    index_elements=[jobs.c.key],
    set_={"run_at": func.db_now(), "priority": URGENT},
    # A job that is being worked on is left to its worker.
    where=or_(jobs.c.lease.is_(None), jobs.c.run_at <= func.db_now()),
)


async def promise_once(db: Database, name: str, *, after: timedelta = timedelta(0)) -> None:
    """See that the recurring job ``name`` exists; any number of processes may say so.

    One that is made here is due for the first time ``after`` so long.
    """
    await db.rows(
        _PROMISE_ONCE,
        job_id=ids.new_id(),
        name=name,
        key=name,
        merchant_id=ids.NIL,
        lane=ids.NIL,
        subject_id=ids.NIL,
        wait=after,
    )


async def wake_job(
    db: Database, name: str, key: str, *, merchant_id: UUID, lane: UUID, subject_id: UUID
) -> None:
    """Make the job ``key`` due now, and make it where it is not there."""
    await db.rows(
        _PROMISE_NOW,
        job_id=ids.new_id(),
        name=name,
        key=key,
        merchant_id=merchant_id,
        lane=lane,
        subject_id=subject_id,
        wait=timedelta(0),
    )
