"""Facts about an order that come later: fulfilled, delivered, tagged. Each telling is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, Text, and_, func, select, update
from sqlalchemy.dialects.postgresql import JSONB

from refund_service import ids
from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.errors import WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.errors import NotFound
from refund_service.events.record import event_values
from refund_service.orders.tables import order_facts, order_lines, orders


class OrderNotFound(NotFound):
    code = "order-not-found"
    title = "No such order"
    help = "Register a payment with its order first."


def _tell() -> Select[Any]:
    write = WriteSet("orders.tell")
    order = write.guard(
        "order",
        update(orders)
        .where(orders.c.merchant_id == P("merchant_id"), orders.c.order_id == P("order_id"))
        .values(
            # A fact that is told as null is taken back.
            facts=func.jsonb_strip_nulls(orders.c.facts.op("||")(P("facts", JSONB)), type_=JSONB),
            tags=func.coalesce(P("tags", JSONB(none_as_null=True)), orders.c.tags),
            country=func.coalesce(P("country", Text), orders.c.country),
            version=orders.c.version + 1,
            updated_at=P("now"),
        ),
        orders.c.id,
        orders.c.version,
    )
    write.insert(
        "history",
        order_facts,
        {
            "merchant_id": P("merchant_id"),
            "order_id": order.c.id,
            "version": order.c.version,
            "facts": P("told"),
            "told_by": P("actor"),
            "told_at": P("now"),
        },
    )
    event_table, values = event_values("event", sequence=order.c.version)
    write.insert("event", event_table, values | {"resource_id": order.c.id})
    return write.done(id=order.c.id)


_TELL: Final = _tell()


async def tell_order(
    db: Database,
    merchant_id: UUID,
    order_id: str,
    *,
    facts: Mapping[str, Any],
    tags: Sequence[str] | None,
    country: str | None,
    actor: str,
    now: datetime,
) -> None:
    """Add facts to an order, and write down who told them when."""
    told = dict(facts)
    if tags is not None:
        told["tags"] = list(tags)
    if country is not None:
        told["country"] = country
    try:
        await db.write(
            _TELL,
            merchant_id=merchant_id,
            order_id=order_id,
            facts=dict(facts),
            tags=list(tags) if tags is not None else None,
            country=country,
            told=told,
            actor=actor,
            now=now,
            event_id=ids.new_id(),
            event_type="order.updated",
            event_resource="order",
            event_data={"order_id": order_id, "told": sorted(told)},
        )
    except WriteRefused as refused:
        raise OrderNotFound(f"This merchant has no order {order_id!r}.", order_id=order_id) from refused


_ORDER: Final = (
    select(*orders.c, customers.c.customer_id.label("customer_name"))
    .outerjoin(
        customers,
        and_(customers.c.merchant_id == orders.c.merchant_id, customers.c.id == orders.c.customer_id),
    )
    .where(orders.c.merchant_id == P("merchant_id"), orders.c.order_id == P("order_id"))
)
_LINES: Final = (
    select(order_lines)
    .where(order_lines.c.merchant_id == P("merchant_id"), order_lines.c.order_id == P("order_row"))
    .order_by(order_lines.c.position)
)
_HISTORY: Final = (
    select(order_facts)
    .where(order_facts.c.merchant_id == P("merchant_id"), order_facts.c.order_id == P("order_row"))
    .order_by(order_facts.c.version)
)


async def get_order(
    db: Database, merchant_id: UUID, order_id: str
) -> tuple[Row, Sequence[Row], Sequence[Row]]:
    """An order by the merchant's own id, with its lines and the history of its facts."""
    order = await db.row(_ORDER, merchant_id=merchant_id, order_id=order_id)
    if order is None:
        raise OrderNotFound(f"This merchant has no order {order_id!r}.", order_id=order_id)
    return (
        order,
        await db.rows(_LINES, merchant_id=merchant_id, order_row=order["id"]),
        await db.rows(_HISTORY, merchant_id=merchant_id, order_row=order["id"]),
    )
