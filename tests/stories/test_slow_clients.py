"""What is deployed, with its own limits, against clients that mean to keep it busy with nothing."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from urllib.parse import urlsplit

from house import House, Process, Shop, client_of

KIND = 300
"""Clients of each kind."""
AT_MOST = 15.0
"""Seconds that any of them may keep its connection."""

HEAD = b"POST /v1/refunds HTTP/1.1\r\nHost: here\r\n"


async def trickle(port: int, begin: bytes, piece: bytes) -> bytes:
    """Say a little each second, for ever; what came back until the other side closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(reader.read())
    try:
        writer.write(begin)
        while not (await asyncio.wait([answer], timeout=1))[0]:
            writer.write(piece)
        # A piece that crossed with the close takes the answer with it.
        with contextlib.suppress(ConnectionError):
            return await answer
        return b""
    finally:
        writer.close()


async def ask_and_not_read(port: int) -> bytes:
    """Ask for much and take nothing of it, until the other side gives up."""
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", port))
        wire.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: here\r\n\r\n")
        hung_up = select.poll()
        hung_up.register(wire, 0)
        while not hung_up.poll(0):
            await asyncio.sleep(0.1)
    return b""


@contextlib.asynccontextmanager
async def deployed(house: House, start_process: Callable[..., Process]) -> AsyncIterator[str]:
    url = house.parts.settings.database_url
    assert url is not None
    api = start_process(
        "serve",
        "--no-worker",
        environment={
            "REFUND_DATABASE_URL": url.get_secret_value(),
            "REFUND_PORT": "0",
            "REFUND_OPS_PORT": "-1",
            "REFUND_RATE_LIMIT": "100000",
            "REFUND_RATE_BURST": "100000",
        },
    )
    told = await asyncio.to_thread(api.until_event, "started")
    yield told["api"]


async def test_slow_clients_are_gone_within_15_seconds_and_others_are_served_meanwhile(  # SEC-02
    house: House, shop: Shop, start_process: Callable[..., Process]
) -> None:
    payment = await shop.pay()
    await shop.stop_sends()
    async with deployed(house, start_process) as url, client_of(url, shop.key) as client:
        port = urlsplit(url).port
        assert port is not None
        loop = asyncio.get_running_loop()
        lasted: list[float] = []

        async def timed(slow: Coroutine[None, None, bytes]) -> bytes:
            began = loop.time()
            told = await slow
            lasted.append(loop.time() - began)
            return told

        key = b"Authorization: Bearer " + shop.key.encode() + b"\r\n"
        body = HEAD + key + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        heads = [asyncio.create_task(timed(trickle(port, HEAD, b"X-A: b\r\n"))) for _ in range(KIND)]
        bodies = [asyncio.create_task(timed(trickle(port, body, b" "))) for _ in range(KIND)]
        readers = [asyncio.create_task(timed(ask_and_not_read(port))) for _ in range(KIND)]

        # Its request is whole: however long it waits for the gateway, it is not slow.
        waits = asyncio.create_task(shop.ask(payment, 1250, wait=10, client=client))
        slow = asyncio.gather(*heads, *bodies, *readers)
        statuses = set()
        async with asyncio.timeout(60):
            while not slow.done():
                statuses.add((await client.get("/v1/me")).status_code)
        answers = await slow

        assert statuses == {200}
        assert len(lasted) == 3 * KIND
        assert max(lasted) <= AT_MOST
        told = {answer.partition(b"\r\n")[0] for answer in answers if answer}
        assert told == {b"HTTP/1.1 408 Request Timeout"}
        reply = await waits
        assert (reply.status_code, reply.json()["status"]) == (201, "queued")
        assert reply.headers["preference-applied"] == "wait=10"
