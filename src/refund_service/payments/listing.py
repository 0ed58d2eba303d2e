"""Lists of payments, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, desc, select

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.paging import bounds_of_ids, in_time, of_the_one_named, page_limit, page_size
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


# Named by the merchant's own word, stored by our id.
_NAMED: Final = {
    "order_id": (payments.c.order_id, orders.c.order_id),
    "customer_id": (payments.c.customer_id, customers.c.customer_id),
}


def _condition(name: str) -> ColumnElement[bool]:
    p = payments.c
    match name:
        case "order_id" | "customer_id":
            return of_the_one_named(*_NAMED[name], name)
        case "created_from" | "created_to":
            return in_time(payments, name)
        case "before":
            return p.id < P("before")
        case _:
            return p[name] == P(name)


@lru_cache(maxsize=256)  # callers choose the combinations
def _listing(names: frozenset[str], at_most: int) -> Select[Any]:
    """The list that is narrowed by filters of these names: built once for each combination.

    The page first, then the names beside its rows: joined before, it could read all orders.
    """
    page = (
        select(payments)
        .where(payments.c.merchant_id == P("merchant_id"), *(_condition(name) for name in sorted(names)))
        .order_by(desc(payments.c.id))
        .limit(page_limit(at_most))
        .subquery("page")
    )
    return payment_view(page).order_by(desc(page.c.id))


async def list_payments(
    db: Database, merchant_id: UUID, filters: PaymentFilters, *, before: UUID | None, limit: int
) -> Sequence[Row]:
    """Up to ``limit`` payments older than ``before``, newest first."""
    given = filters.given() | ({} if before is None else {"before": before})
    statement = _listing(frozenset(given), page_size(limit))
    rows = await db.rows(statement, **given, **bounds_of_ids(given), merchant_id=merchant_id)
    return rows[:limit]
