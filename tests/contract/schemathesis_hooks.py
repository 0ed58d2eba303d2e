"""What Schemathesis is told of this API beyond its document: a client's habits, and a check of our own."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import schemathesis

_KEYS = count(1)

# What a schema cannot say, and what its patterns say only roughly.
BEYOND_SCHEMAS = {
    "card-number",
    "currency-unknown",
    "nul-character",
    "order-named-twice",
    "too-late",
    "wrong-format",
}
MALFORMED = {"request-invalid", "body-malformed", "body-unreadable", "media-type-unsupported"}


def _is_beyond_schemas(error: dict[str, str]) -> bool:
    # A line as a whole is too large where the product of two of its members is.
    product = error["code"] == "too-large" and re.search(r"/lines/\d+$", error["pointer"])
    return error["code"] in BEYOND_SCHEMAS or bool(product)


def _is_valid(case: schemathesis.Case) -> bool:
    meta: Any = case.meta
    return meta is not None and meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """A key of its own for each new request, as clients send: with one key all would be the first again."""
    if _is_valid(case) and case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}-{next(_KEYS)}"
    if _is_valid(case):
        case.body = _whole(case.body)
    if case.headers and "wait=" in case.headers.get("Prefer", ""):
        # A refund that is put off is waited for in vain, each time for as long as was asked.
        case.headers["Prefer"] = "wait=1"


def _whole(told: Any) -> Any:
    """To JSON Schema 12.0 is an integer. Here it is none: amounts are written as whole numbers."""
    match told:
        case dict():
            return {name: _whole(value) for name, value in told.items()}
        case list():
            return [_whole(value) for value in told]
        case float() if told.is_integer():
            return int(told)
        case _:
            return told


@schemathesis.check
def what_the_document_allows_is_not_called_malformed(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A policy may say no, a sum may not be there; but the shape of the request was right."""
    if not _is_valid(case) or response.status_code not in {400, 415, 422}:
        return
    told = response.json()
    wrong = [error for error in told.get("errors") or [] if not _is_beyond_schemas(error)]
    assert told["code"] not in MALFORMED or (told.get("errors") and not wrong), f"{told['code']}: {wrong}"
