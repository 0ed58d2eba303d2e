"""What two readers may take in two ways is refused, and the connection closed: nothing behind it is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from small_app import SmallApp, Wire, small_app

from refund_service.api.listener import LARGEST_HEAD

HOST = b"Host: here\r\n"
POST = b"POST /first HTTP/1.1\r\n" + HOST
NEXT = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


@pytest.fixture
async def app() -> AsyncIterator[SmallApp]:
    async with small_app() as opened:
        yield opened


def refused(answers: bytes, status: int = 400, code: str = "request-unreadable") -> None:
    """One answer came, a problem that says so, on a connection that was then closed."""
    head, _, body = answers.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answers
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-type: application/problem+json" in head
    told = json.loads(body)
    assert (told["status"], told["code"]) == (status, code)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(POST + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n", id="a length and chunks"),
        pytest.param(POST + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n", id="chunks and a length"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="two lengths"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", id="one length twice"),
        pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", id="a list of lengths"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", id="a length with a sign"),
        pytest.param(POST + b"Content-Length: -3\r\n\r\nabc", id="a negative length"),
        pytest.param(POST + b"Content-Length: 0x3\r\n\r\nabc", id="a hexadecimal length"),
        pytest.param(POST + b"Content-Length: 99999999999999999999\r\n\r\nabc", id="a length past 64 bits"),
        pytest.param(POST + b"Content-Length: \r\n\r\n", id="no length where one is told"),
        pytest.param(POST + b"Content-Length : 3\r\n\r\nabc", id="a space before the colon"),
        pytest.param(POST + b"X-A: b\r\n Content-Length: 3\r\n\r\nabc", id="a folded header"),
        pytest.param(
            POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", id="a folded transfer coding"
        ),
        pytest.param(POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", id="chunked twice"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="nearly chunked"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked and another"
        ),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="another and chunked"),
        pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n", id="a coding that is none"),
        pytest.param(
            b"POST /first HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", id="chunks in HTTP/1.0"
        ),
        pytest.param(POST + CHUNKED + b"\r\n3\nabc\n0\n\n", id="chunks between bare line feeds"),
        pytest.param(POST + CHUNKED + b"\r\n3 \r\nabc\r\n0\r\n\r\n", id="a space behind a chunk's size"),
        pytest.param(POST + CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n", id="a chunk's size with a prefix"),
        pytest.param(POST + CHUNKED + b"\r\nffffffffffffffffff\r\nabc", id="a chunk's size past 64 bits"),
        pytest.param(POST + CHUNKED + b"\r\n0\r\nContent-Length: 3\r\n\r\n", id="a length behind the body"),
        pytest.param(POST + CHUNKED + b"\r\n0\r\nRefund-Actor: eve\r\n\r\n", id="any header behind the body"),
        pytest.param(b"GET /first HTTP/1.1\nHost: here\n\n", id="bare line feeds"),
        pytest.param(b"GET /first HTTP/1.1\r\nHost: here\nX-A: b\r\n\r\n", id="one bare line feed"),
        pytest.param(b"GET /first HTTP/1.1\r\nHost: here\rX-A: b\r\n\r\n", id="a bare carriage return"),
        pytest.param(b"GET /first HTTP/1.1\r\n" + HOST + b"X-A: a\0b\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET /first HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET /first HTTP/1.1\r\n" + HOST + HOST + b"\r\n", id="two hosts"),
        pytest.param(b"GET /fi rst HTTP/1.1\r\n" + HOST + b"\r\n", id="a space in the address"),
        pytest.param(b"GET /first#here HTTP/1.1\r\n" + HOST + b"\r\n", id="a fragment"),
        pytest.param(b"GET /first HTTP/2.0\r\n" + HOST + b"\r\n", id="another version"),
        pytest.param(POST + UPGRADE + b"Content-Length: 3\r\n\r\nabc", id="an upgrade with a body"),
        pytest.param(POST + UPGRADE + CHUNKED + b"\r\n0\r\n\r\n", id="an upgrade with chunks"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    app: SmallApp, raw: bytes
) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(raw + NEXT)
        refused(await wire.all_answers())
    assert app.asked == []


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (POST + b"Content-Length: 3\r\n\r\nabc", "POST /first 3"),
        (POST + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n", "POST /first 3"),
        (POST + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "POST /first 3"),
        (POST + CHUNKED + b"\r\n3;ext=1\r\nabc\r\n0\r\n\r\n", "POST /first 3"),
        (b"\r\nGET /first HTTP/1.1\r\n" + HOST + b"\r\n", "GET /first 0"),
        (b"GET http://elsewhere/first HTTP/1.1\r\n" + HOST + b"\r\n", "GET /first 0"),
        (b"GET /first HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", "GET /first 3"),
    ],
)
async def test_what_can_be_read_in_one_way_is_read_and_so_is_what_follows(
    app: SmallApp, raw: bytes, asked: str
) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(raw + NEXT)
        assert await wire.answer() == (200, asked.encode())
        assert await wire.answer() == (200, b"GET /smuggled 0")


async def test_it_matters_not_where_the_bytes_are_cut(app: SmallApp) -> None:
    raw = POST + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n" + NEXT
    async with Wire.to(app.port) as wire:
        for place in range(len(raw)):
            wire.say(raw[place : place + 1])
            await asyncio.sleep(0)
        assert await wire.answer() == (200, b"POST /first 3")
        assert await wire.answer() == (200, b"GET /smuggled 0")


async def test_an_upgrade_without_a_body_is_passed_over_and_nothing_behind_it_is_read(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(b"GET /first HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n" + NEXT)
        answers = await wire.all_answers()
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answers
    assert app.asked == ["GET /first 0"]


async def test_an_answer_that_is_owed_is_given_before_what_follows_is_refused(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(POST.replace(b"/first", b"/wait") + b"Content-Length: 3\r\n\r\nabc\x00\x01 no request")
        await app.begun.wait()
        app.go_on.set()
        answers = await wire.all_answers()
    # The 400 alone would tell the client that its refund had been refused.
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.endswith(b"POST /wait 3")


async def test_headers_behind_a_body_never_stand_among_those_before_it(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(POST + CHUNKED + b"\r\n3\r\nabc\r\n")
        await app.begun.wait()
        wire.say(b"0\r\nRefund-Actor: eve\r\n\r\n")
        refused(await wire.all_answers())
    assert app.gone == 1


def head_of(size: int) -> bytes:
    """A head whose line and headers have ``size`` bytes as the listener counts them."""
    names = b"/first" + b"hosthere" + b"x-filling"
    filling = b"a" * (size - len(names))
    return b"GET /first HTTP/1.1\r\n" + HOST + b"X-Filling: " + filling + b"\r\n\r\n"


async def test_the_largest_head_is_taken_and_one_byte_more_is_not(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        # As a whole: what the parser sees at once is counted without line ends and colons.
        wire.say(head_of(LARGEST_HEAD - 200))
        assert (await wire.answer())[0] == 200
        wire.say(head_of(LARGEST_HEAD + 1))
        refused(await wire.all_answers(), 431, "head-too-large")
    assert app.asked == ["GET /first 0"]


async def test_an_endless_head_is_not_listened_to(app: SmallApp) -> None:
    async with Wire.to(app.port) as wire:
        wire.say(b"GET /first HTTP/1.1\r\n" + HOST)
        with pytest.raises(ConnectionError):
            await go_on_and_on(wire)
    assert app.asked == []


async def go_on_and_on(wire: Wire) -> None:
    for _ in range(10_000):
        wire.say(b"X-A: " + b"a" * 1_000 + b"\r\n")
        await wire.writer.drain()
