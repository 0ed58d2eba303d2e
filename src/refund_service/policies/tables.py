"""Policies as data, the reasons a merchant gives, and every decision ever made."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from refund_service.db.columns import merchant_key, metadata, moment, of_merchant, one_of, row_id, text
from refund_service.policies.verdicts import Verdict

policies = Table(
    "policies",
    metadata,
    merchant_key(),
    Column("version", Integer, primary_key=True),
    Column("rules", JSONB, nullable=False),
    text("published_by"),
    moment("published_at"),
    of_merchant(),
)

reasons = Table(
    "reasons",
    metadata,
    merchant_key(),
    Column("code", Text, primary_key=True),
    text("title"),
    Column("active", Boolean, nullable=False),
    of_merchant(),
)

decisions = Table(
    "decisions",
    metadata,
    merchant_key(),
    row_id(),
    Column("payment_id", Uuid, nullable=False),
    Column("refund_id", Uuid),
    text("outcome"),
    text("rule"),
    Column("policy_version", Integer, nullable=False),
    text("code", nullable=True),
    text("explanation"),
    Column("facts", JSONB, nullable=False),
    Column("trace", JSONB, nullable=False),
    text("decided_for"),
    moment("decided_at"),
    of_merchant(),
    one_of("outcome", Verdict),
    Index(None, "merchant_id", "payment_id"),
)
