"""The one place that turns errors into answers: problem documents as RFC 9457 has them.

What was raised is told only where it is one of our refusals; the text of any other exception
stays in the log.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from refund_service.api.invalid import refusal_of
from refund_service.api.refusals import (
    BodyTooLarge,
    BodyUnreadable,
    EdgeError,
    InternalError,
    MethodNotAllowed,
    Overloaded,
    RouteNotFound,
)
from refund_service.api.visit import visit_of
from refund_service.clock import rfc3339
from refund_service.errors import RefundServiceError
from refund_service.logs import mask

MEDIA_TYPE: Final = "application/problem+json"

_LONGEST_INSTANCE: Final = 500
_SERVER_ERROR: Final = 500

_log = structlog.get_logger()


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(alias="in", examples=["body"], description="body, query, header, cookie or path")
    pointer: str = Field(
        examples=["/amount"], description="JSON pointer (RFC 6901) to the member or parameter"
    )
    code: str = Field(examples=["too-large"])
    detail: str


class Problem(BaseModel):
    """A refusal (RFC 9457). Clients compare `code`; facts such as `available` stand beside it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        examples=["https://refunds.example/problems/request-invalid"], json_schema_extra={"format": "uri"}
    )
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str = Field(examples=["/v1/refunds"])
    code: str = Field(examples=["request-invalid"])
    request_id: str
    retryable: bool = Field(description="Whether the same request may be right later, unchanged")
    errors: list[FieldError] | None = None
    links: dict[str, str] | None = Field(None, description="The ways on")


class Problems:
    """Answers for errors; ``public_url`` is where clients find the pages of the codes."""

    def __init__(self, public_url: str) -> None:
        self._pages = f"{public_url.rstrip('/')}/problems/"

    def install(self, app: FastAPI) -> None:
        """Let ``app`` answer its errors here, its last resort included."""
        app.add_exception_handler(RefundServiceError, self._on_refusal)
        app.add_exception_handler(RequestValidationError, self._on_invalid)
        app.add_exception_handler(HTTPException, self._on_http)
        app.add_exception_handler(Exception, self._on_mistake)
        app.add_exception_handler(ClientDisconnect, _on_client_gone)

    def answer(self, scope: Mapping[str, Any], error: RefundServiceError) -> Response:
        """The answer that tells ``error``."""
        visit = visit_of(scope)
        visit.code = error.code
        if error.status == _SERVER_ERROR:
            _log.error("request.failed", code=error.code, exc_info=error)
        headers = dict(error.headers) if isinstance(error, EdgeError) else {}
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        document = self.document(error, request_id=visit.request_id, instance=_instance(scope))
        content = json.dumps(document, separators=(",", ":"), allow_nan=False, default=_plain)
        return Response(content, error.status, headers, MEDIA_TYPE)

    def document(self, error: RefundServiceError, *, request_id: str, instance: str) -> dict[str, Any]:
        """The problem document. A fact never takes the place of a standard member."""
        document = dict(error.facts)
        document |= {
            "type": self._pages + error.code,
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "instance": instance,
            "code": error.code,
            "request_id": request_id,
            "retryable": error.retryable,
        }
        if error.links:
            document["links"] = error.links
        return document

    async def _on_refusal(self, request: Request, error: Exception) -> Response:
        return self.answer(request.scope, cast("RefundServiceError", error))

    async def _on_invalid(self, request: Request, error: Exception) -> Response:
        return self.answer(request.scope, refusal_of(cast("RequestValidationError", error)))

    async def _on_mistake(self, request: Request, error: Exception) -> Response:
        return self.answer(request.scope, mistake(error))

    async def _on_http(self, request: Request, error: Exception) -> Response:
        return self.answer(request.scope, _of_http(request, cast("HTTPException", error)))


async def _on_client_gone(_connection: HTTPConnection, _error: Exception) -> None:
    """No one is there to be answered: nothing went wrong here."""


_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Of files, sockets or memory: it passes when others have gone."""


def mistake(error: Exception) -> RefundServiceError:
    """What is answered for an error that is none of ours: nothing of it but that there was one."""
    told: RefundServiceError
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _NO_ROOM:
        told = Overloaded("The process has come to a limit of its machine.")
    else:
        told = InternalError("The request could not be answered.")
    told.__cause__ = error
    return told


def _of_http(request: Request, error: HTTPException) -> RefundServiceError:
    # FastAPI wraps what is raised while it reads a body; what was raised says more.
    if isinstance(error.__cause__, RefundServiceError):
        return error.__cause__
    match error.status_code:
        case 404:
            return RouteNotFound("No route has this path.")
        case 405:
            return MethodNotAllowed.but(_methods(request))
        case 413:
            return BodyTooLarge("The body is too large.")
        case status if status < _SERVER_ERROR:
            return BodyUnreadable("The request could not be read.")
        case _:
            return mistake(error)


def _methods(request: Request) -> set[str]:
    """Every method that some route takes under the path: Starlette names the first route's alone."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.methods and route.path_regex.match(path)
        for method in route.methods
    }


def _instance(scope: Mapping[str, Any]) -> str:
    path = (scope.get("raw_path") or b"").decode("ascii", "replace") or "/"
    return mask(path)[:_LONGEST_INSTANCE]


def _plain(value: object) -> object:
    """Facts as JSON has them."""
    match value:
        case datetime():
            return rfc3339(value)
        case date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case BaseModel():
            return value.model_dump(mode="json")
        case set() | frozenset():
            return sorted(value)
        case _:
            return str(value)
