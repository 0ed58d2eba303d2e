"""Lists of refunds, newest first, by any of the filters that have an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    desc,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.paging import bounds_of_ids, in_time, of_the_one_named, page_limit, page_size
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


_EQUAL: Final = {
    "payment_id": refunds.c.payment_id,
    "reference": refunds.c.reference,
    "gateway_refund_id": refunds.c.gateway_refund_id,
    "bank_reference": refunds.c.bank_reference_value,
    "reason": refunds.c.reason,
    "requested_by": refunds.c.requested_by,
    "amount": refunds.c.amount,
}
# Named by the merchant's own word, stored by our id.
_NAMED: Final = {
    "order_id": (refunds.c.order_id, orders.c.order_id),
    "customer_id": (refunds.c.customer_id, customers.c.customer_id),
    "gateway_account": (refunds.c.gateway_account_id, gateway_accounts.c.name),
}


def _condition(name: str) -> ColumnElement[bool]:
    r = refunds.c
    if name in _EQUAL:
        return _EQUAL[name] == P(name)
    if name in _NAMED:
        return of_the_one_named(*_NAMED[name], name)
    match name:
        case "attention":
            return r.attention.is_not(None)
        case "no_attention":
            return r.attention.is_(None)
        case "before":
            return r.id < P("before")
        case "created_from" | "created_to" | "updated_from" | "updated_to":
            return in_time(refunds, name)
        case _:
            raise ValueError(name)


@lru_cache(maxsize=256)  # callers choose the combinations
def _listing(names: frozenset[str], at_most: int) -> Select[Any]:
    """The list that is narrowed by filters of these names: built once for each combination.

    The page is cut out of the refunds alone, and what stands beside them is looked up for its rows:
    joined before, a page of twenty could read all payments from end to end.
    """
    limit = page_limit(at_most)
    conditions = [_condition(name) for name in sorted(names - {"status", "outcome"})]
    page = (
        select(refunds)
        .where(refunds.c.merchant_id == P("merchant_id"), *conditions)
        .order_by(desc(refunds.c.id))
        .limit(limit)
    )
    if names & {"status", "outcome"}:
        # A few of each status, each from the index in the list's order: were they read as one set, all
        # that ever had one of them would be sorted for each page.
        wanted = func.unnest(P("statuses", ARRAY(Text))).table_valued("status").render_derived("wanted")
        few = page.where(refunds.c.status == wanted.c.status).lateral("few")
        page = select(few).select_from(wanted).join(few, true()).order_by(desc(few.c.id)).limit(limit)
    shown = page.subquery("page")
    return refund_view(shown).order_by(desc(shown.c.id))


async def list_refunds(
    db: Database, merchant_id: UUID, filters: RefundFilters, *, before: UUID | None, limit: int
) -> Sequence[Row]:
    """Up to ``limit`` refunds older than ``before``, newest first.

    Ids are time-ordered, so the id is the order, and what is inserted meanwhile stands before
    the first page and moves nothing.
    """
    given = filters.given() | ({} if before is None else {"before": before})
    names = set(given)
    if filters.attention is False:
        names = names - {"attention"} | {"no_attention"}
    statuses = set(filters.status or Status)
    if filters.outcome is not None:
        statuses &= set(statuses_of(filters.outcome))
    rows = await db.rows(
        _listing(frozenset(names), page_size(limit)),
        **given,
        **bounds_of_ids(given),
        merchant_id=merchant_id,
        statuses=sorted(statuses),
    )
    return rows[:limit]
