"""What a caller asks for, and the facts that it meets, read in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, Uuid, and_, desc, false, or_, select, true

from refund_service.customers.tables import customers
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.gateways.tables import gateway_accounts
from refund_service.idempotency.keys import Claim
from refund_service.idempotency.tables import idempotency_keys
from refund_service.merchants.tables import merchants
from refund_service.orders.tables import orders
from refund_service.payments.balance import available, available_of
from refund_service.payments.new import NewPayment
from refund_service.payments.tables import payments
from refund_service.policies.tables import policies, reasons
from refund_service.refunds.tables import refunds


class By(StrEnum):
    """How a caller names the payment."""

    PAYMENT = "payment_id"
    REFERENCE = "payment_reference"
    GATEWAY_PAYMENT = "gateway_payment_id"
    ORDER = "order_id"
    INLINE = "payment"


@dataclass(frozen=True, slots=True)
class RefundAsked:
    """One refund, as asked. ``amount`` in minor units; ``None`` asks for the whole rest."""

    by: By
    name: str | UUID
    amount: int | None
    reason: str
    claim: Claim
    inline: NewPayment | None = None
    currency: str | None = None
    gateway_account: str | None = None
    expected_available: int | None = None
    execute_after: datetime | None = None
    requested_at: datetime | None = None
    channel: str | None = None
    ticket: str | None = None
    note: str | None = None
    reference: str | None = None
    replaces: UUID | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """A payment as it stood when it was read."""

    id: UUID
    currency: str
    captured: int
    held: int
    refunded: int
    disputed: int
    captured_at: datetime
    gateway_payment_id: str
    order_id: UUID | None
    order_name: str | None
    customer_id: UUID | None
    customer_name: str | None
    account_id: UUID
    account_name: str
    account_gateway: str
    account_settings: Mapping[str, Any]
    registered: bool = True
    """False where it comes with the request: a refusal must not name what it never wrote."""

    @property
    def available(self) -> int:
        """Minor units that may still be promised."""
        return available_of(self.captured, self.held, self.refunded, self.disputed)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """Everything that deciding on a request needs."""

    kept: Row | None
    payments: Sequence[PaymentFacts]
    policy_version: int | None
    policy_rules: Mapping[str, Any] | None
    own_reason: bool | None
    replaced: Row | None


def _selected(by: By) -> ColumnElement[bool]:
    p = payments
    match by:
        case By.PAYMENT:
            return p.c.id == P("name", Uuid)
        case By.REFERENCE:
            return p.c.reference == P("name", Text)
        case By.GATEWAY_PAYMENT:
            return p.c.gateway_payment_id == P("name", Text)
        case By.ORDER:
            named = select(orders.c.id).where(
                orders.c.merchant_id == P("merchant_id"), orders.c.order_id == P("name", Text)
            )
            return p.c.order_id == named.scalar_subquery()
        case By.INLINE:
            # Looked up by ``payments/surroundings.py``, which knows the account it goes through.
            return false()


def _facts(by: By) -> Select[Any]:
    m, k, p, a, o, c = merchants, idempotency_keys, payments, gateway_accounts, orders, customers
    any_account = P("gateway_account", Text).is_(None)
    named = select(gateway_accounts.c.id).where(
        gateway_accounts.c.merchant_id == P("merchant_id"),
        gateway_accounts.c.name == P("gateway_account", Text),
    )
    through = p.c.gateway_account_id == named.scalar_subquery()
    policy = (
        select(policies.c.version, policies.c.rules)
        .where(policies.c.merchant_id == P("merchant_id"))
        .order_by(desc(policies.c.version))
        .limit(1)
        .subquery("policy")
    )
    return (
        select(
            k.c.fingerprint.label("kept_fingerprint"),
            k.c.status_code,
            k.c.kind,
            k.c.resource_id,
            *(p.c[name].label(f"payment_{name}") for name in _PAYMENT),
            o.c.order_id.label("order_name"),
            c.c.customer_id.label("customer_name"),
            a.c.id.label("account_id"),
            a.c.name.label("account_name"),
            a.c.gateway.label("account_gateway"),
            a.c.settings.label("account_settings"),
            policy.c.version.label("policy_version"),
            policy.c.rules.label("policy_rules"),
            reasons.c.active.label("own_reason"),
            refunds.c.status.label("replaced_status"),
            refunds.c.payment_id.label("replaced_payment_id"),
        )
        .select_from(m)
        .outerjoin(k, and_(k.c.merchant_id == m.c.id, k.c.key == P("key", Text)))
        .outerjoin(p, and_(p.c.merchant_id == m.c.id, _selected(by), or_(any_account, through)))
        .outerjoin(a, and_(a.c.merchant_id == m.c.id, a.c.id == p.c.gateway_account_id))
        .outerjoin(o, and_(o.c.merchant_id == m.c.id, o.c.id == p.c.order_id))
        .outerjoin(c, and_(c.c.merchant_id == m.c.id, c.c.id == p.c.customer_id))
        .outerjoin(policy, true())
        .outerjoin(reasons, and_(reasons.c.merchant_id == m.c.id, reasons.c.code == P("reason", Text)))
        .outerjoin(refunds, and_(refunds.c.merchant_id == m.c.id, refunds.c.id == P("replaces", Uuid)))
        .where(m.c.id == P("merchant_id"))
        # Those with something left first: more of them than these no one wants listed.
        .order_by((available(p) <= 0), p.c.id)
        .limit(50)
    )


_PAYMENT: Final = (
    "id",
    "currency",
    "captured",
    "held",
    "refunded",
    "disputed",
    "captured_at",
    "gateway_payment_id",
    "order_id",
    "customer_id",
)
_FACTS: Final = {by: _facts(by) for by in By}


async def read_facts(db: Database, merchant_id: UUID, asked: RefundAsked) -> RequestFacts:
    """What the request meets: its key, its payment or payments, the policy in force."""
    rows = await db.rows(
        _FACTS[asked.by],
        merchant_id=merchant_id,
        key=asked.claim.key,
        reason=asked.reason,
        replaces=asked.replaces,
        gateway_account=asked.gateway_account,
        **({} if asked.by is By.INLINE else {"name": asked.name}),
    )
    first = rows[0]
    return RequestFacts(
        kept=first if first["kept_fingerprint"] is not None else None,
        payments=[_payment(row) for row in rows if row["payment_id"] is not None],
        policy_version=first["policy_version"],
        policy_rules=first["policy_rules"],
        own_reason=first["own_reason"],
        replaced=first if first["replaced_status"] is not None else None,
    )


def _payment(row: Row) -> PaymentFacts:
    return PaymentFacts(
        **{name: row[f"payment_{name}"] for name in _PAYMENT},
        order_name=row["order_name"],
        customer_name=row["customer_name"],
        account_id=row["account_id"],
        account_name=row["account_name"],
        account_gateway=row["account_gateway"],
        account_settings=row["account_settings"],
    )
