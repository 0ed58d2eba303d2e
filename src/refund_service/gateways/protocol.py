"""What every gateway adapter offers. Adapters render and read; ``send.py`` sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol, runtime_checkable
from uuid import UUID

from refund_service.gateways.answers import (
    Answer,
    Cancellation,
    CannotTell,
    Finding,
    Further,
    GatewayRefund,
    Misconfigured,
    NotSent,
    PaymentReading,
    PreparedRequest,
    RefundPage,
    Token,
    Unknown,
    Usable,
)
from refund_service.gateways.notices import Delivery, Forged, Genuine, Notice, Verification
from refund_service.money import Money

LONGEST_CALL: Final = timedelta(seconds=24)
"""What is left of a job's lease after a call must suffice to write down what came of it."""


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that an account is set up with: told to whoever sets it up, and checked."""

    name: str
    text: str
    """What to enter, and where the gateway shows it."""
    secret: bool = False
    """Sealed, and never shown again."""
    required: bool = True
    pattern: str = r"[\x21-\x7e]{1,500}"


@dataclass(frozen=True, slots=True)
class GatewayTraits:
    """How a gateway behaves, as data: what differs between gateways differs here where it can."""

    idempotency: Literal["header", "body", "none"]
    replay_horizon: timedelta
    """How long after the first sending the same key is surely still known; zero where there are no keys."""
    lookup: Literal["by_payment", "by_reference", "by_id", "none"]
    """``by_id``: only once the gateway has told its own id."""
    enough_misses: int
    """So many look-ups in a row must find nothing …"""
    enough_miss_time: timedelta
    """… over at least this long, before "not there" is believed. Longer than ``time_limit``."""
    time_limit: timedelta = timedelta(seconds=20)
    """For one call in all; shorter than what is left of a job's lease."""
    in_flight_limit: timedelta = timedelta(minutes=10)
    """Longer "in progress" than this is not believed: look up."""
    poll_plan: tuple[timedelta, ...] = (timedelta(minutes=5),)
    """When a pending refund is asked after: one span for each look-up, the last one on and on."""
    notified_within: timedelta | None = None
    """So long after the sending the gateway has told the end by itself; ``None`` where it may not tell."""
    action_window: timedelta = timedelta(days=10)
    """How long the customer may take where ``requires_action``."""
    parallel_calls: int = 8
    """Per account and worker process."""
    arrives_within: timedelta = timedelta(days=10)
    """How long the money takes to reach the customer: ``expected_by``."""
    arrives_by_method: Mapping[str, timedelta] = field(default_factory=dict)
    """The same where the payment's method is known and differs."""
    window: timedelta | None = None
    """How old a payment may be; ``None`` where no limit is known."""
    max_refunds: int | None = None
    """How many refunds one payment may have."""
    partial: bool = True
    """Whether less than the whole can be refunded."""
    exponents: Mapping[str, int] = field(default_factory=dict)
    """Currencies whose number of decimals differs from ISO 4217's at this gateway."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Currencies whose amounts must be a multiple of so many minor units (ours) at this gateway."""
    by_hand: bool = False
    """A person pays: nothing is ever sent."""

    def __post_init__(self) -> None:
        if self.time_limit > LONGEST_CALL:
            raise ValueError(f"a call may take {LONGEST_CALL}, so that its lease outlasts it")

    @property
    def deduplicates(self) -> bool:
        """Whether the same key sent twice acts once."""
        return self.idempotency != "none"

    @property
    def looks_up(self) -> bool:
        """Whether the gateway can be asked for a refund by what we planted in it."""
        return self.lookup in {"by_payment", "by_reference"}

    def sees(self, *, id_known: bool) -> bool:
        """Whether a look-up can find a refund whose id at the gateway is known to us, or is not."""
        return self.looks_up or (self.lookup == "by_id" and id_known)

    def poll_after(self, look_ups: int) -> timedelta:
        """How long to wait before a pending refund is asked after, after so many look-ups."""
        return self.poll_plan[min(look_ups, len(self.poll_plan) - 1)]


@dataclass(frozen=True, slots=True)
class Account:
    """A merchant's account at a gateway, opened: what an adapter needs to call it."""

    id: UUID
    gateway: str
    base_url: str
    settings: Mapping[str, Any]
    credentials: Mapping[str, str] = field(repr=False)
    remote_account: str = ""
    """The account's own id at the gateway."""
    token: str | None = field(default=None, repr=False)
    """What the credentials were traded for, at gateways that trade tokens."""


@dataclass(frozen=True, slots=True)
class RefundCommand:
    """One refund to be asked of a gateway."""

    key: UUID
    """Idempotency key and planted reference in one; the same for every sending of an attempt."""
    payment_reference: str
    amount: Money
    hints: Mapping[str, str] = field(default_factory=dict)
    """The refund's metadata, for gateways that take it along."""
    payment_hints: Mapping[str, str] = field(default_factory=dict)
    """The payment's metadata: what a gateway needs beside its reference is told there."""
    reason: str = ""
    """The merchant's reason code."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back over HTTP, read whole and bounded."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class RefundProbe:
    """What a look-up searches for."""

    key: UUID
    payment_reference: str
    gateway_refund_id: str | None
    payment_hints: Mapping[str, str] = field(default_factory=dict)
    found: tuple[GatewayRefund, ...] = ()
    """What earlier pages of this look-up showed."""


class RefundGateway(Protocol):
    """A kind of payment gateway. All of it is pure: the one sender in ``send.py`` does the calling.

    What a gateway can do besides stands in the protocols below: an adapter that has their methods
    offers it (``offers``).
    """

    name: str
    title: str
    """As people call it."""
    fields: tuple[Field, ...]
    """What an account is set up with: secrets become its credentials, the rest its settings."""

    def base_url(self, settings: Mapping[str, Any], *, livemode: bool) -> str:
        """Where the gateway is reached. Raises ``ValueError`` where the settings do not say."""
        ...

    def traits(self, settings: Mapping[str, Any]) -> GatewayTraits:
        """How this gateway behaves for an account with these settings."""
        ...

    def authorize(self, account: Account) -> Mapping[str, str]:
        """The headers that carry the account's credentials."""
        ...

    def render_refund(self, command: RefundCommand, account: Account) -> PreparedRequest:
        """The request that asks for the refund."""
        ...

    def read_refund(self, response: Response, command: RefundCommand) -> Answer:
        """What the answer to ``render_refund`` means."""
        ...

    def render_look_up(self, probe: RefundProbe, account: Account) -> PreparedRequest:
        """The request that looks for the refund, by the gateway's id where it is known."""
        ...

    def read_look_up(self, response: Response, probe: RefundProbe) -> Finding | Further:
        """What the answer to ``render_look_up`` means, or what to ask next."""
        ...


@runtime_checkable
class ReadsPayments(Protocol):
    """A gateway that can be asked for a payment."""

    def render_payment(self, reference: str, account: Account) -> PreparedRequest:
        """The request that reads the payment."""
        ...

    def read_payment(self, response: Response, reference: str) -> PaymentReading | Further:
        """What it is; ``Absent`` only where the gateway says that there is none of that reference."""
        ...


@runtime_checkable
class ListsRefunds(Protocol):
    """A gateway that lists the refunds of an account by time, those made elsewhere among them."""

    def render_refunds(self, since: datetime, until: datetime, account: Account) -> PreparedRequest:
        """The request for the first page of refunds created in ``[since, until)``."""
        ...

    def read_refunds(self, response: Response, asked: PreparedRequest) -> RefundPage | CannotTell:
        """One page, and the request for the next, made from the one that this answers."""
        ...


@runtime_checkable
class CancelsRefunds(Protocol):
    """A gateway that stops a refund which it has and has not finished."""

    def render_cancel(self, gateway_refund_id: str, account: Account) -> PreparedRequest:
        """The request that stops it."""
        ...

    def read_cancel(self, response: Response) -> Cancellation:
        """What became of that."""
        ...


@runtime_checkable
class Notifies(Protocol):
    """A gateway that tells by itself what becomes of refunds and payments."""

    def verify(self, delivery: Delivery, account: Account, *, now: datetime) -> Verification:
        """Whether it is the gateway's, by the raw bytes and the account's secret, or the one before it.

        An account's former secret stands in its credentials as ``previous_<name of the field>``.
        """
        ...

    def read_verification(self, response: Response) -> Genuine | Forged | CannotTell:
        """The gateway's own word, where ``verify`` had to ask for it."""
        ...

    def read_notices(self, delivery: Delivery, account: Account) -> tuple[Notice, ...]:
        """What it tells; never raises, whatever was signed: unknown events are ``OtherNotice``."""
        ...


@runtime_checkable
class TradesTokens(Protocol):
    """A gateway that lets in only those who traded their credentials for a token."""

    def render_token(self, account: Account) -> PreparedRequest:
        """The request for a token; the sender adds ``authorize_trade``."""
        ...

    def authorize_trade(self, account: Account) -> Mapping[str, str]:
        """The headers that carry the credentials themselves."""
        ...

    def read_token(self, response: Response) -> Token | NotSent | Unknown | Misconfigured:
        """The token, or why there is none."""
        ...


@runtime_checkable
class TriesAccounts(Protocol):
    """A gateway that can be asked, harmlessly, whether it takes the credentials."""

    def render_trial(self, account: Account) -> PreparedRequest:
        """A request that changes nothing."""
        ...

    def read_trial(self, response: Response, account: Account) -> Usable | NotSent | Unknown | Misconfigured:
        """What it says of the credentials."""
        ...


_OFFERS: Final[Mapping[str, type]] = {
    "payments": ReadsPayments,
    "refund_lists": ListsRefunds,
    "cancel": CancelsRefunds,
    "notifications": Notifies,
    "tokens": TradesTokens,
    "trial": TriesAccounts,
}


def offers(gateway: RefundGateway) -> list[str]:
    """What the adapter can do beside refunding and looking up."""
    return [name for name, capability in _OFFERS.items() if isinstance(gateway, capability)]
