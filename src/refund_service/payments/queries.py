"""Reading payments."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, FromClause, Select, and_, func, select

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.gateways.tables import gateway_accounts
from refund_service.orders.tables import orders
from refund_service.payments.balance import available
from refund_service.payments.errors import PaymentNotFound
from refund_service.payments.tables import payments

Payment = Row
"""A row of ``payment_view``."""


def payment_view(p: FromClause = payments) -> Select[Any]:
    """Payments, all or those in ``p``, with the names of their order, customer and account."""
    o, c, a = orders, customers, gateway_accounts
    return (
        select(
            *p.c,
            o.c.order_id.label("order_name"),
            c.c.customer_id.label("customer_name"),
            a.c.name.label("account_name"),
        )
        .select_from(p)
        .join(a, and_(a.c.merchant_id == p.c.merchant_id, a.c.id == p.c.gateway_account_id))
        .outerjoin(o, and_(o.c.merchant_id == p.c.merchant_id, o.c.id == p.c.order_id))
        .outerjoin(c, and_(c.c.merchant_id == p.c.merchant_id, c.c.id == p.c.customer_id))
        .where(p.c.merchant_id == P("merchant_id"))
    )


_ONE: Final = payment_view().where(payments.c.id == P("payment_id"))


async def get_payment(db: Database, merchant_id: UUID, payment_id: UUID) -> Payment:
    """One payment; ``PaymentNotFound`` where it is not there or not this merchant's."""
    row = await db.row(_ONE, merchant_id=merchant_id, payment_id=payment_id)
    if row is None:
        raise PaymentNotFound("This merchant has no such payment.")
    return row


_SUMS: Final = select(
    *(
        func.coalesce(func.sum(amount), 0).cast(BigInteger).label(name)
        for name, amount in (
            ("captured", payments.c.captured),
            ("held", payments.c.held),
            ("refunded", payments.c.refunded),
            ("available", func.greatest(0, available(payments))),
        )
    )
).where(payments.c.merchant_id == P("merchant_id"), payments.c.order_id == P("order_row"))


async def sums_of_order(db: Database, merchant_id: UUID, order_row: UUID) -> Row:
    """``captured``, ``held``, ``refunded``, ``available`` over all payments of an order, in minor units."""
    return (await db.rows(_SUMS, merchant_id=merchant_id, order_row=order_row))[0]
