"""What a gateway said, as closed sets: every ``match`` over them ends in ``assert_never``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from refund_service.money import Money


class GatewayState(StrEnum):
    """Where a refund stands at the gateway, in our words."""

    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class DeclineCode(StrEnum):
    """Why a gateway said a definite no, unified over all of them."""

    ALREADY_REFUNDED = "already_refunded"
    AMOUNT_TOO_HIGH = "amount_too_high"
    AMOUNT_INVALID = "amount_invalid"
    CURRENCY_MISMATCH = "currency_mismatch"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    DISPUTED = "disputed"
    TOO_OLD = "too_old"
    NOT_REFUNDABLE = "not_refundable"
    TOO_MANY = "too_many"
    PAYMENT_NOT_FOUND = "payment_not_found"
    METHOD_UNSUPPORTED = "method_unsupported"
    ISSUER_DECLINED = "issuer_declined"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class BankReference:
    """What the customer's bank knows the refund by (an ARN, a reference number)."""

    type: str
    value: str
    status: str


@dataclass(frozen=True, slots=True)
class GatewayRefund:
    """A refund as the gateway shows it."""

    id: str
    state: GatewayState
    amount: Money
    payment_reference: str
    """The gateway's own id of the payment that the refund was taken from."""
    our_reference: str
    """What we planted so that a look-up finds it: the attempt's key."""
    bank_reference: BankReference | None = None
    failure: tuple[DeclineCode, str] | None = None
    """Our code and the gateway's own, where ``state`` is failed."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway has it, in the state told."""

    refund: GatewayRefund


@dataclass(frozen=True, slots=True)
class Declined:
    """A documented no: nothing happened and nothing will."""

    code: DeclineCode
    gateway_code: str
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly nothing happened: the request did not leave, or was turned away unread."""

    reason: str
    after: timedelta | None = None
    """How long the gateway asked to be left alone."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """An earlier sending under our own key is still being worked on."""

    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """No one can say: money may have moved."""

    seen: str
    differs: bool = False
    """The gateway told of a refund with another amount, currency or reference than asked."""


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """Our credentials, permission or request were refused: a person must look at the account."""

    reason: str


Answer = Accepted | Declined | NotSent | InFlight | Unknown | Misconfigured


@dataclass(frozen=True, slots=True)
class Found:
    """The look-up found our refund."""

    refund: GatewayRefund


@dataclass(frozen=True, slots=True)
class Absent:
    """The gateway answered, and our refund is not there (yet)."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The look-up itself got no usable answer."""

    seen: str
    differs: bool = False
    """It told of another refund than the one looked for, or of several."""


Finding = Found | Absent | CannotTell
