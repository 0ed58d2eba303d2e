"""The one layer around everything: request ids, the limit on bodies, headers, the access log.

Pure ASGI, and one layer where several would do the same: each costs every request. FastAPI's own
``max_body_size`` was weighed: it answers in plain text, lets the connection live on, and replaces
the answer of a route that never read the body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refund_service.api.problems import Problems, mistake
from refund_service.api.refusals import BodyTooLarge, RequestTooSlow, RequestUnreadable, RouteNotFound
from refund_service.api.visit import Visit, begin_visit
from refund_service.clock import seconds
from refund_service.errors import RefundServiceError

LARGEST_BODY: Final = 64 * 1024

_HEARD_OUT_BYTES: Final = 1024 * 1024
_HEARD_OUT_SECONDS: Final = 1.0

CLIENT_GONE: Final = 499
"""In the log only: the caller left before it was answered."""

_SAID_BELOW: Final = {refusal.code: refusal.status for refusal in (RequestTooSlow, RequestUnreadable)}
"""What the listener says itself while a body is coming in."""

_HTML_POLICY: Final = (
    b"content-security-policy",
    b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
)
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_NO_STORE: Final = (b"cache-control", b"no-store")
_CLOSE: Final = (b"connection", b"close")

# An encoded slash, backslash or control character means one path to us and another to a proxy.
_STRANGE_PATH: Final = re.compile(rb"%(?:2f|5c|[01][0-9a-f]|7f)", re.IGNORECASE)

_log = structlog.get_logger()

Observer = Callable[[Visit, str, int, float], None]
"""Gets the visit, method, status and seconds of each request."""


class Edge:
    """Wraps the application: everything that comes in and goes out passes here once."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        problems: Problems,
        largest_body: int = LARGEST_BODY,
        observe: Observer | None = None,
    ) -> None:
        self._app = app
        self._problems = problems
        self._largest_body = largest_body
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = seconds()
        visit = begin_visit(scope)
        scope.setdefault("state", {})["visit"] = visit
        exchange = _Exchange(scope, receive, send, visit, self._largest_body)
        with structlog.contextvars.bound_contextvars(request_id=visit.request_id):
            try:
                await self._serve(scope, exchange)
            finally:
                self._tell(scope, exchange, seconds() - began)

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            exchange.refuse_at_the_door()
            await self._app(scope, exchange.receive, exchange.send)
        except RefundServiceError as refusal:
            await self._answer(scope, exchange, refusal)
        except Exception as error:  # noqa: BLE001 - the last to hear of it: whatever it was, the caller is answered
            # FastAPI's own last resort, where it lies inside, has answered and logged it and raised it again.
            if exchange.status is None or exchange.visit.code is None:
                await self._answer(scope, exchange, mistake(error))

    async def _answer(self, scope: Scope, exchange: _Exchange, error: RefundServiceError) -> None:
        answer = self._problems.answer(scope, error)
        # Half an answer cannot be taken back: the server closes the connection on it.
        if exchange.status is None:
            await answer(scope, exchange.receive, exchange.send)

    def _tell(self, scope: Scope, exchange: _Exchange, took: float) -> None:
        visit, method = exchange.visit, scope["method"]
        status = exchange.status or _SAID_BELOW.get(visit.code or "", CLIENT_GONE)
        _log.info(
            "request",
            merchant_id=visit.merchant_id,
            key_id=visit.key_id,
            actor=visit.actor,
            route=visit.route or getattr(scope.get("route"), "path", None),
            method=method,
            status=status,
            duration_ms=round(took * 1000, 2),
            code=visit.code,
        )
        if self._observe is not None:
            self._observe(visit, method, status, took)


class _Exchange:
    """What goes in and out for one request: counts the body, completes the answer's headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, visit: Visit, largest_body: int) -> None:
        self.visit = visit
        self.status: int | None = None
        self._scope = scope
        self._receive = receive
        self._send = send
        self._largest_body = largest_body
        self._size = 0
        self._body_pending = False
        self._waits_to_be_asked = False
        for name, value in scope["headers"]:
            if name == b"transfer-encoding":
                self._body_pending = True
            elif name == b"expect":
                self._waits_to_be_asked = True
            elif name == b"content-length" and value.isdigit():
                # A length of ten digits is too large without being read as a number.
                self._size = int(value[:10])
                self._body_pending = self._size > largest_body

    def refuse_at_the_door(self) -> None:
        """Refuse what need not be read to be refused."""
        if _STRANGE_PATH.search(self._scope.get("raw_path") or b""):
            raise RouteNotFound("No route has this path.")
        self._refuse_too_large()
        self._size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._body_pending = self._body_pending and message.get("more_body", False)
            self._refuse_too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._more_headers(message["headers"])]
            if self._body_pending:
                await self._hear_out()
        await self._send(message)

    async def _hear_out(self) -> None:
        """Let a caller who is nearly done finish: closed upon while it speaks, it hears no answer."""
        if self._waits_to_be_asked:
            return
        left = _HEARD_OUT_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEARD_OUT_SECONDS):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _refuse_too_large(self) -> None:
        if self._size > self._largest_body:
            raise BodyTooLarge(f"A body may have {self._largest_body} bytes.", limit=self._largest_body)

    def _more_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        more = [_NO_SNIFFING, (b"x-request-id", self.visit.request_id.encode())]
        more += [(name.encode(), value.encode("latin-1")) for name, value in self.visit.headers.items()]
        told = dict(headers)
        if self._scope["path"].startswith("/v1/") and b"cache-control" not in told:
            more.append(_NO_STORE)
        if told.get(b"content-type", b"").startswith(b"text/html") and b"content-security-policy" not in told:
            more.append(_HTML_POLICY)
        if self._body_pending or self._size > self._largest_body:
            # Of what is still to come no one knows how much it is: it is not waited for.
            more.append(_CLOSE)
        return more
