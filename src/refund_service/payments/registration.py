"""The write that puts a capture down, with the customer, order and lines that are new."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Integer, Text, case, column, func, or_, update
from sqlalchemy.dialects.postgresql import JSONB

from refund_service import ids
from refund_service.customers.tables import customers
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.orders.tables import order_lines, orders
from refund_service.payments.new import NewPayment
from refund_service.payments.surroundings import Surroundings
from refund_service.payments.tables import payments


def add_registration(write: WriteSet) -> None:
    """The parts that write a capture down, with the customer, order and lines that are new."""
    write.insert(
        "payment",
        payments,
        {
            "merchant_id": P("merchant_id"),
            "id": P("payment_id"),
            "gateway_account_id": P("gateway_account_id"),
            "gateway": P("gateway"),
            "remote_account": P("remote_account"),
            "gateway_payment_id": P("gateway_payment_id"),
            "order_id": P("order_row"),
            "customer_id": P("customer_row"),
            "currency": P("currency"),
            "captured": P("captured"),
            "held": P("held"),
            "refunded": P("already_refunded"),
            "refunded_elsewhere": P("already_refunded"),
            "disputed": 0,
            "excess": 0,
            "captured_at": P("captured_at"),
            "method": P("method"),
            "entity": P("entity"),
            "reference": P("payment_reference"),
            "metadata": P("payment_metadata"),
            "version": 1,
            "created_at": P("now"),
            "updated_at": P("now"),
        },
    )
    write.insert(
        "customer",
        customers,
        {
            "merchant_id": P("merchant_id"),
            "id": P("customer_row"),
            "customer_id": P("customer_id"),
            "email": P("customer_email"),
            "name": P("customer_name"),
            "locale": P("customer_locale"),
            "created_at": P("now"),
        },
        when=P("customer_is_new", Boolean),
    )
    told_again = P("customer_told_again", Boolean)
    write.guard(
        "customer_again",
        update(customers)
        .where(customers.c.merchant_id == P("merchant_id"), customers.c.id == P("customer_row"), told_again)
        .values(
            email=func.coalesce(P("customer_email", Text), customers.c.email),
            name=func.coalesce(P("customer_name", Text), customers.c.name),
            locale=func.coalesce(P("customer_locale", Text), customers.c.locale),
        ),
        times=case((told_again, 1), else_=0),
    )
    write.insert(
        "order",
        orders,
        {
            "merchant_id": P("merchant_id"),
            "id": P("order_row"),
            "order_id": P("order_id"),
            "currency": P("currency"),
            "customer_id": P("customer_row"),
            "country": P("order_country"),
            "tags": P("order_tags"),
            "facts": P("order_facts"),
            "lines": func.jsonb_array_length(P("order_lines", JSONB)),
            "version": 1,
            "created_at": P("now"),
            "updated_at": P("now"),
        },
        when=P("order_is_new", Boolean),
    )
    completed = P("order_completed", Boolean)
    write.insert("order_told", *event_values("order_told", sequence=1), when=P("order_is_new", Boolean))
    filled = write.guard(
        "order_completed",
        # An order that was first only named gets its lines with a later payment.
        update(orders)
        .where(
            orders.c.merchant_id == P("merchant_id"),
            orders.c.id == P("order_row"),
            orders.c.lines == 0,
            completed,
        )
        .values(
            lines=func.jsonb_array_length(P("order_lines", JSONB)),
            country=func.coalesce(P("order_country", Text), orders.c.country),
            customer_id=func.coalesce(orders.c.customer_id, P("customer_row")),
            version=orders.c.version + 1,
            updated_at=P("now"),
        ),
        orders.c.version,
        times=case((completed, 1), else_=0),
    )
    write.insert("order_filled", *event_values("order_filled", sequence=filled.c.version), when=completed)
    line = (
        func.jsonb_to_recordset(P("order_lines", JSONB))
        .table_valued(
            column("position", Integer),
            column("line_id", Text),
            column("kind", Text),
            column("sku", Text),
            column("name", Text),
            column("quantity", Integer),
            column("unit_price", BigInteger),
            column("tax", BigInteger),
            column("total", BigInteger),
            column("tags", JSONB),
        )
        .render_derived(name="line", with_types=True)
    )
    takes_lines = or_(P("order_is_new", Boolean), completed)
    write.insert(
        "lines",
        order_lines,
        {"merchant_id": P("merchant_id"), "order_id": P("order_row")}
        | {column.name: column for column in line.c},
        rows=line,
        when=takes_lines,
        times=case((takes_lines, func.jsonb_array_length(P("order_lines", JSONB))), else_=0),
    )
    write.insert("registered", *event_values("registered", sequence=1))


def registration_binds(
    merchant_id: UUID,
    payment_id: UUID,
    new: NewPayment,
    around: Surroundings,
    *,
    actor: str,
    now: datetime,
    held: int = 0,
) -> dict[str, Any]:
    """The bind parameters of ``add_registration``."""
    order, customer = new.order, new.customer
    order_row = (around.order["id"] if around.order else ids.new_id()) if order else None
    customer_row = (around.customer_id or ids.new_id()) if customer else None
    if customer_row is None and around.order is not None:
        customer_row = around.order["customer_id"]
    lines = [
        {"position": n, **asdict(line), "tags": list(line.tags)}
        for n, line in enumerate(order.lines if order else (), 1)
    ]
    order_is_new = order is not None and around.order is None
    told = {
        "order_id": order.order_id if order else None,
        "currency": new.captured.currency,
        "lines": len(lines),
    }
    return {
        "merchant_id": merchant_id,
        "payment_id": payment_id,
        "gateway_account_id": around.account["id"],
        "gateway": around.account["gateway"],
        "remote_account": around.account["remote"],
        "gateway_payment_id": new.gateway_payment_id,
        "currency": new.captured.currency,
        "captured": new.captured.minor,
        "held": held,
        "already_refunded": new.already_refunded,
        "captured_at": new.captured_at,
        "method": new.method,
        "entity": new.entity,
        "payment_reference": new.reference,
        "payment_metadata": dict(new.metadata),
        "customer_row": customer_row,
        "customer_id": customer.customer_id if customer else None,
        "customer_email": customer.email if customer else None,
        "customer_name": customer.name if customer else None,
        "customer_locale": customer.locale if customer else None,
        "customer_is_new": customer is not None and around.customer_id is None,
        "customer_told_again": customer is not None
        and around.customer_id is not None
        and any((customer.email, customer.name, customer.locale)),
        "order_row": order_row,
        "order_id": order.order_id if order else None,
        "order_country": order.country if order else None,
        "order_tags": list(order.tags) if order else [],
        "order_facts": dict(order.facts) if order else {},
        "order_lines": lines,
        "order_is_new": order_is_new,
        "order_completed": bool(lines) and not order_is_new and not (around.order or {}).get("lines"),
        "order_told_id": ids.new_id(),
        "order_told_type": "order.registered",
        "order_told_resource": "order",
        "order_told_resource_id": order_row,
        "order_told_data": told,
        "order_filled_id": ids.new_id(),
        "order_filled_type": "order.updated",
        "order_filled_resource": "order",
        "order_filled_resource_id": order_row,
        "order_filled_data": told,
        "registered_id": ids.new_id(),
        "registered_type": "payment.registered",
        "registered_resource": "payment",
        "registered_resource_id": payment_id,
        "registered_data": {
            "payment_id": ids.show("payment", payment_id),
            "captured": new.captured.minor,
            "currency": new.captured.currency,
            "refunded": new.already_refunded,
            "order_id": order.order_id if order else None,
        },
        "actor": actor,
        "now": now,
    }
