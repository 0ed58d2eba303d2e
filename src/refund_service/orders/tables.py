"""What was bought: orders with their lines, and the facts about them that come later."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, UniqueConstraint, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from refund_service.db.columns import (
    belongs_to,
    merchant_key,
    metadata,
    minor_units,
    moment,
    of_merchant,
    one_of,
    row_id,
    text,
)


class LineKind(StrEnum):
    """What a line of an order is."""

    PRODUCT = "product"
    SHIPPING = "shipping"
    FEE = "fee"
    DISCOUNT = "discount"


orders = Table(
    "orders",
    metadata,
    merchant_key(),
    row_id(),
    text("order_id"),  # the merchant's own
    text("currency"),
    Column("customer_id", Uuid),
    text("country", nullable=True),
    Column("tags", JSONB, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("merchant_id", "order_id"),
    Index(None, "merchant_id", "customer_id"),
    of_merchant(),
    belongs_to("customers", "customer_id"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
)

order_lines = Table(
    "order_lines",
    metadata,
    merchant_key(),
    Column("order_id", Uuid, primary_key=True),
    Column("position", Integer, primary_key=True),
    text("line_id", nullable=True),
    text("kind"),
    text("sku", nullable=True),
    text("name", nullable=True),
    Column("quantity", Integer, nullable=False),
    # Of one unit, before the line's rounding; negative on discounts.
    Column("unit_price", BigInteger, nullable=False),
    Column("tax", BigInteger, nullable=False),
    minor_units("total"),
    Column("tags", JSONB, nullable=False),
    belongs_to("orders", "order_id"),
    one_of("kind", LineKind),
    CheckConstraint("quantity > 0", name="quantity"),
)

order_facts = Table(
    "order_facts",
    metadata,
    merchant_key(),
    Column("order_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("facts", JSONB, nullable=False),
    text("told_by"),
    moment("told_at"),
    belongs_to("orders", "order_id"),
)
