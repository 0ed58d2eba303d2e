"""``/v1/refunds``: ask for money back, follow it, stop it, try it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from refund_service import ids
from refund_service.api.deps import (
    Caller,
    House,
    InHouse,
    KeyHeader,
    answer,
    claim_of,
    needs,
    preferred_wait,
    required_claim,
)
from refund_service.api.documented import (
    WITH_BODY,
    WITH_CURSOR,
    WITH_KEY,
    WITH_NAME,
    PreferHeader,
    problems,
)
from refund_service.api.given import path_id
from refund_service.api.media import StrictRoute
from refund_service.api.pages import (
    USUAL,
    Cursor,
    Limit,
    Whole,
    filters_fingerprint,
    open_cursor,
    sign_cursor,
)
from refund_service.api.refusals import IdempotencyKeyMissing
from refund_service.api.v1.refund_request import RefundIn, asked_of
from refund_service.api.v1.refund_view import RefundOut, RefundPage, refund_out
from refund_service.api.visit import visit_of
from refund_service.api.wire import (
    GatewayReference,
    Metadata,
    Moment,
    PublicId,
    Reference,
    Text,
    Wire,
)
from refund_service.clock import utc_now
from refund_service.errors import Unprocessable
from refund_service.gateways.registry import UnknownGateway
from refund_service.merchants.roles import Scope
from refund_service.money import LARGEST_AMOUNT
from refund_service.orders.tell import OrderNotFound
from refund_service.payments.errors import (
    GatewayAccountNeeded,
    GatewayAccountUnknown,
    OrderExists,
    PaymentAmbiguous,
    PaymentContradiction,
    PaymentExists,
    PaymentNotCaptured,
    PaymentNotFound,
    ReferenceExists,
)
from refund_service.policies.reasons import ReasonUnknown
from refund_service.refunds.cancel import cancel_refund
from refund_service.refunds.creation import Asker
from refund_service.refunds.errors import (
    AmountExceedsAvailable,
    AvailableChanged,
    CurrencyDiffers,
    NothingAvailable,
    NotReplaceable,
    RefundNotFound,
    RefundNotInStatus,
    RefundRefused,
    RefundUnclear,
)
from refund_service.refunds.listing import RefundFilters, list_refunds
from refund_service.refunds.moves import Changed
from refund_service.refunds.queries import get_refund
from refund_service.refunds.refresh import refresh_refund
from refund_service.refunds.relabel import relabel_refund
from refund_service.refunds.request import request_refund
from refund_service.refunds.retry import retry_refund
from refund_service.refunds.states import Outcome, Status


class RefundPatch(Wire):
    """What of a refund may be changed."""

    metadata: Metadata


class SandboxOnly(Unprocessable):
    code = "sandbox-only"
    title = "Live money does not play"
    help = "Leave `metadata.sandbox` out in live mode; use a test key to rehearse outcomes."


router = APIRouter(prefix="/v1/refunds", tags=["refunds"], route_class=StrictRoute)
Reader = Annotated[Caller, needs(Scope.REFUNDS_READ)]
Writer = Annotated[Caller, needs(Scope.REFUNDS_WRITE)]
RefundId = Annotated[UUID, path_id("refund_id", "refund", "`rf_…`")]


@router.post(
    "",
    operation_id="create_refund",
    summary="Ask for a refund",
    status_code=201,
    response_model=RefundOut,
    responses=problems(
        *WITH_BODY,
        *WITH_KEY,
        AmountExceedsAvailable,
        AvailableChanged,
        CurrencyDiffers,
        GatewayAccountNeeded,
        GatewayAccountUnknown,
        IdempotencyKeyMissing,
        NotReplaceable,
        NothingAvailable,
        OrderExists,
        OrderNotFound,
        PaymentAmbiguous,
        PaymentContradiction,
        PaymentExists,
        PaymentNotCaptured,
        PaymentNotFound,
        ReasonUnknown,
        ReferenceExists,
        RefundRefused,
        SandboxOnly,
        UnknownGateway,
    ),
)
async def create_refund(
    request: Request,
    body: RefundIn,
    caller: Writer,
    house: InHouse,
    _key: KeyHeader = None,
    _prefer: PreferHeader = None,
) -> Response:
    """Set the amount aside on the payment and promise to send it, or say why not.

    The answer comes at once, as `queued`; with `Prefer: wait=N` it comes when the gateway's answer
    is known, or after N seconds. A repetition with the same key answers the refund as it now is.
    """
    claim = required_claim(request, reference=body.reference, kind="refund")
    _refuse_play(caller, body.metadata)
    merchant_id, now = caller.principal.merchant_id, utc_now()
    try:
        requested = await request_refund(
            house.db,
            merchant_id,
            asked_of(body, claim, now),
            asker=Asker(caller.principal.key_id, caller.actor),
            now=now,
        )
    except RefundRefused as refused:
        _tell_replay(request, refused)
        raise
    house.wake_worker()
    wait = _wait(request, house)
    if wait:
        await house.waiters.until_settled(house.db, merchant_id, requested.refund_id, wait)
    refund = requested.refund
    if refund is None or wait:
        refund = await get_refund(house.db, merchant_id, requested.refund_id)
    return answer(
        refund_out(refund, livemode=caller.principal.livemode),
        status=201,
        location=f"/v1/refunds/{ids.show('refund', requested.refund_id)}",
        replayed=requested.replayed,
        waited=wait,
    )


@router.get(
    "",
    operation_id="list_refunds",
    summary="List refunds, newest first",
    response_model=RefundPage,
    responses=problems(*WITH_CURSOR),
)
async def list_all(
    caller: Reader,
    house: InHouse,
    status: Annotated[list[Status] | None, Query(description="Repeat it for several")] = None,
    outcome: Outcome | None = None,
    payment_id: Annotated[UUID, PublicId("payment")] | None = None,
    order_id: Reference | None = None,
    customer_id: Reference | None = None,
    reference: Reference | None = None,
    gateway_refund_id: GatewayReference | None = None,
    bank_reference: GatewayReference | None = None,
    reason: Annotated[str, Text(64)] | None = None,
    requested_by: Reference | None = None,
    gateway_account: Reference | None = None,
    amount: Annotated[int, Field(ge=1, le=LARGEST_AMOUNT), Whole] | None = None,
    created_from: Moment | None = None,
    created_to: Moment | None = None,
    updated_from: Moment | None = None,
    updated_to: Moment | None = None,
    attention: Annotated[bool | None, Query(description="Whether a person must look")] = None,
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Response:
    """Every filter has an index; pages stay as they are while refunds are added."""
    filters = RefundFilters(
        status=status,
        outcome=outcome,
        payment_id=payment_id,
        order_id=order_id,
        customer_id=customer_id,
        reference=reference,
        gateway_refund_id=gateway_refund_id,
        bank_reference=bank_reference,
        reason=reason,
        requested_by=requested_by,
        gateway_account=gateway_account,
        amount=amount,
        created_from=created_from,
        created_to=created_to,
        updated_from=updated_from,
        updated_to=updated_to,
        attention=attention,
    )
    merchant_id = caller.principal.merchant_id
    bound = filters_fingerprint(list="refunds", merchant=str(merchant_id), **filters.given())
    before = open_cursor(house.cursor_secret, bound, cursor)[-1] if cursor is not None else None
    rows = await list_refunds(house.db, merchant_id, filters, before=before, limit=limit + 1)
    more = sign_cursor(house.cursor_secret, bound, (rows[limit - 1]["id"],)) if len(rows) > limit else None
    shown = [refund_out(row, livemode=caller.principal.livemode) for row in rows[:limit]]
    return answer(RefundPage(data=shown, next_cursor=more))


@router.get(
    "/{refund_id}",
    operation_id="get_refund",
    summary="Read a refund",
    response_model=RefundOut,
    responses=problems(*WITH_NAME, RefundNotFound),
)
async def get_one(refund_id: RefundId, caller: Reader, house: InHouse) -> Response:
    """The refund as it now is, with what is left of its payment."""
    refund = await get_refund(house.db, caller.principal.merchant_id, refund_id)
    return answer(refund_out(refund, livemode=caller.principal.livemode))


@router.patch(
    "/{refund_id}",
    operation_id="update_refund",
    summary="Replace a refund's metadata",
    response_model=RefundOut,
    responses=problems(*WITH_NAME, *WITH_BODY, RefundNotFound, SandboxOnly),
)
async def update_one(refund_id: RefundId, body: RefundPatch, caller: Writer, house: InHouse) -> Response:
    """Nothing else of a refund can be changed."""
    _refuse_play(caller, body.metadata)
    merchant_id = caller.principal.merchant_id
    await relabel_refund(house.db, merchant_id, refund_id, body.metadata, actor=caller.actor, now=utc_now())
    refund = await get_refund(house.db, merchant_id, refund_id)
    return answer(refund_out(refund, livemode=caller.principal.livemode))


@router.post(
    "/{refund_id}/cancel",
    operation_id="cancel_refund",
    summary="Cancel a refund that has not been sent",
    response_model=RefundOut,
    responses=problems(*WITH_NAME, *WITH_KEY, RefundNotFound, RefundNotInStatus),
)
async def cancel(
    request: Request, refund_id: RefundId, caller: Writer, house: InHouse, _key: KeyHeader = None
) -> Response:
    """What it held is available again. Once it has been sent this answers 409."""
    canceled = await cancel_refund(
        house.db,
        caller.principal.merchant_id,
        refund_id,
        claim=claim_of(request),
        actor=caller.actor,
        now=utc_now(),
    )
    return await _shown(caller, house, canceled)


@router.post(
    "/{refund_id}/retry",
    operation_id="retry_refund",
    summary="Try a failed refund again",
    response_model=RefundOut,
    responses=problems(
        *WITH_NAME, *WITH_KEY, AmountExceedsAvailable, RefundNotFound, RefundNotInStatus, RefundUnclear
    ),
)
async def retry(
    request: Request,
    refund_id: RefundId,
    caller: Writer,
    house: InHouse,
    _key: KeyHeader = None,
    _prefer: PreferHeader = None,
) -> Response:
    """Holds the amount anew and sends it as the next generation, under a new gateway key."""
    try:
        retried = await retry_refund(
            house.db,
            caller.principal.merchant_id,
            refund_id,
            claim=claim_of(request),
            asker=Asker(caller.principal.key_id, caller.actor),
            now=utc_now(),
        )
    except RefundRefused as refused:
        _tell_replay(request, refused)
        raise
    return await _shown(caller, house, retried, wait=_wait(request, house))


@router.post(
    "/{refund_id}/refresh",
    operation_id="refresh_refund",
    summary="Ask the gateway now what became of it",
    response_model=RefundOut,
    responses=problems(*WITH_NAME, RefundNotFound),
)
async def refresh(
    request: Request, refund_id: RefundId, caller: Writer, house: InHouse, _prefer: PreferHeader = None
) -> Response:
    """Wakes the look-up that is planned. With `Prefer: wait=N` the answer waits for what comes of it."""
    merchant_id = caller.principal.merchant_id
    await refresh_refund(house.db, merchant_id, refund_id)
    house.wake_worker()
    wait = _wait(request, house)
    if wait:
        await house.waiters.until_told(refund_id, wait)
    refund = await get_refund(house.db, merchant_id, refund_id)
    return answer(refund_out(refund, livemode=caller.principal.livemode), waited=wait)


def _refuse_play(caller: Caller, metadata: Mapping[str, str]) -> None:
    if caller.principal.livemode and "sandbox" in metadata:
        raise SandboxOnly("`metadata.sandbox` rehearses outcomes with test keys only.")


def _wait(request: Request, house: House) -> int:
    return preferred_wait(request) if house.waiters.has_room() else 0


def _tell_replay(request: Request, refused: RefundRefused) -> None:
    if refused.replayed:
        visit_of(request.scope).headers["Idempotency-Replayed"] = "true"


async def _shown(caller: Caller, house: House, changed: Changed, *, wait: int = 0) -> Response:
    house.wake_worker()
    merchant_id = caller.principal.merchant_id
    if wait:
        await house.waiters.until_settled(house.db, merchant_id, changed.refund_id, wait)
    refund = await get_refund(house.db, merchant_id, changed.refund_id)
    return answer(
        refund_out(refund, livemode=caller.principal.livemode), replayed=changed.replayed, waited=wait
    )
