"""A small application behind the deployed listener, and raw connections to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from refund_service.api.patience import PATIENCE, Patience, PatientServer
from refund_service.api.problems import Problems


@dataclass
class SmallApp:
    """Tells what it was asked: ``POST /path 3`` for a body of three bytes. ``/wait`` waits for ``go_on``."""

    asked: list[str] = field(default_factory=list)
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gone: int = 0
    server: PatientServer = field(init=False)
    port: int = 0

    @property
    def connections(self) -> Any:
        return self.server.server_state.connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        if scope["path"] == "/early":
            await self._answer(send, b"early")
            return
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
            if not message["more_body"]:
                break
        else:
            self.gone += 1
            return
        self.asked.append(f"{scope['method']} {scope['path']} {size}")
        self.headers.append(scope["headers"])
        if scope["path"] == "/wait":
            await self.go_on.wait()
        much = b"." * int(scope["query_string"] or 0)
        await self._answer(send, self.asked[-1].encode() + much)

    async def _answer(self, send: Send, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def small_app(patience: Patience = PATIENCE) -> AsyncIterator[SmallApp]:
    """The application on a port of its own."""
    app = SmallApp()
    app.server = PatientServer(app, Problems("https://refunds.example"), patience=patience)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        # Small, so that an answer which is not taken soon stands in our own buffer.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        app.port = listener.getsockname()[1]
        listener.setblocking(False)
        serving = asyncio.create_task(app.server.serve([listener]))
        while not app.server.started:
            await asyncio.sleep(0.005)
        yield app
        app.go_on.set()
        app.server.should_exit = app.server.force_exit = True
        await serving


class Wire:
    """A client that says what bytes it likes, when it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Wire]:
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            yield wire
        finally:
            wire.writer.close()

    def say(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def answer(self) -> tuple[int, bytes]:
        """The next answer's status and body."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)

    async def all_answers(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(20):
            return await self.reader.read()
