"""Slow clients are parted with, everyone else is served (SEC-02). Limits are injected, clocks handed in."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from small_app import SmallApp, Wire, small_app

from refund_service.api.listener import Listener
from refund_service.api.patience import PATIENCE, Patience, part_with_slow

HOST = b"Host: here\r\n"
GET = b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n"
HALF_A_HEAD = b"POST /first HTTP/1.1\r\n" + HOST
HALF_A_BODY = HALF_A_HEAD + b"Content-Length: 10\r\n\r\nabc"
LIMIT = PATIENCE.request
MUCH = 250_000
"""More than a connection's buffers hold towards a client with a small window."""


@pytest.fixture
async def app() -> AsyncIterator[SmallApp]:
    """Looked over only when a test does so, by the test's own clock."""
    async with small_app(Patience(look_every=3600)) as opened:
        yield opened


async def the_connection(app: SmallApp) -> Listener:
    """The one there is, when it has been heard."""
    async with asyncio.timeout(20):
        while not app.connections:
            await asyncio.sleep(0.002)
    (connection,) = app.connections
    assert isinstance(connection, Listener)
    return connection


async def wait_until_closed(app: SmallApp) -> None:
    async with asyncio.timeout(20):
        while app.connections:
            await asyncio.sleep(0.002)


async def heard(app: SmallApp, part: str) -> float:
    """When the request began, once this part of it is coming in."""
    connection = await the_connection(app)
    async with asyncio.timeout(20):
        while connection.part.value != part:
            await asyncio.sleep(0.002)
    assert connection.asked_since is not None
    return connection.asked_since


def look(app: SmallApp, now: float, patience: Patience = PATIENCE) -> dict[str, int]:
    return dict(part_with_slow(app.connections, now, patience))


@pytest.mark.parametrize(("said", "part"), [(HALF_A_HEAD, "head"), (HALF_A_BODY, "body")])
async def test_a_request_has_its_time_and_not_one_tick_more(  # SEC-02
    app: SmallApp, said: bytes, part: str
) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(said)
        since = await heard(app, part)
        assert look(app, since + LIMIT) == {}
        assert look(app, since + LIMIT + 0.001) == {part: 1}
        answer = await wire.all_answers()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request-too-slow"' in answer
    assert b"\r\nconnection: close\r\n" in answer
    assert app.asked == []


async def test_who_is_slow_and_finishes_in_time_is_served(app: SmallApp) -> None:  # SEC-02
    async with Wire.to(app.port) as wire:
        wire.say(HALF_A_BODY)
        since = await heard(app, "body")
        assert look(app, since + LIMIT) == {}
        wire.say(b"defghij")
        assert await wire.answer() == (200, b"POST /first 10")
        # … and for the next request it has all of its time again.
        wire.say(HALF_A_HEAD)
        assert await heard(app, "head") > since


async def test_bytes_that_come_one_by_one_buy_no_time(app: SmallApp) -> None:  # SEC-02
    async with Wire.to(app.port) as wire:
        wire.say(HALF_A_HEAD)
        since = await heard(app, "head")
        wire.say(b"X-A: b\r\nContent-Length: 9\r\n\r\n1234")
        assert await heard(app, "body") == since


async def test_who_says_nothing_is_closed_upon_without_a_word(app: SmallApp) -> None:  # SEC-02
    async with Wire.to(app.port) as wire:
        since = (await the_connection(app)).asked_since
        assert since is not None
        assert look(app, since + LIMIT) == {}
        assert look(app, since + LIMIT + 0.001) == {"nothing": 1}
        assert await wire.all_answers() == b""


async def test_a_request_that_is_whole_may_be_answered_as_late_as_it_likes(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await app.begun.wait()
        # Line ends behind it, or half of the next request, do not cut its answer off.
        for said in (b"", b"\r\n", HALF_A_HEAD):
            wire.say(said)
            await asyncio.sleep(0.02)
            assert look(app, asyncio.get_running_loop().time() + 1e6) == {}
        app.go_on.set()
        assert await wire.answer() == (200, b"GET /wait 0")
        since = await heard(app, "head")
        assert look(app, since + LIMIT) == {}
        assert look(app, since + LIMIT + 0.001) == {"head": 1}
        assert (await wire.answer())[0] == 408


async def test_a_connection_that_is_kept_is_left_to_its_own_time(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(GET)
        await wire.answer()
        assert look(app, asyncio.get_running_loop().time() + 1e6) == {}
        # uvicorn's own clock stops at any byte; ours begins.
        wire.say(b"\r\n")
        connection = await the_connection(app)
        async with asyncio.timeout(20):
            while connection.asked_since is None:
                await asyncio.sleep(0.002)
        assert look(app, connection.asked_since + LIMIT + 0.001) == {"nothing": 1}
        assert await wire.all_answers() == b""


async def test_a_body_that_no_one_waits_for_any_more_does_not_keep_the_connection(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(HALF_A_BODY.replace(b"/first", b"/early"))
        assert await wire.answer() == (200, b"early")
        since = await heard(app, "body")
        assert look(app, since + LIMIT + 0.001) == {"body": 1}
        # It has had its answer; a second one would be taken for the next.
        assert await wire.all_answers() == b""
    async with Wire.to(app.port) as wire:
        wire.say(HALF_A_BODY.replace(b"/first", b"/early"))
        assert await wire.answer() == (200, b"early")
        await heard(app, "body")
        wire.say(b"defghij")
        since = await heard(app, "nothing")
        assert look(app, since + LIMIT + 0.001) == {"nothing": 1}
        assert await wire.all_answers() == b""


def reads_nothing(port: int) -> socket.socket:
    """A client with a small window that has asked for more than any buffer holds."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.connect(("127.0.0.1", port))
    wire.sendall(b"GET /first?%d HTTP/1.1\r\n" % MUCH + HOST + b"\r\n")
    return wire


async def untaken(app: SmallApp) -> Listener:
    connection = await the_connection(app)
    async with asyncio.timeout(20):
        while connection.transport.get_write_buffer_size() == 0:
            await asyncio.sleep(0.002)
    return connection


async def test_an_answer_waits_its_time_to_be_taken_and_not_one_tick_more(app: SmallApp) -> None:  # SEC-02
    with reads_nothing(app.port) as wire:
        await untaken(app)
        assert look(app, 1000.0) == {}
        assert look(app, 1000.0 + PATIENCE.answer) == {}
        assert look(app, 1000.0 + PATIENCE.answer + 0.001) == {"answer": 1}
        await wait_until_closed(app)
        # Reset, not ended: the kernel keeps nothing of it either.
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


async def test_a_long_answer_that_is_being_taken_goes_on(app: SmallApp) -> None:  # SEC-02
    with reads_nothing(app.port) as wire:
        connection = await untaken(app)
        assert look(app, 1000.0) == {}
        wire.setblocking(False)
        loop, taken = asyncio.get_running_loop(), 0
        async with asyncio.timeout(20):
            while connection.untaken_since is not None:
                taken += len(await loop.sock_recv(wire, 65536))
        # It took a piece in time: it has the whole of its time for the next.
        assert look(app, 1000.0 + PATIENCE.answer + 0.001) == {}
        while taken < MUCH:
            taken += len(await loop.sock_recv(wire, 65536))


SOON = Patience(request=0.5, answer=0.5, look_every=0.05)


@pytest.mark.parametrize("kind", ["silent", "head", "body", "read"])
async def test_300_slow_clients_are_parted_with_while_others_are_served(kind: str) -> None:  # SEC-02
    async with small_app(SOON) as app, AsyncExitStack() as stack:
        slow: list[Any] = []
        for _ in range(300):
            if kind == "read":
                slow.append(stack.enter_context(reads_nothing(app.port)))
            else:
                wire = await stack.enter_async_context(Wire.to(app.port))
                wire.say({"silent": b"", "head": HALF_A_HEAD, "body": HALF_A_BODY}[kind])
                slow.append(wire)

        served = 0
        async with asyncio.timeout(60):
            while served == 0 or app.connections:
                async with Wire.to(app.port) as other:
                    other.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                    assert await other.answer() == (200, b"GET /first 0")
                    served += 1

        expected = {"silent": b"", "head": b"HTTP/1.1 408", "body": b"HTTP/1.1 408"}
        if kind in expected:
            assert {(await wire.all_answers())[:12] for wire in slow} == {expected[kind]}
    assert served
