"""Stop switches: one row that a worker reads right before each send. What is stopped stays queued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.gateways.tables import stop_switches
from refund_service.jobs.queue import let_go

_STOP: Final = (
    insert(stop_switches)
    .values(scope=P("scope"), reason=P("reason"), stopped_by=P("stopped_by"), stopped_at=func.now())
    .on_conflict_do_nothing()
)
_RESUME: Final = (
    delete(stop_switches).where(stop_switches.c.scope == P("scope")).returning(stop_switches.c.scope)
)
_ALL: Final = select(stop_switches).order_by(stop_switches.c.stopped_at)


async def stop_sends(db: Database, scope: UUID, reason: str, *, stopped_by: str) -> None:
    """Stop the sends of a merchant or gateway account by its id, or all of them by ``ids.NIL``."""
    await db.rows(_STOP, scope=scope, reason=reason, stopped_by=stopped_by)


async def resume_sends(db: Database, scope: UUID) -> bool:
    """Let them go on; false where they were not stopped."""
    was_stopped = bool(await db.rows(_RESUME, scope=scope))
    await let_go(db, scope)
    return was_stopped


async def all_stops(db: Database) -> Sequence[Row]:
    """What is stopped, the longest first."""
    return await db.rows(_ALL)
