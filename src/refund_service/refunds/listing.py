"""Lists of refunds, newest first, by any of the filters that have an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, desc, select

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.gateways.tables import gateway_accounts
from refund_service.orders.tables import orders
from refund_service.refunds.queries import refund_view
from refund_service.refunds.states import Outcome, Status, statuses_of
from refund_service.refunds.tables import refunds


@dataclass(frozen=True, slots=True)
class RefundFilters:
    """What a list of refunds is narrowed by; ``None`` does not narrow."""

    status: Sequence[Status] | None = None
    outcome: Outcome | None = None
    payment_id: UUID | None = None
    order_id: str | None = None
    customer_id: str | None = None
    reference: str | None = None
    gateway_refund_id: str | None = None
    bank_reference: str | None = None
    reason: str | None = None
    requested_by: str | None = None
    gateway_account: str | None = None
    amount: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    attention: bool | None = None

    def given(self) -> dict[str, Any]:
        """The filters that narrow, by name: what a cursor is bound to."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) is not None
        }


def _conditions(filters: RefundFilters) -> list[ColumnElement[bool]]:
    r, given = refunds.c, filters.given()
    one_of = {"status": r.status, "outcome": r.status}
    equal = {
        "payment_id": r.payment_id,
        "reference": r.reference,
        "gateway_refund_id": r.gateway_refund_id,
        "bank_reference": r.bank_reference_value,
        "reason": r.reason,
        "requested_by": r.requested_by,
        "amount": r.amount,
    }
    # Named by the merchant's own word, stored by our id.
    named = {
        "order_id": (r.order_id, orders, orders.c.order_id),
        "customer_id": (r.customer_id, customers, customers.c.customer_id),
        "gateway_account": (r.gateway_account_id, gateway_accounts, gateway_accounts.c.name),
    }
    found: list[ColumnElement[bool]] = []
    for name, value in given.items():
        if name in one_of:
            words = statuses_of(value) if isinstance(value, Outcome) else list(value)
            found.append(one_of[name].in_(words))
        elif name in equal:
            found.append(equal[name] == value)
        elif name in named:
            column, table, word = named[name]
            owner = select(table.c.id).where(table.c.merchant_id == P("merchant_id"), word == value)
            found.append(column == owner.scalar_subquery())
        elif name == "attention":
            found.append(r.attention.is_not(None) if value else r.attention.is_(None))
        else:
            column = r.created_at if name.startswith("created") else r.updated_at
            found.append(column >= value if name.endswith("_from") else column < value)
    return found


async def list_refunds(
    db: Database, merchant_id: UUID, filters: RefundFilters, *, before: UUID | None, limit: int
) -> Sequence[Row]:
    """Up to ``limit`` refunds older than ``before``, newest first.

    Ids are time-ordered, so the id is the order, and what is inserted meanwhile stands before
    the first page and moves nothing.
    """
    statement = refund_view().where(*_conditions(filters))
    if before is not None:
        statement = statement.where(refunds.c.id < before)
    return await db.rows(statement.order_by(desc(refunds.c.id)).limit(limit), merchant_id=merchant_id)
