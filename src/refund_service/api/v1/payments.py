"""``/v1/payments``: tell of captures, read what is left of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from refund_service import ids
from refund_service.api.deps import Caller, InHouse, KeyHeader, answer, claim_of, needs
from refund_service.api.documented import WITH_BODY, WITH_CURSOR, WITH_KEY, WITH_NAME, problems
from refund_service.api.given import path_id
from refund_service.api.media import StrictRoute
from refund_service.api.pages import USUAL, Cursor, Limit, Page, filters_fingerprint, open_cursor, sign_cursor
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
    every_name,
)
from refund_service.clock import utc_now
from refund_service.merchants.roles import Scope
from refund_service.money import LARGEST_AMOUNT, Money, decimal_of
from refund_service.payments.balance import available_of
from refund_service.payments.errors import (
    GatewayAccountNeeded,
    GatewayAccountUnknown,
    OrderExists,
    PaymentContradiction,
    PaymentExists,
    PaymentNotCaptured,
    PaymentNotFound,
    ReferenceExists,
)
from refund_service.payments.listing import PaymentFilters, list_payments
from refund_service.payments.new import NewCustomer, NewLine, NewOrder, NewPayment
from refund_service.payments.queries import get_payment
from refund_service.payments.register import register_payment

Tags = Annotated[list[Annotated[str, Text(64)]], Field(max_length=50)]
SignedAmount = Annotated[int, Field(strict=True, ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT)]
Country = Annotated[str, Field(strict=True, pattern="^[A-Z]{2}$", examples=["FR"])]


def _kind_of_fact(fact: object) -> str:
    match fact:
        case None | bool():
            return "answer"
        case str():
            return "text"
        case _:
            return "number"


Fact = Annotated[
    Annotated[Annotated[str, Text(500, least=0)], Tag("text")]
    | Annotated[SignedAmount, Tag("number")]
    | Annotated[bool | None, Tag("answer")],
    # By its kind, so that what is wrong with a text is not told three times.
    Discriminator(_kind_of_fact),
]
Facts = Annotated[
    dict[Annotated[str, Text(40)], Fact],
    Field(
        max_length=50,
        examples=[{"fulfilled": True, "delivered_on": "2026-03-04"}],
        json_schema_extra=every_name,
    ),
]


class CustomerIn(Wire):
    """The customer, by the merchant's own id. The rest is personal data and kept apart."""

    id: Reference
    email: Annotated[str, Text(254)] | None = None
    name: Annotated[str, Text(200)] | None = None
    locale: Annotated[str, Text(35)] | None = Field(None, examples=["fr-FR"])

    def as_new(self) -> NewCustomer:
        """As a plain value."""
        return NewCustomer(self.id, self.email, self.name, self.locale)


class LineIn(Wire):
    """One line of an order, in minor units; a discount's amounts are negative."""

    id: Reference | None = None
    kind: Literal["product", "shipping", "fee", "discount"] = "product"
    sku: Annotated[str, Text(100)] | None = None
    name: Annotated[str, Text(300)] | None = None
    quantity: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = 1
    unit_price: SignedAmount
    tax: SignedAmount = Field(0, description="Of the whole line")
    total: SignedAmount | None = Field(
        None, description="Of the whole line, as paid; quantity times unit_price where it is left out"
    )
    tags: Tags = Field(default_factory=list)

    @model_validator(mode="after")
    def _total_is_an_amount(self) -> Self:
        # Each may be allowed and their product be more than a column holds.
        if self.total is None and abs(self.quantity * self.unit_price) > LARGEST_AMOUNT:
            raise PydanticCustomError(
                "too-large", "quantity times unit_price is more than the largest amount."
            )
        return self

    def as_new(self) -> NewLine:
        """As a plain value."""
        total = self.quantity * self.unit_price if self.total is None else self.total
        return NewLine(
            self.kind,
            self.quantity,
            self.unit_price,
            total,
            self.tax,
            self.id,
            self.sku,
            self.name,
            self.tags,
        )


def _no_backslash(text: str) -> str:
    if "\\" in text:
        raise PydanticCustomError("backslash", "It holds a backslash, which no address can name.")
    return text


OrderName = Annotated[
    Reference,
    AfterValidator(_no_backslash),
    Field(json_schema_extra={"pattern": r"^[!-\[\]-~]{1,255}$"}),
]
"""The merchant's own order id: it stands in addresses, where a backslash means other things to proxies."""


class OrderIn(Wire):
    """What was bought."""

    id: OrderName
    country: Country | None = None
    tags: Tags = Field(default_factory=list)
    facts: Facts = Field(default_factory=dict)
    lines: Annotated[list[LineIn], Field(max_length=1000)] = Field(default_factory=list)

    def as_new(self) -> NewOrder:
        """As a plain value."""
        return NewOrder(self.id, self.country, self.tags, self.facts, [line.as_new() for line in self.lines])


class PaymentIn(Wire):
    """One capture that the merchant received. The first three members are enough."""

    gateway_payment_id: GatewayReference
    captured: Amount
    currency: CurrencyCode
    captured_at: Moment | None = Field(None, description="Now, where it is not told")
    already_refunded: AmountOrZero = Field(0, description="Given back before this was registered")
    gateway_account: Reference | None = Field(None, description="May be left out where there is one")
    method: Annotated[str, Text(64)] | None = Field(None, examples=["card"])
    entity: Annotated[str, Text(64)] | None = Field(None, description="Shop or legal entity")
    reference: Reference | None = Field(None, description="Your own name for it, unique for ever")
    customer: CustomerIn | None = None
    order: OrderIn | None = None
    metadata: Metadata = Field(default_factory=dict)


class PaymentOut(Wire):
    """A payment and what is left of it, in minor units."""

    id: Annotated[UUID, PublicId("payment")]
    livemode: bool
    gateway_account: str
    gateway: str
    gateway_payment_id: str
    captured: int
    held: int = Field(description="Set aside for refunds whose end is not known")
    refunded: int = Field(description="Given back, by this service or elsewhere")
    refunded_elsewhere: int
    disputed: int
    excess: int = Field(description="What the gateway's facts exceed the capture by; calls a person")
    available: int
    available_decimal: str
    currency: str
    captured_at: Moment
    method: str | None
    entity: str | None
    reference: str | None
    order_id: str | None
    customer_id: str | None
    metadata: dict[str, str]
    created_at: Moment
    updated_at: Moment
    links: dict[str, str]


class PaymentPage(Page[PaymentOut]):
    """One page of payments, newest first."""


router = APIRouter(prefix="/v1/payments", tags=["payments"], route_class=StrictRoute)
Reader = Annotated[Caller, needs(Scope.PAYMENTS_READ)]
Writer = Annotated[Caller, needs(Scope.PAYMENTS_WRITE)]


@router.post(
    "",
    operation_id="register_payment",
    summary="Register a captured payment",
    status_code=201,
    response_model=PaymentOut,
    responses=problems(
        *WITH_BODY,
        *WITH_KEY,
        GatewayAccountNeeded,
        GatewayAccountUnknown,
        OrderExists,
        PaymentContradiction,
        PaymentExists,
        PaymentNotCaptured,
        ReferenceExists,
    )
    | {200: {"model": PaymentOut, "description": "It was registered before"}},
)
async def register(
    request: Request, body: PaymentIn, caller: Writer, house: InHouse, _key: KeyHeader = None
) -> Response:
    """Registering the same gateway payment again is the same payment (200); a contradiction is refused."""
    now = utc_now()
    registered = await register_payment(
        house.db,
        caller.principal.merchant_id,
        new_payment(body, now),
        claim=claim_of(request),
        actor=caller.actor,
        now=now,
    )
    payment = await get_payment(house.db, caller.principal.merchant_id, registered.payment_id)
    return answer(
        payment_out(payment, livemode=caller.principal.livemode),
        status=201 if registered.created else 200,
        location=f"/v1/payments/{ids.show('payment', registered.payment_id)}",
        replayed=registered.replayed,
    )


@router.get(
    "",
    operation_id="list_payments",
    summary="List payments, newest first",
    response_model=PaymentPage,
    responses=problems(*WITH_CURSOR),
)
async def list_all(
    caller: Reader,
    house: InHouse,
    order_id: Reference | None = None,
    customer_id: Reference | None = None,
    reference: Reference | None = None,
    gateway_payment_id: GatewayReference | None = None,
    created_from: Moment | None = None,
    created_to: Moment | None = None,
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Response:
    """Each with what is held, given back and available."""
    filters = PaymentFilters(
        order_id=order_id,
        customer_id=customer_id,
        reference=reference,
        gateway_payment_id=gateway_payment_id,
        created_from=created_from,
        created_to=created_to,
    )
    merchant_id = caller.principal.merchant_id
    bound = filters_fingerprint(list="payments", merchant=str(merchant_id), **filters.given())
    before = open_cursor(house.cursor_secret, bound, cursor)[-1] if cursor is not None else None
    rows = await list_payments(house.db, merchant_id, filters, before=before, limit=limit + 1)
    more = sign_cursor(house.cursor_secret, bound, (rows[limit - 1]["id"],)) if len(rows) > limit else None
    shown = [payment_out(row, livemode=caller.principal.livemode) for row in rows[:limit]]
    return answer(PaymentPage(data=shown, next_cursor=more))


@router.get(
    "/{payment_id}",
    operation_id="get_payment",
    summary="Read a payment",
    response_model=PaymentOut,
    responses=problems(*WITH_NAME, PaymentNotFound),
)
async def get_one(
    payment_id: Annotated[UUID, path_id("payment_id", "payment", "`pay_…`")],
    caller: Reader,
    house: InHouse,
) -> Response:
    """The payment as it now is."""
    payment = await get_payment(house.db, caller.principal.merchant_id, payment_id)
    return answer(payment_out(payment, livemode=caller.principal.livemode))


def new_payment(body: PaymentIn, now: datetime) -> NewPayment:
    """A registration as a plain value."""
    return NewPayment(
        gateway_payment_id=body.gateway_payment_id,
        captured=Money(body.captured, body.currency),
        captured_at=body.captured_at or now,
        already_refunded=body.already_refunded,
        gateway_account=body.gateway_account,
        method=body.method,
        entity=body.entity,
        reference=body.reference,
        metadata=body.metadata,
        customer=body.customer.as_new() if body.customer else None,
        order=body.order.as_new() if body.order else None,
    )


def payment_out(row: Mapping[str, Any], *, livemode: bool) -> PaymentOut:
    """A payment's view as the API shows it."""
    here = f"/v1/payments/{ids.show('payment', row['id'])}"
    available = available_of(row["captured"], row["held"], row["refunded"], row["disputed"])
    links = {"self": here, "refunds": f"/v1/refunds?payment_id={ids.show('payment', row['id'])}"}
    if row["order_name"] is not None:
        links["order"] = f"/v1/orders/{quote(row['order_name'])}"
    plain = (
        "id",
        "gateway",
        "gateway_payment_id",
        "captured",
        "held",
        "refunded",
        "refunded_elsewhere",
        "disputed",
        "excess",
        "currency",
        "captured_at",
        "method",
        "entity",
        "reference",
        "metadata",
        "created_at",
        "updated_at",
    )
    return PaymentOut.model_construct(
        **{name: row[name] for name in plain},
        livemode=livemode,
        gateway_account=row["account_name"],
        available=available,
        available_decimal=decimal_of(available, row["currency"]),
        order_id=row["order_name"],
        customer_id=row["customer_name"],
        links=links,
    )
