"""Promises to do something after the commit, and the workers that keep them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, Integer, SmallInteger, Table, Text, Uuid

from refund_service.db.columns import metadata, moment, text

URGENT: Final = 0
"""Someone waits for it: a first sending, or a question asked by hand."""

LATER: Final = 1
"""A look-up, a poll, another try."""

# The operator's own, not a merchant's: ``lane`` is what takes turns (a gateway account), and a
# job is taken by moving ``run_at`` to the end of the lease, so one column says what is due.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("merchant_id", Uuid, nullable=False),
    Column("lane", Uuid, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    moment("run_at"),
    Column("lease", Uuid),
    Column("tries", Integer, nullable=False),
    text("because", nullable=True),  # why it waits, for whoever looks
    Index(None, "lane", "priority", "run_at"),
    Index(None, "subject_id"),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("worker_id", Uuid, primary_key=True),
    text("host"),
    Column("pid", Integer, nullable=False),
    moment("started_at"),
    moment("seen_at"),
    Column("running", Integer, nullable=False),
)

# What the recurring verify last saw, one row a check.
verifications = Table(
    "verifications",
    metadata,
    Column("says", Text, primary_key=True),
    Column("broken", Integer, nullable=False),
    Column("took_ms", Integer, nullable=False),
    moment("looked_at"),
)
