"""A client that costs little: ready-made requests over kept connections, one in flight on each.

Run as a process of its own, so that its CPU is not counted with the service's:
``python -m bench.load`` reads one order as JSON from stdin and prints what came of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict, cast
from urllib.parse import urlsplit

import uvloop


@dataclass
class Run:
    """One run: what is left to ask, and what was answered."""

    requests: Iterator[bytes]
    took: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


class Connection(asyncio.Protocol):
    """Sends the next request as soon as an answer is whole."""

    def __init__(self, run: Run, done: asyncio.Future[None]) -> None:
        self._run = run
        self._done = done
        self._heard = b""
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, blank, body = self._heard.partition(b"\r\n\r\n")
        if not blank:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._run.took.append(time.perf_counter() - self._since)
        self._run.statuses[int(head[9:12])] += 1
        self._heard = body[length:]
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the service hung up"))

    def _ask(self) -> None:
        request = next(self._run.requests, None)
        if request is None:
            self._done.set_result(None)
            self._transport.close()
            return
        self._since = time.perf_counter()
        self._transport.write(request)


class Order(TypedDict):
    """What is to be asked, of whom, and by how many at once."""

    urls: list[str]
    clients: int
    requests: list[str]


async def drive(order: Order) -> dict[str, object]:
    """Send every request of the order over so many connections."""
    urls, clients = order["urls"], order["clients"]
    run = Run(request.encode("latin-1") for request in order["requests"])
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    ends = []
    for number in range(clients):
        address = urlsplit(urls[number % len(urls)])
        done: asyncio.Future[None] = loop.create_future()
        ends.append(done)
        host, port = address.hostname or "", address.port or 80
        await loop.create_connection(partial(Connection, run, done), host, port)
    await asyncio.gather(*ends)
    return {
        "seconds": time.perf_counter() - began,
        "statuses": dict(run.statuses),
        "took": sorted(run.took),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(drive(json.load(sys.stdin)))))
