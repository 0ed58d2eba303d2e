"""What comes in over a connection, before it is a request: read strictly, and timed.

uvicorn's own reader takes what proxies and servers read in two ways (a body behind ``Upgrade``, two
``Host`` headers, trailers), has no limit on a head, says its refusals in plain text, and says them
in the place of an answer that it still owes. Whoever keeps a connection waiting is judged in
``patience.py``; here are only the marks that it goes by.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from refund_service.api.problems import Problems
from refund_service.api.refusals import EdgeError, HeadTooLarge, RequestUnreadable

LARGEST_HEAD: Final = 32 * 1024
"""Bytes of the request line and the headers together."""

_VERSIONS: Final = frozenset({"1.0", "1.1"})


class Part(Enum):
    """Which part of a request is coming in."""

    NONE = "nothing"
    HEAD = "head"
    BODY = "body"


class Listener(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, *, config: uvicorn.Config, server_state: ServerState, problems: Problems, **more: Any
    ) -> None:
        super().__init__(config, server_state, **more)
        self.part = Part.NONE
        self.asked_since: float | None = None
        """Since when we have listened for a request and not had it whole."""
        self.untaken_since: float | None = None
        """Since when a part of an answer has been waiting for the client to take it."""
        self._problems = problems
        self._head_size = 0
        self._refusal: EdgeError | None = None

    def owes_an_answer(self) -> bool:
        """Whether a request has come in whole and has not been answered."""
        cycle = self.cycle
        return bool(self.pipeline) or (
            cycle is not None and not cycle.response_complete and not cycle.more_body
        )

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.asked_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.part is Part.HEAD:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                self.refuse(_head_too_large())
        elif self.asked_since is None and (self.cycle is None or self.cycle.response_complete):
            # Line ends before a request, or the end of a body whose answer went out before it: no request
            # has begun, and yet these bytes have stopped uvicorn's clock.
            self.asked_since = self.loop.time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.part, self._head_size = Part.HEAD, 0
        self.asked_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self._refusal = self._judge_head()
        if self._refusal is not None:
            raise self._refusal
        super().on_headers_complete()
        self.part = Part.BODY
        # Trailers must not be found among the headers: whoever checked those did not see them.
        self.headers = []
        if self.parser.should_upgrade():
            # What follows is not read as HTTP any more.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self.headers:
            self._refusal = RequestUnreadable("Headers behind a body are not read.")
            raise self._refusal
        super().on_message_complete()
        self.part, self.asked_since = Part.NONE, None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.asked_since is not None:
            # What comes in behind a request is not listened to until that is answered.
            self.asked_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        # A long answer is being taken, piece by piece.
        self.untaken_since = None

    def send_400_response(self, msg: str) -> None:
        """Where uvicorn says in plain text that it cannot read on."""
        self.refuse(self._refusal or RequestUnreadable(msg))

    def refuse(self, refusal: EdgeError) -> None:
        """Say no where it can still be said, and close the connection."""
        if self.transport.is_closing():
            return
        if self.owes_an_answer():
            # It would be taken for the answer to the request before. That one is given, then we close.
            self.cycle.keep_alive = False
            return
        if self.part is not Part.BODY or not self.cycle.response_started:
            self._say(refusal)
        self.transport.close()

    def _say(self, refusal: EdgeError) -> None:
        scope: Any = self.scope if self.part is not Part.NONE else {"headers": [], "state": {}}
        answer = self._problems.answer(scope, refusal)
        lines = [STATUS_LINE[answer.status_code]]
        for name, value in (*self.server_state.default_headers, *answer.raw_headers):
            lines += [name, b": ", value, b"\r\n"]
        lines += [b"connection: close\r\n\r\n", bytes(answer.body)]
        self.transport.write(b"".join(lines))

    def _judge_head(self) -> EdgeError | None:
        """What is wrong with a head that the parser takes and that another reader may take in another way."""
        size, hosts, codings, length = _measure(self.headers)
        version = self.parser.get_http_version()
        if size + len(self.url) > LARGEST_HEAD:
            return _head_too_large()
        if version not in _VERSIONS:
            return RequestUnreadable("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            return RequestUnreadable(f"A request has one header Host; this one has {hosts}.")
        if codings > 1 or (codings and version == "1.0"):
            return RequestUnreadable("Of transfer codings only chunked is read, in HTTP/1.1.")
        if b"#" in self.url:
            return RequestUnreadable("A fragment is not part of an address that is asked for.")
        if self.parser.should_upgrade() and (codings or length != b"0"):
            return RequestUnreadable("A request with a body cannot ask for another protocol.")
        return None


def _measure(headers: list[tuple[bytes, bytes]]) -> tuple[int, int, int, bytes]:
    """The size of the headers, how many of them are hosts and transfer codings, and the body's length."""
    size, hosts, codings, length = 0, 0, 0, b"0"
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            # Any other coding counts as one too many.
            codings += 1 if value.lower() == b"chunked" else 2
        elif name == b"content-length":
            length = value
    return size, hosts, codings, length


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"Request line and headers may have {LARGEST_HEAD} bytes.", limit=LARGEST_HEAD)
