"""Stripe's words and what they mean to us: statuses, error codes, reasons, currencies.

A code that stands in none of these tables is unknown: it is looked up, never taken for a no.
"""

from __future__ import annotations

from typing import Final

from refund_service.gateways.answers import DeclineCode, GatewayState
from refund_service.gateways.notices import DisputeState

STATES: Final = {
    "pending": GatewayState.PENDING,
    "requires_action": GatewayState.REQUIRES_ACTION,
    "succeeded": GatewayState.SUCCEEDED,
    "failed": GatewayState.FAILED,
    "canceled": GatewayState.CANCELED,
}
"""https://docs.stripe.com/api/refunds/object#refund_object-status"""

DECLINES: Final = {
    "charge_already_refunded": DeclineCode.ALREADY_REFUNDED,
    "charge_disputed": DeclineCode.DISPUTED,
    "refund_disputed_payment": DeclineCode.DISPUTED,
    "charge_not_refundable": DeclineCode.NOT_REFUNDABLE,
    "balance_insufficient": DeclineCode.INSUFFICIENT_BALANCE,
    "insufficient_funds": DeclineCode.INSUFFICIENT_BALANCE,
    "parameter_invalid_integer": DeclineCode.AMOUNT_INVALID,
    "amount_too_small": DeclineCode.AMOUNT_INVALID,
    "amount_too_large": DeclineCode.AMOUNT_TOO_HIGH,
    "invalid_charge_amount": DeclineCode.AMOUNT_INVALID,
    # Half a króna: https://support.stripe.com/questions/deprecation-of-fractional-isk-charges-and-refunds
    "invalid_charge_amount_no_decimal_compatible": DeclineCode.AMOUNT_INVALID,
}
"""Of a 400: https://docs.stripe.com/error-codes. Nothing was done."""

MALFORMED: Final = frozenset({"parameter_missing", "parameter_unknown", "parameters_exclusive"})
"""Our own request was at fault."""

FAILURES: Final = {
    "lost_or_stolen_card": DeclineCode.ISSUER_DECLINED,
    "expired_or_canceled_card": DeclineCode.ISSUER_DECLINED,
    "declined": DeclineCode.ISSUER_DECLINED,
    "charge_for_pending_refund_disputed": DeclineCode.DISPUTED,
    "insufficient_funds": DeclineCode.INSUFFICIENT_BALANCE,
    "merchant_request": DeclineCode.OTHER,
    "unknown": DeclineCode.OTHER,
}
"""``failure_reason`` of a refund that failed after it was taken."""

DISPUTES: Final = {
    "warning_needs_response": DisputeState.INQUIRY,
    "warning_under_review": DisputeState.INQUIRY,
    "warning_closed": DisputeState.WON,
    "needs_response": DisputeState.OPEN,
    "under_review": DisputeState.OPEN,
    "won": DisputeState.WON,
    "prevented": DisputeState.WON,
    "lost": DisputeState.LOST,
}
"""https://docs.stripe.com/api/disputes/object#dispute_object-status"""

REASONS: Final = {"duplicate": "duplicate", "customer_request": "requested_by_customer"}
"""Our reason codes that Stripe has a word for; never ``fraudulent``: it puts people on block lists."""

EXPONENTS: Final = {"MGA": 0, "ISK": 2}
"""Counted otherwise than by ISO 4217: https://docs.stripe.com/currencies#zero-decimal and #special-cases."""

STEPS: Final = dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10)
"""Three-decimal currencies end in 0: https://docs.stripe.com/currencies#three-decimal."""
