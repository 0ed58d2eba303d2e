"""``/v1/refunds/{refund_id}/attempts`` and ``…/events``: what was sent and said, and what happened."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from refund_service.api.deps import (
    Caller,
    InHouse,
    answer,
    needs,
)
from refund_service.api.documented import (
    WITH_NAME,
    problems,
)
from refund_service.api.given import path_id
from refund_service.api.media import StrictRoute
from refund_service.api.v1.events import EventOut, event_out
from refund_service.api.wire import (
    Moment,
    Wire,
)
from refund_service.events.feed import events_of
from refund_service.merchants.roles import Scope
from refund_service.refunds.errors import (
    RefundNotFound,
)
from refund_service.refunds.queries import attempts_of, get_refund


class CallOut(Wire):
    """One call to the gateway."""

    kind: Literal["send", "look_up"]
    result: str
    detail: str
    called_at: Moment
    answered_at: Moment


class AttemptOut(Wire):
    """One generation of sending a refund, under one key."""

    generation: int
    key: UUID = Field(description="The idempotency key that the gateway got")
    state: str
    sends: int
    look_ups: int
    first_sent_at: Moment
    last_sent_at: Moment
    calls: list[CallOut]


class AttemptList(Wire):
    """Every attempt of a refund, oldest first."""

    data: list[AttemptOut]


class EventList(Wire):
    """Every event of a refund, in its own order."""

    data: list[EventOut]


router = APIRouter(prefix="/v1/refunds", tags=["refunds"], route_class=StrictRoute)
Reader = Annotated[Caller, needs(Scope.REFUNDS_READ)]
RefundId = Annotated[UUID, path_id("refund_id", "refund", "`rf_…`")]


@router.get(
    "/{refund_id}/attempts",
    operation_id="list_refund_attempts",
    summary="What was sent to the gateway, and what it said",
    response_model=AttemptList,
    responses=problems(*WITH_NAME, RefundNotFound),
)
async def list_attempts(refund_id: RefundId, caller: Reader, house: InHouse) -> Response:
    """Every generation with its key, and every call made for it."""
    merchant_id = caller.principal.merchant_id
    await get_refund(house.db, merchant_id, refund_id)
    attempts, calls = await attempts_of(house.db, merchant_id, refund_id)
    return answer(
        AttemptList(
            data=[
                AttemptOut(
                    **{name: row[name] for name in AttemptOut.model_fields if name != "calls"},
                    calls=[
                        CallOut(**{name: call[name] for name in CallOut.model_fields})
                        for call in calls
                        if call["generation"] == row["generation"]
                    ],
                )
                for row in attempts
            ]
        )
    )


@router.get(
    "/{refund_id}/events",
    operation_id="list_refund_events",
    summary="A refund's history",
    response_model=EventList,
    responses=problems(*WITH_NAME, RefundNotFound),
)
async def list_events(refund_id: RefundId, caller: Reader, house: InHouse) -> Response:
    """Every event of the refund, in the order in which it happened."""
    merchant_id = caller.principal.merchant_id
    await get_refund(house.db, merchant_id, refund_id)
    rows = await events_of(house.db, merchant_id, refund_id)
    return answer(EventList(data=[event_out(row) for row in rows]))
