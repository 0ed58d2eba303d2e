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

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from refund_service import ids
from refund_service.errors import NotFound

Endpoint = Callable[..., Awaitable[Response]]
Finder = Callable[[Request], Any]


@dataclass(frozen=True, slots=True)
class Given:
    """Marks a parameter that is found in the request, and says what the document tells of it."""

    find: Finder | None
    """Called before the body is read; may raise. ``None`` for what only the document has."""
    scopes: tuple[str, ...] | None = None
    """What the caller's key must be allowed, where this asks for a key."""
    parameters: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    """What the document tells of it: headers and parts of the path, as OpenAPI parameters."""


def header(name: str, description: str, *examples: str, **schema: Any) -> Mapping[str, Any]:
    """A header as an OpenAPI parameter; it is read by who needs it, as it came."""
    schema = {"type": "string", **({"examples": list(examples)} if examples else {}), **schema}
    told = {"name": name, "in": "header", "required": False, "schema": schema}
    return told | {"description": description}


def path_id(name: str, kind: str, description: str) -> Given:
    """The id in the path, as ours; ``NotFound`` where it cannot be one of that kind: so it names nothing."""

    def find(request: Request) -> Any:
        try:
            return ids.read(kind, request.path_params[name])
        except ids.NotAnId:
            raise NotFound("Nothing of yours has this id.") from None

    told = {"name": name, "in": "path", "required": True, "schema": ids.schema(kind)}
    return Given(find, parameters=(told | {"description": description},))


@dataclass(frozen=True, slots=True)
class Split:
    """An endpoint without what it is given, as FastAPI gets it, and the rest."""

    endpoint: Endpoint
    finders: Mapping[str, Finder]
    document: dict[str, Any]
    """Members of its OpenAPI operation."""
    body: tuple[str, type[BaseModel]] | None
    """The parameter that takes the body."""
    solved: bool
    """Whether anything is left for FastAPI: a query to find, a path that is no id, an answer to render."""

    async def call(self, request: Request, body: object) -> Response:
        """Call the endpoint with what it is given and the body; only where nothing is ``solved``."""
        asked = {} if self.body is None else {self.body[0]: _validated(self.body[1], body)}
        return await self.endpoint(request, **asked)


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
            # Who may not ask is told so before anything else is looked at.
            first = {name: given.find}
            finders = first | finders if given.scopes is not None else finders | first
        if given.scopes is not None:
            document["security"] = [{scheme: list(given.scopes)}]
        if given.parameters:
            document["parameters"] = [*document.get("parameters", []), *given.parameters]
    asks_request = any(parameter.annotation is Request for parameter in left)

    @functools.wraps(endpoint)
    async def filled(request: Request, **asked: Any) -> Response:
        if asks_request:
            asked["request"] = request
        return await endpoint(**asked, **request.state.given)

    bodies = [one for one in left if _is_model(one.annotation)]
    if not asks_request:
        own = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        left.insert(0, own)
    filled.__signature__ = signature.replace(  # type: ignore[attr-defined] # where inspect looks for it
        parameters=left, return_annotation=hints.get("return", signature.return_annotation)
    )
    answers = hints.get("return") is Response
    return Split(
        filled,
        finders,
        document,
        body=(bodies[0].name, bodies[0].annotation) if len(bodies) == 1 else None,
        solved=not answers
        or any(one.annotation is not Request and not _is_model(one.annotation) for one in left),
    )


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _validated(model: type[BaseModel], body: object) -> BaseModel:
    """The body as its model; raises as FastAPI does, with the same places."""
    if body is None:
        raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "", "input": None}])
    try:
        return model.model_validate(body)
    except ValidationError as wrong:
        found = wrong.errors(include_url=False, include_context=False)
        raise RequestValidationError(
            [{**one, "loc": ("body", *one["loc"])} for one in found], body=body
        ) from None


def _given(hint: Any) -> Given | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Given)), None)
