"""The recurring verify: each check in its turn, and what it saw kept where every scrape reads it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import Integer, func, select
from sqlalchemy.dialects.postgresql import insert

from refund_service.db.engine import Database
from refund_service.db.errors import Busy
from refund_service.db.writeset import P
from refund_service.jobs.tables import verifications
from refund_service.reports.verify import CHECKS, verify_one

SOONEST_AGAIN: Final = timedelta(hours=1)
LATEST_AGAIN: Final = timedelta(days=1)
SHARE: Final = 20
"""A check rests this many times as long as it took: a large database is not read all day."""

PATIENCE: Final = timedelta(minutes=30)
"""A check that takes longer is given up: its snapshot keeps PostgreSQL from cleaning up meanwhile."""

log = structlog.get_logger()


def rest(took: timedelta) -> timedelta:
    """How long a check that took so long is left alone."""
    return min(max(took * SHARE, SOONEST_AGAIN), LATEST_AGAIN)


_LAST: Final = select(
    verifications.c.says,
    verifications.c.took_ms,
    (func.db_now() - verifications.c.looked_at).label("ago"),
)
_saw = insert(verifications).values(
    says=P("says"), broken=P("broken", Integer), took_ms=P("took_ms", Integer), looked_at=func.db_now()
)
_SAW: Final = _saw.on_conflict_do_update(
    index_elements=[verifications.c.says],
    set_={name: _saw.excluded[name] for name in ("broken", "took_ms", "looked_at")},
)


async def go_round(db: Database) -> None:
    """Make every check whose rest is over, and keep what each saw."""
    last = {row["says"]: row for row in await db.rows(_LAST)}
    for promise, says, statement in CHECKS:
        seen = last.get(says)
        if seen is not None and seen["ago"] < rest(timedelta(milliseconds=seen["took_ms"])):
            continue
        try:
            found = await verify_one(db, promise, says, statement, patience=PATIENCE)
        except Busy:
            # Its age tells; the others are worth making all the same.
            log.warning("verify.given_up", promise=promise, check=says)
            continue
        if found.rows:
            log.error("verify.promise_broken", promise=promise, check=says, rows=len(found.rows))
        await db.rows(_SAW, says=says, broken=len(found.rows), took_ms=round(found.took * 1000))
