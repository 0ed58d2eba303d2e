"""What a caller tells that wants money given back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from refund_service.api.v1.payments import CustomerIn, OrderIn, OrderName
from refund_service.api.wire import (
    Amount,
    AmountOrZero,
    CurrencyCode,
    GatewayReference,
    Metadata,
    Moment,
    PublicId,
    Reference,
    Text,
    Wire,
)
from refund_service.clock import utc_now
from refund_service.idempotency.keys import Claim
from refund_service.money import Money
from refund_service.payments.new import NewOrder, NewPayment
from refund_service.refunds.ask import By, RefundAsked

LONGEST_AHEAD: Final = timedelta(days=366)
_WAYS_IN: Final = ("payment_id", "payment_reference", "gateway_payment_id", "order_id", "payment")


class InlinePayment(Wire):
    """A capture that is registered in the same write as its refund."""

    gateway_payment_id: GatewayReference
    captured: Amount
    currency: CurrencyCode
    captured_at: Moment | None = Field(None, description="Now, where it is not told")
    order_id: OrderName | None = None
    already_refunded: AmountOrZero = 0
    gateway_account: Reference | None = Field(None, description="May be left out where there is one")
    customer: CustomerIn | None = None
    order: OrderIn | None = None

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.order_id is not None and self.order is not None and self.order.id != self.order_id:
            raise PydanticCustomError("order-named-twice", "order_id and order.id name two orders.")
        return self


class RefundIn(Wire):
    """Money to give back. Name the payment in exactly one way."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "title": f"By {name}",
                    "required": [name],
                    "properties": {name: {"type": "object" if name == "payment" else "string"}},
                }
                for name in _WAYS_IN
            ]
        }
    )

    payment_id: Annotated[UUID, PublicId("payment")] | None = None
    payment_reference: Reference | None = None
    gateway_payment_id: GatewayReference | None = None
    order_id: Reference | None = None
    payment: InlinePayment | None = None
    gateway_account: Reference | None = Field(
        None, description="Narrows the other ways in where a merchant has several accounts"
    )
    amount: Amount | None = Field(None, description="In minor units; the whole rest where it is left out")
    currency: CurrencyCode | None = Field(None, description="Checked against the payment's, never converted")
    reason: Annotated[str, Text(64)] = Field(
        "customer_request", description="A code of GET /v1/reasons", examples=["damaged"]
    )
    note: Annotated[str, Text(2000, lines=True)] | None = Field(None, description="For the merchant's staff")
    channel: Annotated[str, Text(64)] | None = Field(None, examples=["chat"])
    ticket: Annotated[str, Text(255)] | None = Field(None, examples=["T-2041"])
    reference: Reference | None = Field(
        None, description="Your own name for the refund, unique for ever; may stand in for Idempotency-Key"
    )
    requested_at: Moment | None = Field(None, description="When the customer asked")
    execute_after: Moment | None = Field(None, description="Not sent before")
    expected_available: AmountOrZero | None = Field(None, description="412 where it is no longer so")
    replaces: Annotated[UUID, PublicId("refund")] | None = Field(
        None, description="The reversed refund that this one makes good"
    )
    metadata: Metadata = Field(default_factory=dict)

    @field_validator("execute_after")
    @classmethod
    def _not_too_late(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and moment > utc_now() + LONGEST_AHEAD:
            raise PydanticCustomError("too-late", "A refund can be put off for a year at most.")
        return moment

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        named = [name for name in _WAYS_IN if getattr(self, name) is not None]
        if len(named) != 1:
            raise PydanticCustomError(
                "payment-unnamed" if not named else "payment-named-twice",
                "Name the payment in exactly one way: payment_id, payment_reference, gateway_payment_id, "
                "order_id or payment.",
            )
        return self


def asked_of(body: RefundIn, claim: Claim, now: datetime) -> RefundAsked:
    """What is asked, in the words of the desk."""
    by = next(By(name) for name in _WAYS_IN if getattr(body, name) is not None)
    return RefundAsked(
        by=by,
        name="" if body.payment else getattr(body, by.value),
        amount=body.amount,
        reason=body.reason,
        claim=claim,
        inline=_new_payment(body.payment, now) if body.payment else None,
        currency=body.currency,
        gateway_account=body.gateway_account,
        expected_available=body.expected_available,
        execute_after=body.execute_after,
        requested_at=body.requested_at,
        channel=body.channel,
        ticket=body.ticket,
        note=body.note,
        reference=body.reference,
        replaces=body.replaces,
        metadata=body.metadata,
    )


def _new_payment(body: InlinePayment, now: datetime) -> NewPayment:
    order = body.order
    if order is None and body.order_id is not None:
        named: NewOrder | None = NewOrder(body.order_id)
    else:
        named = order.as_new() if order else None
    return NewPayment(
        gateway_payment_id=body.gateway_payment_id,
        captured=Money(body.captured, body.currency),
        captured_at=body.captured_at or now,
        already_refunded=body.already_refunded,
        gateway_account=body.gateway_account,
        customer=body.customer.as_new() if body.customer else None,
        order=named,
    )
