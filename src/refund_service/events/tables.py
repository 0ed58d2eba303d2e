"""What happened, in the write that made it true; served oldest first without gaps.

``xid`` is the transaction that wrote the event: the feed serves only what lies below the
oldest transaction still running, so that nothing that commits late appears behind a cursor
already given out. ``epoch`` counts the databases that this data has lived in: transaction
numbers start anew where a dump is restored into another server.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text, Uuid
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB

from refund_service.db.columns import XID8, merchant_key, metadata, moment, of_merchant, row_id, text

events = Table(
    "events",
    metadata,
    merchant_key(),
    row_id(),
    Column("epoch", Integer, nullable=False, server_default=sql("feed_epoch()")),
    Column("xid", XID8, nullable=False, server_default=sql("pg_current_xact_id()")),
    text("type"),
    text("resource"),
    Column("resource_id", Uuid, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("data", JSONB, nullable=False),
    text("caused_by"),
    moment("occurred_at"),
    of_merchant(),
    Index("uq_events_sequence", "merchant_id", "resource_id", "sequence", unique=True),
    Index("ix_events_feed", "merchant_id", "epoch", "xid", "id"),
)

feed_epochs = Table(
    "feed_epochs",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("system_identifier", Text, nullable=False),
    moment("began_at"),
)
