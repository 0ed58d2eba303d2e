"""Merchants' accounts at gateways, with sealed credentials, and the switches that stop sends."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, Table, UniqueConstraint, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from refund_service.db.columns import merchant_key, metadata, moment, of_merchant, one_of, row_id, text

gateway_accounts = Table(
    "gateway_accounts",
    metadata,
    merchant_key(),
    row_id(),
    text("name"),
    text("gateway"),
    # The account's id at the gateway: two rows may share it, their payments are then the same.
    text("remote_account"),
    text("base_url"),
    Column("settings", JSONB, nullable=False),
    Column("sealed_credentials", LargeBinary, nullable=False),
    text("sealing_key_id"),
    text("status"),
    text("paused_reason", nullable=True),
    Column("version", Integer, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("merchant_id", "name"),
    of_merchant(),
    one_of("status", ("active", "paused")),
)

# The operator's own: the scope is a merchant's id, a gateway account's, or the nil id for all. A
# worker reads it in the very statement that marks a refund as being sent.
stop_switches = Table(
    "stop_switches",
    metadata,
    Column("scope", Uuid, primary_key=True),
    text("reason"),
    text("stopped_by"),
    moment("stopped_at"),
)
