"""The worker: takes due jobs, works on them side by side, and says that it is alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert

from refund_service import clock, ids, metrics
from refund_service.db.engine import Database
from refund_service.db.writeset import P
from refund_service.jobs.lease import Job
from refund_service.jobs.queue import claim_jobs, postpone_job
from refund_service.jobs.tables import heartbeats

log = structlog.get_logger()

Handler = Callable[[Job], Awaitable[None]]

SOONEST_POLL: Final = 0.02
LATEST_POLL: Final = 0.5
"""Seconds between two looks for work: doubling while there is none."""

HEARTBEAT: Final = 5.0
GRACE: Final = 18.0
"""Seconds that work in flight is given when the process is asked to end: it is to be gone after 20."""

GIVE_BACK_WITHIN: Final = 1.5
"""Seconds, for what was not finished by then."""

FORGET_WITHIN: Final = 0.5
"""Seconds, for the heartbeat's row: without it, its age tells."""

CLAIM_WITHIN: Final = 5.0
"""Seconds. A claim that a dead line swallowed holds up no ending."""

CUT_OFF: Final = "cut off when its worker ended"

FAILED_FOR: Final = timedelta(seconds=10)
PER_LANE: Final = 8


class Worker:
    """Runs the handlers of due jobs, at most ``slots`` at once and ``lane_limit`` of one lane.

    Jobs whose name is in ``cut_short`` are not waited for at the end: they lose nothing by it.
    """

    def __init__(
        self,
        db: Database,
        handlers: Mapping[str, Handler],
        *,
        slots: int = 64,
        lane_limit: int = 16,
        closed_lanes: Callable[[], Collection[UUID]] = frozenset,
        cut_short: Collection[str] = frozenset(),
        grace: float = GRACE,
    ) -> None:
        self.id = ids.new_id()
        self._db = db
        self._handlers = handlers
        self._slots = slots
        self._lane_limit = lane_limit
        self._closed_lanes = closed_lanes
        self._cut_short = cut_short
        self._grace = grace
        self._until: float | None = None
        """When what is in flight is cut off, once it was asked to end."""
        self._running: set[asyncio.Task[None]] = set()
        self._lanes: Counter[UUID] = Counter()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """There is work: do not wait for the next poll."""
        self._wake.set()

    def stop(self) -> None:
        """Take nothing new; ``run`` ends when what is in flight has ended, or after ``grace`` seconds."""
        if self._until is None:
            self._until = clock.seconds() + self._grace
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until ``stop``."""
        beat = asyncio.create_task(self._beat())
        pause = SOONEST_POLL
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                took = await self._take()
                pause = SOONEST_POLL if took else min(pause * 2, LATEST_POLL)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), 0 if took else pause)
        finally:
            beat.cancel()
            await self._drain()
            with contextlib.suppress(asyncio.CancelledError):
                await beat
            with contextlib.suppress(Exception):
                async with asyncio.timeout(FORGET_WITHIN):
                    await self._db.rows(_FORGET, worker_id=self.id)

    async def _take(self) -> int:
        room = self._slots - len(self._running)
        if room <= 0:
            return 0  # the next job that ends wakes it
        full = {lane for lane, count in self._lanes.items() if count >= self._lane_limit}
        try:
            async with asyncio.timeout(CLAIM_WITHIN):
                taken = await claim_jobs(
                    self._db,
                    at_most=room,
                    per_lane=PER_LANE,
                    closed_lanes=full | set(self._closed_lanes()),
                )
        except Exception:
            log.warning("worker.cannot_claim", worker_id=str(self.id), exc_info=True)
            return 0
        for job in taken:
            self._lanes[job.lane] += 1
            task = asyncio.create_task(self._work(job), name=job.name)
            self._running.add(task)
            task.add_done_callback(self._ended)
        return len(taken)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if len(self._running) >= self._slots:
            self._wake.set()  # every slot was taken, and one is free again
        self._running.discard(task)

    async def _work(self, job: Job) -> None:
        try:
            await self._handlers[job.name](job)
            metrics.JOBS.labels(job.name, "done").inc()
        except asyncio.CancelledError:
            # Who takes it over looks up first whatever was marked as being sent.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(GIVE_BACK_WITHIN):
                    await postpone_job(self._db, job, timedelta(0), because=CUT_OFF)
            raise
        except Exception:
            metrics.JOBS.labels(job.name, "failed").inc()
            # One job's failure is not the worker's.
            log.exception("job.failed", job=job.name, job_id=str(job.id), tries=job.tries)
            with contextlib.suppress(Exception):
                await postpone_job(self._db, job, FAILED_FOR * (1 + min(job.tries, 29)), because="failed")
        finally:
            if self._lanes[job.lane] >= self._lane_limit:
                self._wake.set()  # the lane was full and has room again
            self._lanes[job.lane] -= 1
            if self._lanes[job.lane] <= 0:
                del self._lanes[job.lane]

    async def _beat(self) -> None:
        while True:
            try:
                await self._db.rows(
                    _BEAT,
                    worker_id=self.id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    running=len(self._running),
                )
            except Exception:  # noqa: BLE001 - told by its absence
                log.warning("worker.no_heartbeat", worker_id=str(self.id))
            await asyncio.sleep(HEARTBEAT)

    async def _drain(self) -> None:
        if not self._running:
            return
        for task in self._running:
            if task.get_name() in self._cut_short:
                task.cancel()
        left = self._grace if self._until is None else max(0.0, self._until - clock.seconds())
        _, late = await asyncio.wait(self._running, timeout=left)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


_beat = insert(heartbeats).values(
    worker_id=P("worker_id"),
    host=P("host"),
    pid=P("pid"),
    running=P("running"),
    started_at=func.db_now(),
    seen_at=func.db_now(),
)
_BEAT: Final = _beat.on_conflict_do_update(
    index_elements=[heartbeats.c.worker_id],
    set_={"seen_at": func.db_now(), "running": _beat.excluded.running},
)
_FORGET: Final = delete(heartbeats).where(heartbeats.c.worker_id == P("worker_id"))
