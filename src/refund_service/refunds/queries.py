"""Reading refunds, each with what a caller wants to see beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import FromClause, Select, and_, select

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.gateways.tables import gateway_accounts
from refund_service.orders.tables import orders
from refund_service.payments.balance import available_of
from refund_service.payments.tables import payments
from refund_service.policies.tables import decisions
from refund_service.refunds.errors import RefundNotFound
from refund_service.refunds.tables import attempts, gateway_calls, refund_transitions, refunds

Refund = Row
"""A row of ``refund_view``: the refund's columns, and those of its surroundings under a prefix."""


def refund_view(r: FromClause = refunds) -> Select[Any]:
    """Refunds, all or those in ``r``, with payment, order, customer, account and decision."""
    p, o, c, a, d = payments, orders, customers, gateway_accounts, decisions
    return (
        select(
            *r.c,
            p.c.captured.label("payment_captured"),
            p.c.captured_at.label("payment_captured_at"),
            p.c.held.label("payment_held"),
            p.c.refunded.label("payment_refunded"),
            p.c.disputed.label("payment_disputed"),
            p.c.gateway_payment_id.label("payment_gateway_payment_id"),
            o.c.order_id.label("order_name"),
            c.c.customer_id.label("customer_name"),
            a.c.name.label("account_name"),
            a.c.gateway.label("account_gateway"),
            d.c.outcome.label("decision_outcome"),
            d.c.rule.label("decision_rule"),
            d.c.policy_version.label("decision_policy_version"),
        )
        .select_from(r)
        .join(p, and_(p.c.merchant_id == r.c.merchant_id, p.c.id == r.c.payment_id))
        .join(a, and_(a.c.merchant_id == r.c.merchant_id, a.c.id == r.c.gateway_account_id))
        .join(d, and_(d.c.merchant_id == r.c.merchant_id, d.c.id == r.c.decision_id))
        .outerjoin(o, and_(o.c.merchant_id == r.c.merchant_id, o.c.id == r.c.order_id))
        .outerjoin(c, and_(c.c.merchant_id == r.c.merchant_id, c.c.id == r.c.customer_id))
        .where(r.c.merchant_id == P("merchant_id"))
    )


def available_of_view(refund: Row) -> int:
    """What is available of the payment that a refund's view shows, in minor units."""
    return available_of(*(refund[f"payment_{part}"] for part in ("captured", "held", "refunded", "disputed")))


_ONE: Final = refund_view().where(refunds.c.id == P("refund_id"))


async def get_refund(db: Database, merchant_id: UUID, refund_id: UUID) -> Refund:
    """One refund; ``RefundNotFound`` where it is not there or not this merchant's."""
    row = await db.row(_ONE, merchant_id=merchant_id, refund_id=refund_id)
    if row is None:
        raise RefundNotFound("This merchant has no such refund.")
    return row


_STATUS: Final = select(refunds.c.status).where(
    refunds.c.merchant_id == P("merchant_id"), refunds.c.id == P("refund_id")
)


async def status_of(db: Database, merchant_id: UUID, refund_id: UUID) -> str | None:
    """Where a refund stands, or ``None`` where there is none."""
    found: str | None = await db.value(_STATUS, merchant_id=merchant_id, refund_id=refund_id)
    return found


_HISTORY: Final = (
    select(refund_transitions)
    .where(
        refund_transitions.c.merchant_id == P("merchant_id"),
        refund_transitions.c.refund_id == P("refund_id"),
    )
    .order_by(refund_transitions.c.version)
)


async def history_of(db: Database, merchant_id: UUID, refund_id: UUID) -> Sequence[Row]:
    """Every move of a refund, oldest first."""
    return await db.rows(_HISTORY, merchant_id=merchant_id, refund_id=refund_id)


_ATTEMPTS: Final = (
    select(attempts)
    .where(attempts.c.merchant_id == P("merchant_id"), attempts.c.refund_id == P("refund_id"))
    .order_by(attempts.c.generation)
)
_CALLS: Final = (
    select(gateway_calls)
    .where(gateway_calls.c.merchant_id == P("merchant_id"), gateway_calls.c.refund_id == P("refund_id"))
    .order_by(gateway_calls.c.id)
)


async def attempts_of(
    db: Database, merchant_id: UUID, refund_id: UUID
) -> tuple[Sequence[Row], Sequence[Row]]:
    """A refund's attempts, and every call to the gateway made for them, oldest first."""
    return (
        await db.rows(_ATTEMPTS, merchant_id=merchant_id, refund_id=refund_id),
        await db.rows(_CALLS, merchant_id=merchant_id, refund_id=refund_id),
    )


_BY_REFERENCE: Final = select(refunds.c.id).where(
    refunds.c.merchant_id == P("merchant_id"), refunds.c.reference == P("reference")
)


async def refund_by_reference(db: Database, merchant_id: UUID, reference: str | None) -> UUID | None:
    """The refund that a reference names."""
    found: UUID | None = await db.value(_BY_REFERENCE, merchant_id=merchant_id, reference=reference)
    return found


_IN_CLARIFICATION: Final = (
    select(refunds.c.id, refunds.c.amount)
    .where(
        refunds.c.merchant_id == P("merchant_id"),
        refunds.c.payment_id == P("payment_id"),
        refunds.c.status == "unknown",
    )
    .order_by(refunds.c.id)
    .limit(10)
)


async def in_clarification(db: Database, merchant_id: UUID, payment_id: UUID) -> Sequence[Row]:
    """The refunds over a payment whose answer was lost: they may have moved money."""
    return await db.rows(_IN_CLARIFICATION, merchant_id=merchant_id, payment_id=payment_id)
