"""``/v1/orders``: what was bought, what was paid for it, and what came back."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import Field

from refund_service.api.deps import Caller, House, InHouse, answer, needs
from refund_service.api.documented import WITH_BODY, WITH_NAME, problems
from refund_service.api.media import StrictRoute
from refund_service.api.v1.payments import Country, Facts, PaymentOut, Tags, payment_out
from refund_service.api.v1.refund_view import RefundOut, refund_out
from refund_service.api.wire import Moment, PublicId, Reference, Wire
from refund_service.clock import utc_now
from refund_service.merchants.roles import Scope
from refund_service.orders.tell import OrderNotFound, get_order, tell_order
from refund_service.payments.listing import PaymentFilters, list_payments
from refund_service.payments.queries import sums_of_order
from refund_service.refunds.listing import RefundFilters, list_refunds

MOST_SHOWN = 100


class LineOut(Wire):
    """One line, in minor units."""

    position: int
    line_id: str | None
    kind: str
    sku: str | None
    name: str | None
    quantity: int
    unit_price: int
    tax: int
    total: int
    tags: list[str]


class ToldOut(Wire):
    """Facts that were told, by whom and when."""

    version: int
    facts: dict[str, Any]
    told_by: str
    told_at: Moment


class OrderOut(Wire):
    """An order with everything that hangs on it."""

    id: str
    internal_id: Annotated[UUID, PublicId("order")]
    livemode: bool
    currency: str
    customer_id: str | None
    country: str | None
    tags: list[str]
    facts: dict[str, Any]
    lines: list[LineOut]
    history: list[ToldOut]
    captured: int = Field(description="In minor units, over all payments")
    held: int
    refunded: int
    available: int
    payments: list[PaymentOut] = Field(description="Newest first, at most 100")
    refunds: list[RefundOut] = Field(description="Newest first, at most 100")
    created_at: Moment
    updated_at: Moment


class OrderPatch(Wire):
    """Facts that come later. A fact that is told as null is taken back."""

    facts: Facts = Field(default_factory=dict)
    tags: Tags | None = None
    country: Country | None = None


router = APIRouter(prefix="/v1/orders", tags=["orders"], route_class=StrictRoute)
OrderId = Annotated[Reference, Path(description="The merchant's own order id", examples=["ORDER-1001"])]


@router.get(
    "/{order_id:path}",
    operation_id="get_order",
    summary="Read an order with its payments and refunds",
    response_model=OrderOut,
    responses=problems(*WITH_NAME, OrderNotFound),
)
async def get_one(
    order_id: OrderId, caller: Annotated[Caller, needs(Scope.PAYMENTS_READ)], house: InHouse
) -> Response:
    """What was captured, held, given back and is available, over all of its payments."""
    return answer(await _shown(house, caller, order_id))


@router.patch(
    "/{order_id:path}",
    operation_id="update_order",
    summary="Tell facts that came later",
    response_model=OrderOut,
    responses=problems(*WITH_NAME, *WITH_BODY, OrderNotFound),
)
async def update_one(
    order_id: OrderId,
    body: OrderPatch,
    caller: Annotated[Caller, needs(Scope.PAYMENTS_WRITE)],
    house: InHouse,
) -> Response:
    """Fulfilled, delivered, tagged: added to what is known, and kept with who told it when."""
    await tell_order(
        house.db,
        caller.principal.merchant_id,
        order_id,
        facts=body.facts,
        tags=body.tags,
        country=body.country,
        actor=caller.actor,
        now=utc_now(),
    )
    return answer(await _shown(house, caller, order_id))


async def _shown(house: House, caller: Caller, order_id: str) -> OrderOut:
    merchant_id, livemode = caller.principal.merchant_id, caller.principal.livemode
    order, lines, history = await get_order(house.db, merchant_id, order_id)
    paid = await list_payments(
        house.db, merchant_id, PaymentFilters(order_id=order_id), before=None, limit=MOST_SHOWN
    )
    returned = await list_refunds(
        house.db, merchant_id, RefundFilters(order_id=order_id), before=None, limit=MOST_SHOWN
    )
    payments = [payment_out(row, livemode=livemode) for row in paid]
    return OrderOut.model_construct(
        id=order["order_id"],
        internal_id=order["id"],
        livemode=livemode,
        currency=order["currency"],
        customer_id=order["customer_name"],
        country=order["country"],
        tags=order["tags"],
        facts=order["facts"],
        lines=[LineOut(**{name: row[name] for name in LineOut.model_fields}) for row in lines],
        history=[ToldOut(**{name: row[name] for name in ToldOut.model_fields}) for row in history],
        **await sums_of_order(house.db, merchant_id, order["id"]),
        payments=payments,
        refunds=[refund_out(row, livemode=livemode) for row in returned],
        created_at=order["created_at"],
        updated_at=order["updated_at"],
    )
