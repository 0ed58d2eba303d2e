"""``/v1/events``: everything that happened, oldest first and without gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from refund_service.api.deps import Caller, InHouse, answer, needs
from refund_service.api.documented import WITH_CURSOR, problems
from refund_service.api.media import StrictRoute
from refund_service.api.pages import USUAL, Cursor, Limit, Page, filters_fingerprint, open_cursor, sign_cursor
from refund_service.api.refusals import CursorInvalid
from refund_service.api.wire import Moment, PublicId, Wire
from refund_service.events.feed import BEGINNING, read_feed
from refund_service.merchants.roles import Scope


class EventOut(Wire):
    """Something that happened."""

    id: Annotated[UUID, PublicId("event")]
    type: str = Field(examples=["refund.succeeded"])
    resource: str = Field(examples=["refund"])
    sequence: int = Field(description="Rises by one with each event of the same resource")
    caused_by: str
    occurred_at: Moment
    data: dict[str, Any]


class EventPage(Page[EventOut]):
    """One page of the feed, oldest first."""


router = APIRouter(prefix="/v1/events", tags=["events"], route_class=StrictRoute)


@router.get(
    "",
    operation_id="list_events",
    summary="Read the feed of events",
    response_model=EventPage,
    responses=problems(*WITH_CURSOR),
)
async def list_all(
    caller: Annotated[Caller, needs(Scope.EVENTS_READ)],
    house: InHouse,
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Response:
    """Oldest first. `next_cursor` is always given: keep it and ask again for what came since.

    Nothing ever appears behind a cursor already given out, whatever commits late.
    """
    merchant_id = caller.principal.merchant_id
    bound = filters_fingerprint(list="events", merchant=str(merchant_id))
    since = BEGINNING
    if cursor is not None:
        place = open_cursor(house.cursor_secret, bound, cursor)
        if len(place) == 1:
            raise CursorInvalid("The cursor was made for another list.")
        since = place
    rows = await read_feed(house.db, merchant_id, since=since, limit=limit)
    last = (rows[-1]["epoch"], rows[-1]["xid"], rows[-1]["id"]) if rows else since
    return answer(
        EventPage(
            data=[event_out(row) for row in rows],
            next_cursor=sign_cursor(house.cursor_secret, bound, last),
        )
    )


def event_out(row: Mapping[str, Any]) -> EventOut:
    """An event's row as the API shows it."""
    return EventOut.model_construct(**{name: row[name] for name in EventOut.model_fields})
