"""Merchants' backends as good clients: they ask again under the same key until they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx
from httpx_aiohttp import AiohttpTransport

from chaos.checker import Checker
from chaos.deployment import Member
from chaos.history import Exchange, History, Outcome
from chaos.script import Intent, Kind, Operation, Script

PATIENCE: Final = 5.0
"""Seconds for an answer."""

TRIES: Final = 8
LONGEST_PAUSE: Final = 1.0


@dataclass
class Feed:
    """The events as one who follows them has seen them: a place in the feed, and what lay before it."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, as often as it takes."""

    kind: Kind
    method: str
    path: str
    intent: Intent | None = None
    key: str | None = None
    body: dict[str, Any] | None = None
    wait: int = 0
    alone: bool = True
    """The client has no other request out."""

    def headers(self) -> dict[str, str]:
        key = {"Idempotency-Key": self.key} if self.key is not None else {}
        return key | ({"Prefer": f"wait={self.wait}"} if self.wait else {})


def http_client(key: str) -> httpx.AsyncClient:
    """With the cheaper transport: there are sixteen of them, and the machine is the service's."""
    return httpx.AsyncClient(
        transport=AiohttpTransport(trust_env=False, verify=False),  # all is loopback, without TLS
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=PATIENCE,
    )


class Client:
    """One client: it does what its script says, one operation after the other."""

    def __init__(
        self,
        number: int,
        doors: Sequence[Member],
        key: str,
        *,
        history: History,
        checker: Checker,
        feed: Feed,
    ) -> None:
        self._number, self._doors, self._next = number, doors, number
        self._history, self._checker, self._feed = history, checker, feed
        self._ids: dict[str, str] = {}
        self._enough = False
        self._http = http_client(key)

    async def follow(self, script: Script) -> None:
        """Until it is enough."""
        for operation in script.operations():
            if self._enough:
                return
            await self._do(operation)

    def enough(self) -> None:
        """Begin nothing new."""
        self._enough = True

    async def close(self) -> None:
        await self._http.aclose()

    async def _do(self, operation: Operation) -> None:
        match operation.kind:
            case Kind.CREATE:
                asked = [intent for intent in operation.intents for _ in range(1 + operation.twice)]
                alone = len(asked) == 1
                await asyncio.gather(
                    *(self._create(intent, Kind.CREATE, wait=operation.wait, alone=alone) for intent in asked)
                )
            case Kind.REPLAY:
                await self._create(operation.intents[0], Kind.REPLAY)
            case Kind.LIST:
                path = f"/v1/refunds?outcome={operation.outcome}&limit=20"
                await self._insist(Request(Kind.LIST, "GET", path))
            case Kind.FEED:
                await self._read_on()
            case kind:
                intent = operation.intents[0]
                if id_ := self._ids.get(intent.key):  # of the others there is nothing to ask
                    await self._about(kind, intent, f"/v1/refunds/{id_}")

    async def _create(self, intent: Intent, kind: Kind, *, wait: int = 0, alone: bool = True) -> None:
        asked = Request(kind, "POST", "/v1/refunds", intent, intent.key, intent.body(), wait, alone)
        reply = await self._insist(asked)
        if reply.outcome is Outcome.OK:
            self._ids[intent.key] = reply.told["id"]

    async def _about(self, kind: Kind, intent: Intent, path: str) -> None:
        """To a refund that was acknowledged, at ``path``."""
        # A key for each life: a second retry is another request than the first.
        key = f"{intent.key}-{kind}-{self._history.counts.total()}"
        match kind:
            case Kind.OTHER_BODY:
                other = intent.body() | {"amount": 1 + (intent.amount or 0)}
                await self._insist(Request(kind, "POST", "/v1/refunds", intent, intent.key, other))
            case Kind.GET:
                await self._insist(Request(kind, "GET", path, intent))
            case Kind.CANCEL:
                await self._insist(Request(kind, "POST", f"{path}/cancel", intent, key))
            case Kind.RETRY:
                relabel = Request(Kind.RELABEL, "PATCH", path, intent, body={"metadata": {}})
                await self._insist(relabel)
                await self._insist(Request(kind, "POST", f"{path}/retry", intent, key))
            case Kind.REFRESH:
                await self._insist(Request(kind, "POST", f"{path}/refresh", intent))
            case _:
                raise ValueError(kind)

    async def _read_on(self) -> None:
        async with self._feed.reading:
            since = f"&cursor={self._feed.cursor}" if self._feed.cursor else ""
            reply = await self._insist(Request(Kind.FEED, "GET", f"/v1/events?limit=100{since}"))
            if reply.outcome is Outcome.OK:
                self._feed.seen += reply.told["data"]
                self._feed.cursor = reply.told["next_cursor"]

    async def _insist(self, request: Request) -> Exchange:
        """Ask until there is an answer: the same request, the same key, at the next process."""
        pause = 0.05
        for _ in range(TRIES):
            exchange = await self._exchange(request)
            if not _ask_again(exchange):
                break
            await asyncio.sleep(min(float(exchange.retry_after or 0) or pause, LONGEST_PAUSE))
            pause *= 2
        return exchange

    async def _exchange(self, request: Request) -> Exchange:
        door, error = self._door(), None
        exchange = self._history.ask(
            self._number,
            request.kind,
            door.name,
            request.intent,
            request=f"{request.method} {request.path}",
            body=request.body,
            alone=request.alone,
        )
        try:
            reply = await self._http.request(
                request.method, f"{door.url}{request.path}", json=request.body, headers=request.headers()
            )
            exchange.status = reply.status_code
            exchange.told = reply.json()
            exchange.retry_after = reply.headers.get("retry-after")
            exchange.outcome = _outcome(reply.status_code)
        except httpx.TransportError as failure:
            # It may have happened, whatever kind of failure the library takes it for.
            exchange.outcome, error = Outcome.INFO, type(failure).__name__
        self._history.answer(exchange, error=error)
        self._checker.answered(exchange)
        return exchange

    def _door(self) -> Member:
        """The next process that serves, as a load balancer would choose it; any where none does."""
        self._next += 1
        serving = [door for door in self._doors if door.up.is_set()] or self._doors
        return serving[self._next % len(serving)]


def _outcome(status: int) -> Outcome:
    if status < HTTPStatus.BAD_REQUEST:
        return Outcome.OK
    return Outcome.FAIL if status < HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.INFO


def _ask_again(exchange: Exchange) -> bool:
    """Whether the answer is still to come: no connection, no answer, not now, or still running."""
    if exchange.status is None or exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return True
    return exchange.status == HTTPStatus.CONFLICT and exchange.told.get("retryable") is True
