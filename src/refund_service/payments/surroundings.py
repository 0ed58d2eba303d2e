"""What a registration meets: one read, and where it contradicts what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, Text, and_, or_, select

from refund_service import ids
from refund_service.clock import rfc3339
from refund_service.customers.tables import customers
from refund_service.db.engine import Database
from refund_service.db.errors import Duplicate
from refund_service.db.writeset import P
from refund_service.gateways.tables import gateway_accounts
from refund_service.orders.tables import order_lines, orders
from refund_service.payments.errors import (
    GatewayAccountNeeded,
    GatewayAccountUnknown,
    OrderExists,
    PaymentContradiction,
    PaymentExists,
    PaymentNotCaptured,
    ReferenceExists,
)
from refund_service.payments.new import NewPayment
from refund_service.payments.tables import payments


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a registration meets: the account it goes through, and the rows it would make."""

    account: Mapping[str, Any]
    payment: Mapping[str, Any] | None
    order: Mapping[str, Any] | None
    customer_id: UUID | None


def _surroundings() -> Select[Any]:
    a, p, o, c = gateway_accounts, payments, orders, customers
    paid_for = orders.alias("paid_for")
    return (
        select(
            a.c.id.label("account_id"),
            a.c.name.label("account_name"),
            a.c.gateway.label("account_gateway"),
            a.c.remote_account.label("account_remote"),
            a.c.settings.label("account_settings"),
            *(p.c[name].label(f"payment_{name}") for name in _PAYMENT_FACTS),
            paid_for.c.order_id.label("payment_order_name"),
            o.c.id.label("order_id"),
            o.c.currency.label("order_currency"),
            o.c.lines.label("order_lines"),
            o.c.customer_id.label("order_customer_id"),
            c.c.id.label("customer_id"),
        )
        .select_from(a)
        .outerjoin(
            p,
            and_(
                p.c.merchant_id == a.c.merchant_id,
                p.c.gateway == a.c.gateway,
                p.c.remote_account == a.c.remote_account,
                p.c.gateway_payment_id == P("gateway_payment_id"),
            ),
        )
        .outerjoin(paid_for, and_(paid_for.c.merchant_id == p.c.merchant_id, paid_for.c.id == p.c.order_id))
        .outerjoin(o, and_(o.c.merchant_id == a.c.merchant_id, o.c.order_id == P("order_id", Text)))
        .outerjoin(c, and_(c.c.merchant_id == a.c.merchant_id, c.c.customer_id == P("customer_id", Text)))
        .where(
            a.c.merchant_id == P("merchant_id"),
            or_(P("gateway_account", Text).is_(None), a.c.name == P("gateway_account", Text)),
        )
        .order_by(a.c.created_at, a.c.id)
        .limit(20)
    )


_PAYMENT_FACTS: Final = ("id", "captured", "currency", "refunded_elsewhere", "reference")
_SURROUNDINGS: Final = _surroundings()


async def read_surroundings(db: Database, merchant_id: UUID, new: NewPayment) -> Surroundings:
    """One statement; raises where the gateway account is unknown or has to be named."""
    rows = await db.rows(
        _SURROUNDINGS,
        merchant_id=merchant_id,
        gateway_account=new.gateway_account,
        gateway_payment_id=new.gateway_payment_id,
        order_id=new.order.order_id if new.order else None,
        customer_id=new.customer.customer_id if new.customer else None,
    )
    if not rows:
        raise GatewayAccountUnknown(
            f"This merchant has no gateway account {new.gateway_account!r}."
            if new.gateway_account
            else "This merchant has no gateway account.",
            gateway_account=new.gateway_account,
        )
    # Of several accounts, the one that knows the payment already is meant.
    knowing = [row for row in rows if row["payment_id"] is not None]
    if len(rows) > 1 and len(knowing) != 1:
        raise GatewayAccountNeeded(
            f"This merchant has {len(rows)} gateway accounts.",
            gateway_accounts=[row["account_name"] for row in rows],
        )
    row = (knowing or rows)[0]
    payment = {name: row[f"payment_{name}"] for name in _PAYMENT_FACTS}
    payment["order_id"] = row["payment_order_name"]
    order = {name: row[f"order_{name}"] for name in ("id", "currency", "lines", "customer_id")}
    return Surroundings(
        account={name: row[f"account_{name}"] for name in ("id", "name", "gateway", "remote", "settings")},
        payment=payment if payment["id"] else None,
        order=order if order["id"] else None,
        customer_id=row["customer_id"],
    )


def refuse_more_back_than_came_in(new: NewPayment) -> None:
    """Raise ``PaymentContradiction`` where more was given back before than was captured."""
    if new.already_refunded > new.captured.minor:
        raise PaymentContradiction(
            f"{new.already_refunded} given back of {new.captured.minor} captured.",
            captured=new.captured.minor,
            already_refunded=new.already_refunded,
        )


CLOCKS_DIFFER_BY: Final = timedelta(minutes=5)
"""What a merchant's clock may be ahead of ours."""


def refuse_what_has_not_come_in(new: NewPayment, *, now: datetime) -> None:
    """Raise ``PaymentNotCaptured`` where the capture lies ahead: what has not come in cannot go back."""
    if new.captured_at > now + CLOCKS_DIFFER_BY:
        raise PaymentNotCaptured(
            f"It is told to be captured at {rfc3339(new.captured_at)}.",
            captured_at=rfc3339(new.captured_at),
        )


def refuse_contradiction(registered: Mapping[str, Any], new: NewPayment) -> None:
    """The same gateway payment with another amount or currency is not the same capture."""
    was: dict[str, Any] = {
        "captured": registered["captured"],
        "currency": registered["currency"],
        "already_refunded": registered["refunded_elsewhere"],
    }
    asked: dict[str, Any] = {
        "captured": new.captured.minor,
        "currency": new.captured.currency,
        "already_refunded": new.already_refunded,
    }
    # What is not told again is not denied.
    for name, told in (("order_id", new.order and new.order.order_id), ("reference", new.reference)):
        if told is not None:
            was[name], asked[name] = registered[name], told
    if was != asked:
        raise PaymentExists(
            f"{new.gateway_payment_id} is registered as {was['captured']} {was['currency']}.",
            payment_id=ids.show("payment", registered["id"]),
            registered=was,
            asked=asked,
        )


async def refuse_other_lines(db: Database, merchant_id: UUID, around: Surroundings, new: NewPayment) -> None:
    order = around.order
    if order is None or new.order is None:
        return
    if order["currency"] != new.captured.currency:
        raise OrderExists(
            f"Order {new.order.order_id} is in {order['currency']}.",
            registered={"currency": order["currency"]},
            asked={"currency": new.captured.currency},
        )
    if not new.order.lines or not order["lines"]:
        return
    kept = await db.rows(_LINES, merchant_id=merchant_id, order_id=order["id"])
    was = [{"quantity": row["quantity"], "sku": row["sku"], "total": row["total"]} for row in kept]
    asked = [{"quantity": line.quantity, "sku": line.sku, "total": line.total} for line in new.order.lines]
    if was != asked:
        raise OrderExists(f"Order {new.order.order_id} has other lines.", registered=was, asked=asked)


_LINES: Final = (
    select(order_lines.c.quantity, order_lines.c.sku, order_lines.c.total)
    .where(order_lines.c.merchant_id == P("merchant_id"), order_lines.c.order_id == P("order_id"))
    .order_by(order_lines.c.position)
)

_BY_REFERENCE: Final = select(payments.c.id).where(
    payments.c.merchant_id == P("merchant_id"), payments.c.reference == P("reference")
)


async def explain_reference(db: Database, merchant_id: UUID, refusal: Exception, new: NewPayment) -> None:
    if isinstance(refusal, Duplicate) and refusal.constraint == "uq_payments_reference":
        owner = await db.value(_BY_REFERENCE, merchant_id=merchant_id, reference=new.reference)
        raise ReferenceExists(
            f"{new.reference} names another payment.",
            reference=new.reference,
            payment_id=ids.show("payment", owner) if owner else None,
        ) from refusal
