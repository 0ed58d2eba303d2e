"""The feed of events, oldest first, in an order in which nothing appears behind a place already given out.

Only what lies below the oldest transaction still running is served: a transaction that commits
late has a number at or above it. Events of an earlier epoch are of a database before a restore
and long committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    Uuid,
    cast,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from refund_service.db.columns import XID8
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.events.tables import events, feed_epochs


def _feed() -> Select[Any]:
    # Scalars, so that both ends of the range are conditions on the index.
    oldest_running = select(func.pg_snapshot_xmin(func.pg_current_snapshot())).scalar_subquery()
    epoch_now = select(func.feed_epoch()).scalar_subquery()
    place = tuple_(events.c.epoch, events.c.xid, events.c.id)
    # bigint holds every transaction number that will ever be reached; xid8 has no cast from it.
    since = tuple_(P("epoch", Integer), cast(cast(P("xid", BigInteger), Text), XID8), P("id", Uuid))
    return (
        select(
            events.c.id,
            events.c.epoch,
            cast(cast(events.c.xid, Text), BigInteger).label("xid"),
            events.c.type,
            events.c.resource,
            events.c.resource_id,
            events.c.sequence,
            events.c.data,
            events.c.caused_by,
            events.c.occurred_at,
        )
        .where(
            events.c.merchant_id == P("merchant_id"),
            place > since,
            tuple_(events.c.epoch, events.c.xid) < tuple_(epoch_now, oldest_running),
        )
        .order_by(events.c.epoch, events.c.xid, events.c.id)
        .limit(P("limit", Integer))
    )


_FEED: Final = _feed()

BEGINNING: Final = (0, 0, UUID(int=0))
"""The place before the first event."""

Place = tuple[int, int, UUID]


async def read_feed(db: Database, merchant_id: UUID, *, since: Place, limit: int) -> Sequence[Row]:
    """Up to ``limit`` events behind ``since``, oldest first."""
    epoch, xid, id_ = since
    return await db.rows(_FEED, merchant_id=merchant_id, epoch=epoch, xid=xid, id=id_, limit=limit)


_ONE: Final = select(events).where(events.c.merchant_id == P("merchant_id"), events.c.id == P("event_id"))


async def get_event(db: Database, merchant_id: UUID, event_id: UUID) -> Row | None:
    """One event, or ``None``."""
    return await db.row(_ONE, merchant_id=merchant_id, event_id=event_id)


_RESOURCE: Final = (
    select(events)
    .where(events.c.merchant_id == P("merchant_id"), events.c.resource_id == P("resource_id"))
    .order_by(events.c.sequence)
)


async def events_of(db: Database, merchant_id: UUID, resource_id: UUID) -> Sequence[Row]:
    """Every event of one resource, in its own order."""
    return await db.rows(_RESOURCE, merchant_id=merchant_id, resource_id=resource_id)


# After a restore to a point in time, or a failover that lost its last moments, the same server goes
# on under a new timeline; a dump that was restored elsewhere meets another server.
_here: ColumnElement[str] = literal_column("system_identifier::text || '/' || timeline_id")

_BEGIN_EPOCH: Final = (
    insert(feed_epochs)
    .from_select(
        ["epoch", "system_identifier", "began_at"],
        select(
            func.feed_epoch() + 1,
            _here,
            func.now(),
        )
        .select_from(func.pg_control_system().alias("server"))
        .join(func.pg_control_checkpoint().alias("checkpoint"), true())
        .where(
            _here
            != select(feed_epochs.c.system_identifier)
            .order_by(feed_epochs.c.epoch.desc())
            .limit(1)
            .scalar_subquery()
        ),
    )
    .on_conflict_do_nothing()
)


async def begin_epoch(db: Database) -> None:
    """Where this data has moved to another server, open a new epoch: its transaction numbers start anew."""
    await db.rows(_BEGIN_EPOCH)
