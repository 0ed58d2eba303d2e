"""Everything a worker needs to know of a refund, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from refund_service import ids
from refund_service.gateways.answers import PreparedRequest
from refund_service.gateways.protocol import Account, RefundCommand, RefundProbe
from refund_service.money import Money
from refund_service.refunds.next_step import Attempt
from refund_service.refunds.states import Status


@dataclass(frozen=True, slots=True)
class Case:
    """A refund with its payment, account and current attempt, at the database's ``now``."""

    now: datetime
    merchant_id: UUID
    refund_id: UUID
    status: Status
    version: int
    generation: int
    amount: Money
    reference: str | None
    reason: str
    idempotency_key: str
    execute_after: datetime | None
    attention: str | None
    gateway_refund_id: str | None
    metadata: Mapping[str, str]
    payment_id: UUID
    gateway_payment_id: str
    order_name: str | None
    account: Account
    account_active: bool
    attempt: Attempt | None
    request: PreparedRequest | None
    """What was sent for the current generation; ``None`` before the first sending."""
    payment_metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> UUID:
        """The key that the gateway gets, for this generation."""
        return ids.gateway_key(self.merchant_id, self.idempotency_key, self.generation)

    @property
    def command(self) -> RefundCommand:
        """The refund as an adapter wants it."""
        return RefundCommand(
            key=self.key,
            payment_reference=self.gateway_payment_id,
            amount=self.amount,
            hints=self.metadata,
            payment_hints=self.payment_metadata,
            reason=self.reason,
        )

    @property
    def probe(self) -> RefundProbe:
        """What a look-up searches for."""
        return RefundProbe(
            self.key, self.gateway_payment_id, self.gateway_refund_id, payment_hints=self.payment_metadata
        )

    @property
    def look_ups(self) -> int:
        """How often the gateway was asked after this attempt."""
        return self.attempt.look_ups if self.attempt else 0
