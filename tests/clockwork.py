"""A house whose clock the test turns by hand, and a gateway that is played by a function."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

from house import House
from sqlalchemy import text

_BUSY = text("SELECT count(*) FROM jobs WHERE lease IS NOT NULL AND run_at > db_now()")
# What a worker that has given up on an account for a while leaves lying is not waited for.
_TO_DO = text(
    "SELECT count(*) FROM jobs WHERE lease IS NOT NULL"
    " OR run_at <= db_now() AND lane <> ALL(CAST(:in_closed AS uuid[]))"
)


@dataclass
class Clock:
    """The database's clock of a house. It goes by itself too, and it is never put back."""

    house: House
    ahead: float = 0.0

    async def turn(self, **ahead: float) -> None:
        """Put it ahead, and return when the worker has done all that has become due."""
        await self._until_none(_BUSY)  # a clock that jumps would end the leases of work in flight
        self.ahead += timedelta(**ahead).total_seconds()
        await self.house.turn_clock(seconds=self.ahead)
        await self.work()

    async def jump(self, **ahead: float) -> None:
        """Put it ahead whatever is in flight: leases end."""
        self.ahead += timedelta(**ahead).total_seconds()
        await self.house.turn_clock(seconds=self.ahead)

    async def work(self) -> None:
        """Return when nothing is due and nothing is being worked on."""
        await self._until_none(
            _TO_DO, lambda: {"closed": list(self.house.desk.breaker.closed_to(self.house.desk.seconds()))}
        )

    def mend(self, account_id: UUID) -> None:
        """Let the circuit breaker forget what it holds against an account: it goes by real time."""
        self.house.desk.breaker.record(account_id, ok=True, now=self.house.desk.seconds())

    async def _until_none(self, statement: Any, binds: Callable[[], dict[str, Any]] = dict) -> None:
        async with asyncio.timeout(60):
            while await self.house.parts.db.value(statement, **binds()):
                if self.house.worker is not None:
                    self.house.worker.wake()
                await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Asked:
    """A request as it reached a played gateway."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    content: bytes

    @property
    def is_send(self) -> bool:
        return self.method == "POST"

    @property
    def key(self) -> str:
        """The idempotency key of a send."""
        return self.headers["idempotency-key"]

    @property
    def body(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.content)
        return told


Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]
Play = Callable[[Asked], "Awaitable[Reply | None] | Reply | None"]

NOTHING_THERE: Reply = (200, {"data": []})


@dataclass
class PlayedGateway:
    """Speaks the sandbox's words on a real socket and answers as ``play`` says; ``None`` hangs up.

    Takes the place of a sandbox in ``House.new_shop``.
    """

    play: Play
    base_url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    """How many were made to it."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def sends(self) -> list[Asked]:
        """Every request for a refund that arrived."""
        return [asked for asked in self.asked if asked.is_send]

    @property
    def look_ups(self) -> int:
        return len(self.asked) - len(self.sends)

    def new_account(self) -> str:
        return f"acct_{uuid4().hex}"

    def shown(self, send: Asked, status: str = "succeeded", **other: Any) -> dict[str, Any]:
        """The refund that a send asks for, as this gateway shows it."""
        asked = send.body
        told = {name: asked[name] for name in ("payment", "amount", "currency", "reference")}
        return {"id": f"sbr_{send.key}", "status": status, "failure_code": None, **told, **other}

    def found(self, status: str = "succeeded", **other: Any) -> Reply:
        """A look-up's answer that finds what the first send asked for."""
        return 200, {"data": [self.shown(self.sends[0], status, **other)]}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        asked = Asked(method, url.path, query, headers, content)
        self.asked.append(asked)
        reply = self.play(asked)
        if reply is not None and not isinstance(reply, tuple):
            reply = await reply
        if reply is None:
            return False
        status, told, *more = reply
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        lines = [f"HTTP/1.1 {status} told", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (more[0] if more else {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return True

    @asynccontextmanager
    async def open(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[PlayedGateway]:
        """Listening until the block ends: on a free port where none is named."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", port, ssl=tls)
        self.base_url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await server.wait_closed()
