"""One request's visit: who came, where to, and what the log and the answer's headers tell of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from refund_service import ids

_ACCEPTED: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Visit:
    """Filled in by whoever learns of it: authentication the caller, the route its template."""

    request_id: str
    merchant_id: str | None = None
    key_id: str | None = None
    actor: str | None = None
    route: str | None = None
    """The template (``/v1/refunds/{refund_id}``), never the path: paths carry other people's ids."""
    code: str | None = None
    """The problem's code, where the answer is one."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with the answer, a problem's too: ``RateLimit`` and the like."""


def begin_visit(scope: Mapping[str, Any]) -> Visit:
    """A visit under the caller's ``X-Request-Id``, or under one of ours where it sent none that is fit."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTED.fullmatch(value):
            return Visit(value.decode("ascii"))
    return Visit(f"req_{ids.base62(ids.new_id().int, 22)}")


def visit_of(scope: Mapping[str, Any]) -> Visit:
    """The visit that a request belongs to (``request.scope``)."""
    state = cast("dict[str, Any]", scope).setdefault("state", {})
    if "visit" not in state:
        # The edge begins every visit; a request that came past it (a listener without it) still gets an id.
        state["visit"] = begin_visit(scope)
    return cast("Visit", state["visit"])
