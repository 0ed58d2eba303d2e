"""A worker and an API that end, or freeze, at a named point of their work.

They are put together from the same parts as ``serve`` and ``work``; only the database and the way out
to the gateways are ones that know the point. The product itself has no such points.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from house import listening
from sqlalchemy import Executable

from refund_service.app import build_desk, build_worker, put_together
from refund_service.db.engine import Database, Row
from refund_service.gateways.send import Sender, make_client
from refund_service.jobs import queue
from refund_service.refunds import creation, record, submit
from refund_service.settings import read_settings


class Point(StrEnum):
    """Where it happens."""

    CREATED = "after the commit of a new refund, before the answer"
    CLAIMED = "after the claim of the job"
    MARKED = "after the commit of the sending mark"
    BEFORE_CONNECT = "before the gateway is connected to"
    WRITTEN = "after the request was written"
    ANSWER_READ = "after the answer was read, before it is understood"
    BEFORE_RESULT = "before the result is written down"
    RESULT_WRITTEN = "after the commit of the result"
    LOOKING_UP = "while the gateway is asked after it"


_CREATES = tuple(creation.CREATE.values())
_MARKS = tuple(submit._SUBMIT.values())
_RESULTS = (record._AND_END, record._AND_WAIT, record._AND_GO_ON)


def _among(statement: Executable, statements: Sequence[Executable]) -> bool:
    return any(statement is one for one in statements)


@dataclass
class Doom:
    """What happens at ``point`` once ``wanted`` refunds have come there; they wait for each other."""

    point: Point
    number: signal.Signals
    wanted: int
    _arrived: int = 0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def meet(self, point: Point, how_many: int = 1) -> None:
        """A refund is at ``point``."""
        if point is not self.point or self._over.is_set():
            return
        self._arrived += how_many
        if self._arrived < self.wanted:
            await self._over.wait()
            return
        self._over.set()
        say("doomed")
        os.kill(os.getpid(), self.number)


class DoomedDatabase(Database):
    doom: Doom

    async def rows(self, statement: Executable, /, **binds: Any) -> Sequence[Row]:
        found = await super().rows(statement, **binds)
        if statement is queue._CLAIM and (refunds := [row for row in found if row["name"] == "refund"]):
            await self.doom.meet(Point.CLAIMED, len(refunds))
        return found

    async def write(self, statement: Executable, /, **binds: Any) -> Row:
        if _among(statement, _RESULTS):
            await self.doom.meet(Point.BEFORE_RESULT)
        told = await super().write(statement, **binds)
        if _among(statement, _CREATES):
            await self.doom.meet(Point.CREATED)
        if _among(statement, _MARKS):
            await self.doom.meet(Point.MARKED)
        if _among(statement, _RESULTS):
            await self.doom.meet(Point.RESULT_WRITTEN)
        return told


class DoomedSender(Sender):
    doom: Doom

    async def call(self, gateway: Any, account: Any, request: Any, **more: Any) -> Any:
        is_send = request.method == "POST"
        if is_send:
            await self.doom.meet(Point.BEFORE_CONNECT)
        reply = await super().call(gateway, account, request, **more)
        await self.doom.meet(Point.ANSWER_READ if is_send else Point.LOOKING_UP)
        return reply


async def live(point: str, number: int, wanted: int) -> None:
    """An API at the points of one, a worker at all others, until SIGTERM."""
    doom = Doom(Point(point), signal.Signals(number), wanted)
    parts = put_together(read_settings())
    db = DoomedDatabase(parts.db._engine)
    sender = DoomedSender(make_client())
    db.doom = sender.doom = doom
    parts = replace(parts, db=db)
    if doom.point is Point.CREATED:
        await _serve(parts)
    else:
        worker = build_worker(parts, build_desk(parts, sender))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        say("started")
        await worker.run()
    await sender.close()
    await db.close()


async def _serve(parts: Any) -> None:
    with listening(parts, None) as (server, listener, url):

        def stop() -> None:
            server.should_exit = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        serving = asyncio.create_task(server.serve([listener]))
        say("started", api=url)
        await serving


def say(event: str, **more: Any) -> None:
    """As the service's log says it."""
    print(json.dumps({"event": event} | more), flush=True)  # noqa: T201 - a process speaks by printing
