"""A line that fails as it is told to: before a gateway, PostgreSQL, or the API itself.

It listens on loopback and carries bytes to a target. Its fault may be changed at any moment;
leaving a fault aborts the connections that met it, so that no half-done exchange outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

CHUNK = 65536
DRIP = 64
"""Bytes that leave at a time on a slow line."""


class Fault(StrEnum):
    """What the line does with the bytes that it is given."""

    NONE = "none"
    # Connections are reset as soon as they are made: nothing of a request arrives.
    REFUSE = "refuse"
    # The first bytes of a request are taken, passed on to no one, and the connection is reset.
    RESET = "reset"
    # Nothing passes in either direction, and nothing is closed.
    BLACKHOLE = "blackhole"
    # Each piece of an answer waits ``seconds`` before it goes on.
    LATENCY = "latency"
    # An answer drips through, ``seconds`` between every few bytes.
    SLOW = "slow"
    # The request arrives and is acted on; the answer is lost.
    DROP_ANSWER = "drop_answer"
    # The same, after the first ``length`` bytes of the answer.
    CUT_ANSWER = "cut_answer"


class _Aborted(Exception):
    """The connection is no more."""


@dataclass(eq=False)
class _Line:
    """One connection: the caller's end and the target's."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    hit: bool = False

    def abort(self) -> None:
        for end in (self.near, self.far):
            if end is not None:
                end.transport.abort()


@dataclass(eq=False)
class FaultProxy:
    """Between callers and ``target``: a host and port, or the path of a Unix socket."""

    target: tuple[str, int] | str
    fault: Fault = Fault.NONE
    seconds: float = 0.02
    length: int = 20
    port: int = 0
    met: Counter[Fault] = field(default_factory=Counter)
    """How many connections each fault has hit."""
    on_request: Callable[[bytes], None] | None = None
    """Called right after bytes of a caller were passed on to the target."""
    _lines: set[_Line] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def before(cls, target: str) -> AsyncIterator[FaultProxy]:
        """Listening on a free port before the host that a URL names, until the block ends.

        The URL of a PostgreSQL on a Unix socket is known too: ``…?host=/folder&port=5432``.
        """
        proxy = cls(_address(target))
        server = await asyncio.start_server(proxy._carry, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.abort_all()
            await server.wait_closed()

    def instead(self, url: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        netloc = f"{login}@127.0.0.1:{self.port}" if login else f"127.0.0.1:{self.port}"
        return parts._replace(netloc=netloc, query="").geturl()

    def lead_to(self, target: str) -> None:
        """From now on carry to the host that this URL names."""
        self.target = _address(target)

    def turn(self, fault: Fault, *, seconds: float | None = None, length: int | None = None) -> None:
        """From now on fail like this; what met the fault before it is aborted."""
        self.seconds = self.seconds if seconds is None else seconds
        self.length = self.length if length is None else length
        if fault is not self.fault:
            self.fault = fault
            for line in [line for line in self._lines if line.hit]:
                line.abort()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @contextmanager
    def failing(
        self, fault: Fault, *, seconds: float | None = None, length: int | None = None
    ) -> Iterator[None]:
        """Fail like this for the time of the block."""
        self.turn(fault, seconds=seconds, length=length)
        try:
            yield
        finally:
            self.turn(Fault.NONE)

    def abort_all(self) -> None:
        """Reset every open connection on both sides."""
        for line in list(self._lines):
            line.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(writer)
        self._lines.add(line)
        try:
            if self.fault is Fault.REFUSE:
                self._hit(line)
                line.abort()
                return
            far_reader, line.far = await self._connect()
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(line, reader, line.far, answers=False))
                pumps.create_task(self._pump(line, far_reader, line.near, answers=True))
        except* (OSError, _Aborted):
            line.abort()
        finally:
            self._lines.discard(line)
            for end in (line.near, line.far):
                if end is not None:
                    end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _pump(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(CHUNK):
            while self.fault is Fault.BLACKHOLE:
                self._hit(line)
                await self._changed.wait()
            await (self._answer if answers else self._ask)(line, data)
        # The other direction may have more to say.
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _ask(self, line: _Line, data: bytes) -> None:
        if self.fault is Fault.RESET:
            self._hit(line)
            raise _Aborted
        assert line.far is not None
        await _write(line.far, data)
        if self.on_request is not None:
            self.on_request(data)

    async def _answer(self, line: _Line, data: bytes) -> None:
        match self.fault:
            case Fault.DROP_ANSWER:
                self._hit(line)
                raise _Aborted
            case Fault.CUT_ANSWER:
                self._hit(line)
                await _write(line.near, data[: self.length])
                raise _Aborted
            case Fault.LATENCY:
                self._hit(line)
                await asyncio.sleep(self.seconds)
            case Fault.SLOW:
                self._hit(line)
                for at in range(0, len(data), DRIP):
                    await _write(line.near, data[at : at + DRIP])
                    await asyncio.sleep(self.seconds)
                return
            case _:
                pass
        await _write(line.near, data)

    def _hit(self, line: _Line) -> None:
        if not line.hit:
            line.hit = True
            self.met[self.fault] += 1


async def _write(end: asyncio.StreamWriter, data: bytes) -> None:
    if end.is_closing():  # aborted meanwhile
        raise _Aborted
    end.write(data)
    await end.drain()


def _address(url: str) -> tuple[str, int] | str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if "host" in query:
        return f"{query['host']}/.s.PGSQL.{query['port']}"
    assert parts.hostname, url
    assert parts.port, url
    return parts.hostname, parts.port
