"""How long a client may keep a connection waiting: by asking slowly, or by not taking its answer.

One look at all connections each second, so that a request that comes in one piece pays for two
timestamps and no timer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from refund_service.api.listener import Listener, Part
from refund_service.api.problems import Problems
from refund_service.api.refusals import RequestTooSlow

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that clients are given."""

    request: float = 7.0
    """From the first byte of a request to the last of its body; and before the first byte."""
    answer: float = 10.0
    """For taking an answer that has been written, or 48 KiB of it."""
    look_every: float = 1.0


PATIENCE: Final = Patience()
"""As deployed. The worst of all, who is silent first and slow then, is closed upon after 15 seconds."""


def part_with_slow(connections: set[Listener], now: float, patience: Patience) -> Counter[str]:
    """Close upon every client that keeps us waiting; what was waited for, counted."""
    closed: Counter[str] = Counter()
    for connection in list(connections):
        if _answer_is_untaken(connection, now, patience):
            _drop(connection)
            closed["answer"] += 1
        elif _request_is_slow(connection, now, patience):
            closed[connection.part.value] += 1
            if connection.part is Part.NONE:
                # Nothing was asked: an answer would be taken for one to what is asked next.
                connection.transport.close()
            else:
                connection.refuse(RequestTooSlow(f"A request comes in within {patience.request:g} seconds."))
    return closed


def _drop(connection: Listener) -> None:
    # Without this, the kernel would go on to keep what the client does not take.
    wire: Any = connection.transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()


def _request_is_slow(connection: Listener, now: float, patience: Patience) -> bool:
    since = connection.asked_since
    return (
        since is not None
        and now - since > patience.request
        and not connection.owes_an_answer()
        and not connection.transport.is_closing()
    )


def _answer_is_untaken(connection: Listener, now: float, patience: Patience) -> bool:
    if connection.transport.get_write_buffer_size() == 0:
        connection.untaken_since = None
        return False
    if connection.untaken_since is None:
        connection.untaken_since = now
    return now - connection.untaken_since > patience.answer


class PatientServer(uvicorn.Server):
    """A server whose clients are given so long and no longer. Its signals are the process's own."""

    def __init__(
        self,
        app: ASGIApp,
        problems: Problems,
        *,
        patience: Patience = PATIENCE,
        dismiss: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=partial(Listener, problems=problems),  # type: ignore[arg-type] # called, never subclassed
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                # What a client says about who it is and where it comes from is not believed.
                proxy_headers=False,
                **options,
            )
        )
        self._patience = patience
        self._dismiss = dismiss

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; whoever waits for what comes of something is answered with what is known."""
        if self._dismiss is not None:
            # A client may wait for longer than a process that ends has. It is answered as soon as its
            # connection is marked as the last one, so that it sends nothing more on it.
            asyncio.get_running_loop().call_soon(self._dismiss)
        await super().shutdown(sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until ``should_exit``; who is slow is parted with to the end."""
        watching = asyncio.create_task(self._watch())
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are handled once for the whole process."""
        yield

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._patience.look_every)
            # Who has spoken while we were busy is heard before anyone is judged: a new connection
            # takes the loop three rounds from its acceptance to its first bytes.
            for _ in range(4):
                await asyncio.sleep(0)
            connections: Any = self.server_state.connections
            if closed := part_with_slow(connections, loop.time(), self._patience):
                _log.warning("clients.too_slow", **closed)
