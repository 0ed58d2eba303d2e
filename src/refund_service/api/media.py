"""The route every resource uses: authorise, read the body as strict JSON, let FastAPI validate."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.responses import Response

from refund_service.api import strict_json
from refund_service.api.given import Endpoint, without_given
from refund_service.api.pointers import field_error
from refund_service.api.refusals import MediaTypeUnsupported, RequestInvalid
from refund_service.api.visit import visit_of

SCHEME: Final = "ApiKey"
"""The document's name for how a caller shows who it is."""

Authenticate = Callable[[Request], Awaitable[None]]
"""Found at ``app.state.authenticate``: raises, or writes what it found into ``request.state``."""

_JSON: Final = re.compile(r'application/json[ \t]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE)


class StrictRoute(APIRoute):
    """A route whose body is read before FastAPI would read it.

    FastAPI parses leniently, parses before any dependency (so before authorisation), and makes a
    400 of whatever is raised meanwhile. The parsed body stays in ``request.state.body`` for the
    fingerprint of the idempotency key.
    """

    def __init__(self, path: str, endpoint: Endpoint, **told: Any) -> None:
        self._split = without_given(endpoint, SCHEME)
        told["openapi_extra"] = self._split.document | (told.get("openapi_extra") or {})
        super().__init__(path, self._split.endpoint, **told)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_body = self.body_field is not None
        split, finders = self._split, self._split.finders
        template: str | None = None

        async def handle_strictly(request: Request) -> Response:
            nonlocal template
            # Only a request knows the prefixes; each inclusion has a handler, so one look is enough.
            template = template or _template(request, self)
            visit_of(request.scope).route = template
            authenticate: Authenticate | None = getattr(request.app.state, "authenticate", None)
            if authenticate is not None:
                await authenticate(request)
            request.state.given = {name: find(request) for name, find in finders.items()}
            request.state.body = await (_read_json(request) if takes_body else _refuse_body(request))
            return await (handle(request) if split.solved else split.call(request, request.state.body))

        return handle_strictly


async def _read_json(request: Request) -> object:
    if not _has_body(request):
        return None
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise MediaTypeUnsupported("Compressed bodies are not read.")
    kinds = request.headers.getlist("content-type")
    if len(kinds) != 1 or not _JSON.fullmatch(kinds[0]):
        raise MediaTypeUnsupported("Only application/json in UTF-8 is read.")
    body = await request.body()
    if not body:
        return None
    parsed = strict_json.parse(body)
    # Where Starlette keeps what it has parsed: FastAPI takes it from there and does not parse again.
    request._json = parsed  # noqa: SLF001 - where Starlette keeps it
    return parsed


async def _refuse_body(request: Request) -> None:
    """A body that no one reads might carry an amount that its sender believes in."""
    if _has_body(request) and (await request.body()).strip() not in (b"", b"{}"):
        error = field_error("", "unknown-member", "This takes no body.")
        raise RequestInvalid("One thing is wrong with the request.", errors=[error])


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _template(request: Request, route: APIRoute) -> str:
    """The route's path with the prefixes it was included under."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    for context in iter_route_contexts(request.app.routes):
        if context.original_route is route and context.path_regex.match(path):
            return str(context.path_format)
    return route.path_format
