"""What no policy can allow: an amount that is not there, another currency, an unknown reason."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.money import decimal_of
from refund_service.policies.reasons import ReasonUnknown, is_active
from refund_service.refunds.ask import PaymentFacts, RefundAsked, RequestFacts
from refund_service.refunds.errors import (
    AmountExceedsAvailable,
    AvailableChanged,
    CurrencyDiffers,
    NothingAvailable,
    NotReplaceable,
)
from refund_service.refunds.queries import in_clarification
from refund_service.refunds.states import Status


def whole_rest(payment: PaymentFacts) -> int:
    """All that is left of a payment, in minor units; ``NothingAvailable`` where that is nothing."""
    if payment.available == 0:
        raise NothingAvailable(
            f"Of {payment.captured} captured, {payment.refunded} are given back and {payment.held} held.",
            captured=payment.captured,
            held=payment.held,
            refunded=payment.refunded,
            disputed=payment.disputed,
            available=0,
            links=_link(payment),
        )
    return payment.available


async def refuse_impossible(
    db: Database,
    merchant_id: UUID,
    asked: RefundAsked,
    facts: RequestFacts,
    *,
    payment: PaymentFacts,
    amount: int,
) -> None:
    """Raise what is wrong with the request itself. Nothing of it is written down."""
    if not is_active(asked.reason, own=facts.own_reason):
        raise ReasonUnknown(f"{asked.reason!r} is not an active reason.", reason=asked.reason)
    if asked.currency not in (None, payment.currency):
        raise CurrencyDiffers(
            f"The payment was captured in {payment.currency}, not {asked.currency}.",
            captured_currency=payment.currency,
            asked_currency=asked.currency,
        )
    if asked.expected_available not in (None, payment.available):
        raise AvailableChanged(
            f"{payment.available} is available, {asked.expected_available} was expected.",
            available=payment.available,
            expected_available=asked.expected_available,
        )
    if asked.replaces is not None and (
        facts.replaced is None
        or facts.replaced["replaced_status"] != Status.REVERSED
        or facts.replaced["replaced_payment_id"] != payment.id
    ):
        raise NotReplaceable(
            "`replaces` must name a reversed refund of the same payment.",
            replaces=ids.show("refund", asked.replaces),
            refund_status=facts.replaced["replaced_status"] if facts.replaced else None,
        )
    if amount > payment.available:
        raise await _exceeds(db, merchant_id, payment, amount)


async def _exceeds(
    db: Database, merchant_id: UUID, payment: PaymentFacts, amount: int
) -> AmountExceedsAvailable:
    unclear = await in_clarification(db, merchant_id, payment.id) if payment.held else []
    detail = (
        f"{decimal_of(amount, payment.currency)} {payment.currency} is asked, "
        f"{decimal_of(payment.available, payment.currency)} is available."
    )
    if unclear:
        detail += (
            f" {decimal_of(sum(row['amount'] for row in unclear), payment.currency)} is being clarified: "
            "the gateway's answer was lost and the money may have moved."
        )
    more: dict[str, Any] = (
        {"in_clarification": [ids.show("refund", row["id"]) for row in unclear]} if unclear else {}
    )
    return AmountExceedsAvailable(
        detail,
        asked=amount,
        available=payment.available,
        captured=payment.captured,
        held=payment.held,
        refunded=payment.refunded,
        disputed=payment.disputed,
        currency=payment.currency,
        links=_link(payment),
        **more,
    )


def _link(payment: PaymentFacts) -> dict[str, str]:
    return {"payment": f"/v1/payments/{ids.show('payment', payment.id)}"} if payment.registered else {}
