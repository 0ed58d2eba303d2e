"""What a route is given from the request itself: who calls, the house, what a header says.

    async def get_one(refund_id: RefundId, caller: Reader, house: InHouse) -> Response: ...

FastAPI's dependencies would do the same for a third of a request's CPU: they are solved anew for
each request, header by header. Here each is one call of a plain function, made before the body is
read, so that who may not do a thing learns nothing of how it is asked for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[..., Awaitable[Response]]
Finder = Callable[[Request], Any]


@dataclass(frozen=True, slots=True)
class Given:
    """Marks a parameter that is found in the request, and says what the document tells of it."""

    find: Finder | None
    """Called before the body is read; may raise. ``None`` for what only the document has."""
    scopes: tuple[str, ...] | None = None
    """What the caller's key must be allowed, where this asks for a key."""
    headers: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """Headers that the document tells of, as OpenAPI parameters."""


def header(name: str, description: str, *examples: str) -> Mapping[str, Any]:
    """A header as an OpenAPI parameter; it is read by who needs it, as it came."""
    schema = {"type": "string", **({"examples": list(examples)} if examples else {})}
    told = {"name": name, "in": "header", "required": False, "schema": schema}
    return told | {"description": description}


@dataclass(frozen=True, slots=True)
class Split:
    """An endpoint without what it is given, as FastAPI gets it, and the rest."""

    endpoint: Endpoint
    finders: Mapping[str, Finder]
    document: dict[str, Any]
    """Members of its OpenAPI operation."""


def without_given(endpoint: Endpoint, scheme: str) -> Split:
    """Take from an endpoint's signature what it is given; ``scheme`` is the document's security scheme."""
    hints = get_type_hints(endpoint, include_extras=True)
    signature = inspect.signature(endpoint)
    finders: dict[str, Finder] = {}
    document: dict[str, Any] = {}
    left = []
    for name, parameter in signature.parameters.items():
        given = _given(hints[name])
        if given is None:
            left.append(parameter.replace(annotation=hints[name]))
            continue
        if given.find is not None:
            finders[name] = given.find
        if given.scopes is not None:
            document["security"] = [{scheme: list(given.scopes)}]
        if given.headers:
            document["parameters"] = [*document.get("parameters", []), *given.headers]
    asks_request = any(parameter.annotation is Request for parameter in left)

    @functools.wraps(endpoint)
    async def filled(request: Request, **asked: Any) -> Response:
        if asks_request:
            asked["request"] = request
        return await endpoint(**asked, **request.state.given)

    if not asks_request:
        own = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        left.insert(0, own)
    filled.__signature__ = signature.replace(  # type: ignore[attr-defined] # where inspect looks for it
        parameters=left, return_annotation=hints.get("return", signature.return_annotation)
    )
    return Split(filled, finders, document)


def _given(hint: Any) -> Given | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Given)), None)
