"""The line that fails as it is told to is itself tried, or a test behind it might try nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fault_proxy import Fault, FaultProxy

from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database, DatabaseOptions

ANSWER = b"answer:" + b"x" * 300


class Target:
    """Answers each line that it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(ANSWER)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def exchange(proxy: FaultProxy, within: float = 2.0) -> bytes | None:
    """What comes back for one line; ``None`` where nothing came in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    told = b""
    try:
        writer.write(b"asked\n")
        async with asyncio.timeout(within):
            while len(told) < len(ANSWER) and (more := await reader.read(1000)):
                told += more
    except ConnectionError:
        pass
    except TimeoutError:
        return None
    finally:
        writer.close()
    return told


@pytest.mark.parametrize(
    ("fault", "came_back", "arrived"),
    [
        (Fault.NONE, ANSWER, True),
        (Fault.REFUSE, b"", False),
        (Fault.RESET, b"", False),
        (Fault.BLACKHOLE, None, False),
        (Fault.LATENCY, ANSWER, True),
        (Fault.SLOW, ANSWER, True),
        (Fault.DROP_ANSWER, b"", True),
        (Fault.CUT_ANSWER, ANSWER[:20], True),
    ],
)
async def test_each_fault_does_what_its_name_says(
    fault: Fault, came_back: bytes | None, arrived: bool
) -> None:
    target = Target()
    async with target.open() as url, FaultProxy.before(url) as proxy:
        with proxy.failing(fault):
            assert await exchange(proxy, within=0.3) == came_back
        assert bool(target.heard) is arrived
        assert proxy.met == ({} if fault is Fault.NONE else {fault: 1})
        assert await exchange(proxy) == ANSWER, "what comes after the fault is whole again"


async def test_a_database_is_reached_through_it(postgres: EmbeddedServer) -> None:
    url = postgres.url_of("postgres")
    async with FaultProxy.before(url) as proxy:
        db = Database.connect(DatabaseOptions(proxy.instead(url)))
        assert await db.missing_limits() == []
        await db.close()
