"""Captures that a merchant received, and how much of each is set aside, given back or disputed."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from refund_service.db.columns import (
    belongs_to,
    merchant_key,
    metadata,
    minor_units,
    moment,
    of_merchant,
    row_id,
    text,
)
from refund_service.money import LARGEST_AMOUNT

payments = Table(
    "payments",
    metadata,
    merchant_key(),
    row_id(),
    Column("gateway_account_id", Uuid, nullable=False),
    text("gateway"),
    text("remote_account"),
    text("gateway_payment_id"),
    Column("order_id", Uuid),
    Column("customer_id", Uuid),
    text("currency"),
    minor_units("captured"),
    minor_units("held"),
    minor_units("refunded"),
    # The part of ``refunded`` that was given back before or beside this service.
    minor_units("refunded_elsewhere"),
    minor_units("disputed"),
    # What the gateway's facts exceed the capture by: only observations raise it, never a request.
    minor_units("excess"),
    moment("captured_at"),
    text("method", nullable=True),
    text("entity", nullable=True),
    text("reference", nullable=True),
    Column("metadata", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    of_merchant(),
    belongs_to("gateway_accounts", "gateway_account_id"),
    belongs_to("orders", "order_id"),
    belongs_to("customers", "customer_id"),
    # One capture cannot be registered twice, not even through two accounts of ours.
    Index(
        "uq_payments_gateway_payment",
        "merchant_id",
        "gateway",
        "remote_account",
        "gateway_payment_id",
        unique=True,
    ),
    Index("uq_payments_reference", "merchant_id", "reference", unique=True),
    Index(None, "merchant_id", "gateway_payment_id"),
    Index(None, "merchant_id", "order_id"),
    Index(None, "merchant_id", "customer_id"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    CheckConstraint(f"captured BETWEEN 1 AND {LARGEST_AMOUNT}", name="captured"),
    CheckConstraint(
        "held >= 0 AND refunded >= 0 AND refunded_elsewhere >= 0 AND disputed >= 0 AND excess >= 0",
        name="not_negative",
    ),
    CheckConstraint("refunded_elsewhere <= refunded", name="elsewhere"),
    CheckConstraint("held + refunded + disputed <= captured + excess", name="within_capture"),
)
