"""Why gateways refuse, in words for the merchant and for the customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from refund_service.gateways.answers import DeclineCode


@dataclass(frozen=True, slots=True)
class FailureText:
    """What to tell whom, and whether trying again can help."""

    merchant_text: str
    customer_text: str
    retryable: bool


_ANOTHER_WAY: Final = "We could not return the money to your card or account. The shop will contact you."
_SOON: Final = "Your refund is delayed. The shop is taking care of it."

_C = DeclineCode
FAILURES: Final[dict[DeclineCode, FailureText]] = {
    _C.ALREADY_REFUNDED: FailureText(
        "The gateway says the payment is refunded already. Compare it with the gateway's own record.",
        "The money was already returned. Please look at your statement.",
        retryable=False,
    ),
    _C.AMOUNT_TOO_HIGH: FailureText(
        "More than is left of the payment at the gateway. Something was refunded there beside us.",
        _SOON,
        retryable=False,
    ),
    _C.AMOUNT_INVALID: FailureText(
        "The gateway does not take this amount: below its minimum, or with the wrong decimals.",
        _ANOTHER_WAY,
        retryable=False,
    ),
    _C.CURRENCY_MISMATCH: FailureText(
        "The gateway has the payment in another currency.", _SOON, retryable=False
    ),
    _C.INSUFFICIENT_BALANCE: FailureText(
        "Your balance at the gateway does not cover it. Top it up, then retry.", _SOON, retryable=True
    ),
    _C.DISPUTED: FailureText(
        "The payment is disputed: a refund beside the dispute would pay twice.",
        "Your bank is already looking into this payment.",
        retryable=False,
    ),
    _C.TOO_OLD: FailureText("The payment is too old for the gateway.", _ANOTHER_WAY, retryable=False),
    _C.NOT_REFUNDABLE: FailureText(
        "The gateway cannot refund this payment in its present state.", _SOON, retryable=True
    ),
    _C.TOO_MANY: FailureText(
        "The gateway allows no further refunds of this payment.", _ANOTHER_WAY, retryable=False
    ),
    _C.PAYMENT_NOT_FOUND: FailureText(
        "The gateway does not know the payment. Check the reference and the account.", _SOON, retryable=False
    ),
    _C.METHOD_UNSUPPORTED: FailureText(
        "This method of payment cannot be refunded by the gateway.", _ANOTHER_WAY, retryable=False
    ),
    _C.ISSUER_DECLINED: FailureText(
        "The customer's bank refused it: often a closed card or account.", _ANOTHER_WAY, retryable=False
    ),
    _C.OTHER: FailureText("The gateway refused it. Its own code says more.", _SOON, retryable=True),
}


def explain_failure(code: str) -> FailureText:
    """The words for a stored failure code."""
    return FAILURES[DeclineCode(code)]
