"""A capture as a merchant tells it: plain values, amounts in minor units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from refund_service.money import Money


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """A customer as the merchant knows them."""

    customer_id: str
    email: str | None = None
    name: str | None = None
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class NewLine:
    """One line of an order; amounts in minor units of the order's currency."""

    kind: str
    quantity: int
    unit_price: int
    total: int
    tax: int = 0
    line_id: str | None = None
    sku: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What was bought, as the merchant tells it."""

    order_id: str
    country: str | None = None
    tags: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[NewLine] = ()


@dataclass(frozen=True, slots=True)
class NewPayment:
    """One capture that the merchant received."""

    gateway_payment_id: str
    captured: Money
    captured_at: datetime
    already_refunded: int = 0
    gateway_account: str | None = None
    method: str | None = None
    entity: str | None = None
    reference: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    customer: NewCustomer | None = None
    order: NewOrder | None = None
