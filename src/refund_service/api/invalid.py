"""What FastAPI found wrong with a request, in our codes and without a word of what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError

from refund_service.api.pointers import MOST_ERRORS, field_error, pointer_to
from refund_service.api.refusals import RequestInvalid
from refund_service.errors import NotFound, RefundServiceError
from refund_service.logs import mask

# Pydantic's words change between its versions; these are ours and do not.
_CODES: Final = {
    "missing": "missing",
    "extra_forbidden": "unknown-member",
    "greater_than": "too-small",
    "greater_than_equal": "too-small",
    "less_than": "too-large",
    "less_than_equal": "too-large",
    "string_too_short": "too-short",
    "string_too_long": "too-long",
    "too_short": "too-few",
    "too_long": "too-many",
    "string_pattern_mismatch": "wrong-format",
    "literal_error": "not-one-of",
    "enum": "not-one-of",
    "union_tag_invalid": "not-one-of",
    "union_tag_not_found": "missing",
}
_DETAILS: Final = {
    "missing": "It is required.",
    "extra_forbidden": "This name is not known here.",
    "union_tag_invalid": "It is none of the kinds known here.",
}


def refusal_of(error: RequestValidationError) -> RefundServiceError:
    """The refusal to answer with."""
    found = error.errors()
    # What cannot be an id names nothing: the same answer as for an id that is not there.
    if any(one["loc"][0] == "path" for one in found):
        return NotFound("Nothing of yours has this id.")
    errors = [_told(one, error.body) for one in found[:MOST_ERRORS]]
    count = len(found)
    detail = (
        "One thing is wrong with the request."
        if count == 1
        else f"{count} things are wrong with the request."
    )
    return RequestInvalid(detail, errors=errors)


def _told(one: dict[str, Any], body: object) -> dict[str, str]:
    where, *steps = one["loc"]
    code = code_of(one["type"])
    path = _path_in(body, steps, last_may_miss=code == "missing") if where == "body" else steps
    detail = _DETAILS.get(one["type"]) or mask(one["msg"].removeprefix("Value error, "))
    return field_error(pointer_to(path), code, detail, where=where)


def code_of(kind: str) -> str:
    """Our code for a kind of error of pydantic's; our own kinds are codes already."""
    if kind in _CODES:
        return _CODES[kind]
    if "_" not in kind:
        return kind
    return "wrong-type" if kind.endswith("_type") else "invalid"


def _path_in(body: object, steps: Sequence[str | int], *, last_may_miss: bool) -> list[str | int]:
    """The steps that exist in what was sent: pydantic names members of unions and functions among them."""
    path: list[str | int] = []
    here = body
    for place, step in enumerate(steps):
        match here, step:
            case dict(), str() if step in here:
                here = here[step]
            case list(), int() if step < len(here):
                here = here[step]
            case dict(), str() if last_may_miss and place == len(steps) - 1:
                pass
            case _:
                continue
        path.append(step)
    return path
