"""Lists of payments, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import desc, select

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.orders.tables import orders
from refund_service.payments.queries import payment_view
from refund_service.payments.tables import payments


@dataclass(frozen=True, slots=True)
class PaymentFilters:
    """What a list of payments is narrowed by; ``None`` does not narrow."""

    order_id: str | None = None
    customer_id: str | None = None
    reference: str | None = None
    gateway_payment_id: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    def given(self) -> dict[str, Any]:
        """The filters that narrow, by name: what a cursor is bound to."""
        return {name: value for name, value in asdict(self).items() if value is not None}


async def list_payments(
    db: Database, merchant_id: UUID, filters: PaymentFilters, *, before: UUID | None, limit: int
) -> Sequence[Row]:
    """Up to ``limit`` payments older than ``before``, newest first."""
    p, statement = payments.c, payment_view()
    for name, value in filters.given().items():
        match name:
            case "order_id":
                owner = select(orders.c.id).where(
                    orders.c.merchant_id == P("merchant_id"), orders.c.order_id == value
                )
                statement = statement.where(p.order_id == owner.scalar_subquery())
            case "customer_id":
                owner = select(customers.c.id).where(
                    customers.c.merchant_id == P("merchant_id"), customers.c.customer_id == value
                )
                statement = statement.where(p.customer_id == owner.scalar_subquery())
            case "created_from":
                statement = statement.where(p.created_at >= value)
            case "created_to":
                statement = statement.where(p.created_at < value)
            case _:
                statement = statement.where(p[name] == value)
    if before is not None:
        statement = statement.where(p.id < before)
    return await db.rows(statement.order_by(desc(p.id)).limit(limit), merchant_id=merchant_id)
