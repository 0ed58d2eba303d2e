"""Customers: the only rows, beside notes, that hold personal data."""

from __future__ import annotations

from sqlalchemy import Table, UniqueConstraint

from refund_service.db.columns import merchant_key, metadata, moment, of_merchant, row_id, text

customers = Table(
    "customers",
    metadata,
    merchant_key(),
    row_id(),
    text("customer_id"),  # the merchant's own
    text("email", nullable=True),
    text("name", nullable=True),
    text("locale", nullable=True),
    moment("created_at"),
    UniqueConstraint("merchant_id", "customer_id"),
    of_merchant(),
)
