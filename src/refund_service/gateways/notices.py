"""What a gateway tells by itself, in our words: read from a notification that was verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from refund_service.gateways.answers import GatewayRefund, PreparedRequest
from refund_service.money import Money


class DisputeState(StrEnum):
    """How a dispute stands."""

    INQUIRY = "inquiry"  # asked about; no money is taken yet
    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification as it arrived: nothing of it is believed yet."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """The very bytes: a signature covers them, not what they say."""
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Genuine:
    """The signature is the gateway's."""


@dataclass(frozen=True, slots=True)
class Forged:
    """It is not, or it is missing, or too old."""

    why: str


@dataclass(frozen=True, slots=True)
class AskGateway:
    """Only the gateway itself can say: the answer to this goes to ``read_verification``."""

    request: PreparedRequest


Verification = Genuine | Forged | AskGateway


@dataclass(frozen=True, slots=True)
class RefundNotice:
    """Something has become of a refund.

    ``refund`` is what the notification itself tells, where that is all there is to know; ``None``
    where the notification only says that it is time to look.
    """

    dedupe_key: str
    """The same for each delivery of one fact, other for every other fact; at most 255 characters."""
    type: str
    """The gateway's own name of the event."""
    gateway_refund_id: str | None
    our_reference: str | None
    payment_reference: str | None
    refund: GatewayRefund | None = None
    happened_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DisputeNotice:
    """A payer disputes a payment, or a dispute has come on."""

    dedupe_key: str
    type: str
    dispute_id: str
    payment_reference: str
    amount: Money
    """All that this dispute takes while it is open or lost."""
    state: DisputeState
    happened_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OtherNotice:
    """An event that changes nothing here; or one whose words are not known, ``known`` being false."""

    dedupe_key: str
    type: str
    known: bool


Notice = RefundNotice | DisputeNotice | OtherNotice
