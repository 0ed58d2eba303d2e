"""Merchants, each once for live and once for test, and the keys that speak for them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, LargeBinary, Table, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, TEXT

from refund_service.db.columns import merchant_key, metadata, moment, of_merchant, one_of, row_id, text
from refund_service.merchants.roles import Role

merchants = Table(
    "merchants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("organization_id", Uuid, nullable=False),
    text("name"),
    Column("livemode", Boolean, nullable=False),
    moment("created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    merchant_key(),
    row_id(),
    # Looked up before a merchant is known: one of the two unique values that no merchant leads.
    Column("prefix", TEXT, nullable=False, unique=True),
    Column("secret_hmac", LargeBinary, nullable=False),
    text("pepper_id"),
    text("subject"),
    text("role"),
    Column("scopes", ARRAY(TEXT), nullable=False),
    moment("created_at"),
    moment("revoked_at", nullable=True),
    of_merchant(),
    one_of("role", Role),
)
