"""What a gateway said, as closed sets: every ``match`` over them ends in ``assert_never``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
class PreparedRequest:
    """A request, frozen: these bytes are stored before they are sent and sent again as they are.

    ``headers`` carry no secret; credentials are added at the moment of sending.
    """

    method: str
    path: str
    """Relative to the account's base URL; begins with ``/``."""
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the gateway took for a refund, in minor units of its currency, and where it was settled."""

    fee: Money | None = None
    """Kept or charged for this refund; negative where a fee is given back."""
    net: Money | None = None
    """What the merchant's balance changed by."""
    id: str | None = None
    """The gateway's own id of the entry, batch or payout."""


@dataclass(frozen=True, slots=True)
class GatewayRefund:
    """A refund as the gateway shows it."""

    id: str
    state: GatewayState
    amount: Money
    payment_reference: str
    """The gateway's own id of the payment that the refund was taken from."""
    our_reference: str
    """What we planted so that a look-up finds it: the attempt's key; empty where it is none of ours."""
    bank_reference: BankReference | None = None
    failure: tuple[DeclineCode, str] | None = None
    """Our code and the gateway's own, where ``state`` is failed."""
    settlement: Settlement | None = None
    created_at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class Further:
    """The answer is on another page, or behind another question.

    Asked next is ``GET path``, with the headers of the request that led to it.
    """

    path: str
    found: tuple[GatewayRefund, ...] = ()
    """What was found so far."""


Finding = Found | Absent | CannotTell


@dataclass(frozen=True, slots=True)
class PaymentRecord:
    """A payment as the gateway shows it."""

    reference: str
    captured: Money
    refunded: Money
    captured_at: datetime | None = None
    disputed: bool = False
    remote_account: str | None = None
    """Whose payment it is, where the gateway tells."""
    order_name: str | None = None
    """The merchant's own order id, where it was told to the gateway."""


PaymentReading = PaymentRecord | Absent | CannotTell


@dataclass(frozen=True, slots=True)
class RefundPage:
    """Part of the gateway's list of refunds, ours and others, and the request for what follows."""

    refunds: tuple[GatewayRefund, ...]
    further: PreparedRequest | None = None


@dataclass(frozen=True, slots=True)
class TooLate:
    """The gateway does not stop the refund any more: it goes on."""

    gateway_code: str


Cancellation = Accepted | TooLate | NotSent | Unknown | Misconfigured


@dataclass(frozen=True, slots=True)
class Token:
    """What a gateway lets us in by for a while."""

    value: str = field(repr=False)
    lasts: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Usable:
    """The gateway took the credentials."""

    remote_account: str | None = None
