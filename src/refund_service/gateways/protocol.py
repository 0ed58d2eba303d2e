"""What every gateway adapter offers. Adapters render and read; ``send.py`` sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from refund_service.gateways.answers import Answer, Finding
from refund_service.money import Money

LONGEST_CALL: Final = timedelta(seconds=24)
"""What is left of a job's lease after a call must suffice to write down what came of it."""


@dataclass(frozen=True, slots=True)
class GatewayTraits:
    """How a gateway behaves, as data: what differs between gateways differs here where it can."""

    idempotency: Literal["header", "body", "none"]
    replay_horizon: timedelta
    """How long after the first sending the same key is surely still known; zero where there are no keys."""
    lookup: Literal["by_payment", "by_reference", "none"]
    enough_misses: int
    """So many look-ups in a row must find nothing …"""
    enough_miss_time: timedelta
    """… over at least this long, before "not there" is believed. Longer than ``time_limit``."""
    time_limit: timedelta = timedelta(seconds=20)
    """For one call in all; shorter than what is left of a job's lease."""
    in_flight_limit: timedelta = timedelta(minutes=10)
    """Longer "in progress" than this is not believed: look up."""
    poll_every: timedelta = timedelta(minutes=5)
    """How often a pending refund is asked after."""
    action_window: timedelta = timedelta(days=10)
    """How long the customer may take where ``requires_action``."""
    parallel_calls: int = 8
    """Per account and worker process."""
    arrives_within: timedelta = timedelta(days=10)
    """How long the money takes to reach the customer: ``expected_by``."""
    exponents: Mapping[str, int] = field(default_factory=dict)
    """Currencies whose number of decimals differs from ISO 4217's at this gateway."""

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
        return self.lookup != "none"


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


@dataclass(frozen=True, slots=True)
class RefundCommand:
    """One refund to be asked of a gateway."""

    key: UUID
    """Idempotency key and planted reference in one; the same for every sending of an attempt."""
    payment_reference: str
    amount: Money
    hints: Mapping[str, str] = field(default_factory=dict)
    """The refund's metadata, for gateways that take it along."""


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


class RefundGateway(Protocol):
    """A kind of payment gateway. All of it is pure: the one sender in ``send.py`` does the calling."""

    name: str

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

    def read_look_up(self, response: Response, probe: RefundProbe) -> Finding:
        """What the answer to ``render_look_up`` means."""
        ...
