"""Idempotency keys, kept for ever: what was asked under each, and what was made of it."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, SmallInteger, Table, Text, Uuid

from refund_service.db.columns import merchant_key, metadata, moment, of_merchant, text

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    merchant_key(),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status_code", SmallInteger, nullable=False),
    text("kind"),
    Column("resource_id", Uuid, nullable=False),
    moment("created_at"),
    of_merchant(),
)
