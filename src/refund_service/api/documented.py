"""What a route tells of itself in the OpenAPI document and nowhere else: its refusals and its headers."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Any, Final

from refund_service.api.deps import LONGEST_WAIT, ActorInvalid
from refund_service.api.given import Given, header
from refund_service.api.problems import MEDIA_TYPE, Problem
from refund_service.api.refusals import (
    BodyMalformed,
    BodyTooLarge,
    BodyUnreadable,
    CursorInvalid,
    Forbidden,
    HeadTooLarge,
    IdempotencyKeyInvalid,
    InternalError,
    MediaTypeUnsupported,
    Overloaded,
    RateLimited,
    RequestInvalid,
    RequestTooSlow,
    RequestUnreadable,
    Unauthorized,
)
from refund_service.db.errors import Busy, DatabaseUnavailable, IdempotencyKeyInUse, InvariantBroken
from refund_service.errors import NotFound, RefundServiceError
from refund_service.idempotency.keys import IdempotencyKeyReused

Refusals = tuple[type[RefundServiceError], ...]

_ANYWHERE: Final[Refusals] = (
    ActorInvalid,
    Busy,
    DatabaseUnavailable,
    Forbidden,
    HeadTooLarge,
    InternalError,
    InvariantBroken,
    Overloaded,
    RateLimited,
    RequestInvalid,
    RequestTooSlow,
    RequestUnreadable,
    Unauthorized,
)
WITH_BODY: Final[Refusals] = (BodyMalformed, BodyTooLarge, BodyUnreadable, MediaTypeUnsupported)
"""Of a route that reads a body."""

WITH_KEY: Final[Refusals] = (IdempotencyKeyInUse, IdempotencyKeyInvalid, IdempotencyKeyReused)
"""Of a route that takes an idempotency key."""

WITH_CURSOR: Final[Refusals] = (CursorInvalid,)
"""Of a list."""

WITH_NAME: Final[Refusals] = (NotFound,)
"""Of a route whose path names a thing: what cannot be its name is not there."""

PreferHeader = Annotated[
    str | None,
    Given(
        None,
        parameters=(
            header(
                "Prefer",
                f"`wait=N`: answer when it is settled, or after N seconds, {LONGEST_WAIT} at most.",
                "wait=5",
            ),
        ),
    ),
]
"""For the document only; ``preferred_wait`` reads the header as it came."""


def problems(*refusals: type[RefundServiceError]) -> dict[int | str, dict[str, Any]]:
    """The problem documents that a route may answer, by status; those that any route may are added."""
    listed = sorted({*_ANYWHERE, *refusals}, key=lambda refusal: (refusal.status, refusal.code))
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{Problem.__name__}"},
                    "examples": {
                        refusal.code: {"$ref": f"#/components/examples/{refusal.code}"} for refusal in group
                    },
                }
            },
        }
        for status, group in groupby(listed, key=lambda refusal: refusal.status)
    }


_MEANINGS: Final = {
    400: "The request cannot be read",
    401: "No valid API key",
    403: "The key may not do this",
    404: "Not there, or not this merchant's",
    408: "The request came in too slowly",
    409: "Not now: nothing was written",
    412: "A precondition does not hold",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "Not like this",
    429: "Too many requests",
    431: "The headers are too large",
    500: "Something went wrong here",
    503: "Busy, or the database is away: send the same again after Retry-After",
}
