"""Gateways that trade tokens: one trade however many need it, and a stale token costs no one a refund."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from refund_service.gateways import tokens
from refund_service.gateways.answers import Misconfigured, NotSent, PreparedRequest, Token, Unknown
from refund_service.gateways.protocol import Account, Response, TradesTokens, offers
from refund_service.gateways.sandbox import SandboxGateway
from refund_service.gateways.send import Sender
from refund_service.gateways.tokens import EARLIER, TokenCabinet

WITHIN = timedelta(seconds=10)
ASK = PreparedRequest("POST", "/refunds", {}, b"{}")
ACCOUNT = Account(UUID(int=1), "bank", "https://bank.example", {}, {"secret": "s1"})


class Bank(SandboxGateway):
    """A gateway like the sandbox, but for its door."""

    name = "bank"

    def authorize(self, account: Account) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {account.token}"}

    def render_token(self, account: Account) -> PreparedRequest:
        return PreparedRequest("POST", "/token", {}, b"grant_type=client_credentials")

    def authorize_trade(self, account: Account) -> Mapping[str, str]:
        return {"Authorization": f"Basic {account.credentials['secret']}"}

    def read_token(self, response: Response) -> Token | NotSent | Unknown | Misconfigured:
        if response.status == 401:
            return Misconfigured("HTTP 401")
        if response.status == 429:
            return NotSent("HTTP 429", timedelta(seconds=7))
        told = json.loads(response.body)
        return Token(told["token"], timedelta(seconds=told["lasts"]))


class Door:
    """The bank's side: what it was asked, and which tokens and secrets it takes."""

    def __init__(self) -> None:
        self.trades: list[str] = []
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.lasts = 3600
        self.trade_status = 200
        self.sender = Sender(httpx.AsyncClient(transport=httpx.MockTransport(self._answer)))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        _, word = request.headers["authorization"].split()
        if request.url.path == "/token":
            self.trades.append(word)
            await asyncio.sleep(0)  # others come meanwhile
            told = {"token": f"t{len(self.trades)}", "lasts": self.lasts}
            return httpx.Response(self.trade_status, stream=httpx.ByteStream(json.dumps(told).encode()))
        self.asked.append(word)
        return httpx.Response(401 if word in self.refused else 200, stream=httpx.ByteStream(b"{}"))

    async def call(self, account: Account = ACCOUNT) -> Response | NotSent | Unknown | Misconfigured:
        return await self.sender.call(Bank(), account, ASK, time_limit=WITHIN)


@pytest.fixture
async def door() -> Door:
    return Door()


def test_such_a_gateway_says_so() -> None:
    assert isinstance(Bank(), TradesTokens)
    assert "tokens" in offers(Bank())
    assert "tokens" not in offers(SandboxGateway())


async def test_many_that_come_at_once_wait_for_one_trade(door: Door) -> None:
    replies = await asyncio.gather(*(door.call() for _ in range(50)))
    assert {reply.status for reply in replies if isinstance(reply, Response)} == {200}
    assert door.trades == ["s1"]
    assert door.asked == ["t1"] * 50


async def test_whoever_asked_first_and_is_cut_off_leaves_the_trade_to_the_others(door: Door) -> None:
    first, second = asyncio.create_task(door.call()), asyncio.create_task(door.call())
    while not door.trades:
        await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Response)
    assert door.trades == ["s1"]


async def test_a_token_is_renewed_before_it_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(tokens, "seconds", lambda: now)
    await door.call()
    now += door.lasts - EARLIER - 0.001
    await door.call()
    assert len(door.trades) == 1
    now += 0.001
    await door.call()
    assert len(door.trades) == 2


async def test_new_credentials_trade_a_token_of_their_own(door: Door) -> None:
    await door.call()
    await door.call(replace(ACCOUNT, credentials={"secret": "s2"}))
    assert door.trades == ["s1", "s2"]


async def test_a_token_that_is_not_taken_any_more_was_a_request_unread(door: Door) -> None:
    await door.call()
    door.refused.add("t1")
    assert isinstance(await door.call(), NotSent), "nothing happened: it goes again"
    reply = await door.call()
    assert isinstance(reply, Response)
    assert (reply.status, door.asked[-1]) == (200, "t2")


async def test_a_fresh_token_that_is_not_taken_is_for_the_adapter_to_read(door: Door) -> None:
    door.refused.update({"t1", "t2"})
    reply = await door.call()
    assert isinstance(reply, Response)
    assert reply.status == 401


async def test_the_late_word_about_an_old_token_takes_no_new_one_away() -> None:
    cabinet, traded = TokenCabinet(), iter([Token("t1"), Token("t2")])

    async def trade() -> Token:
        return next(traded)

    async def token() -> str | None:
        admitted = await cabinet.admit(ACCOUNT, trade)
        assert isinstance(admitted, tuple)
        return admitted[0].token

    assert await token() == "t1"
    for _ in range(2):  # two calls that had gone out with the first one
        cabinet.forget(replace(ACCOUNT, token="t1"))
        assert await token() == "t2"


@pytest.mark.parametrize(
    ("status", "comes_to"), [(401, Misconfigured), (429, NotSent), (500, NotSent), (200, NotSent)]
)
async def test_without_a_token_nothing_has_left(door: Door, status: int, comes_to: type) -> None:
    door.trade_status = status
    door.lasts = "no number"  # type: ignore[assignment]  # an answer that cannot be read
    assert isinstance(await door.call(), comes_to)
    assert door.asked == []


async def test_a_trade_that_failed_is_tried_anew_by_the_next_who_comes(door: Door) -> None:
    door.trade_status = 429
    assert await door.call() == NotSent("HTTP 429", timedelta(seconds=7))
    door.trade_status = 200
    assert isinstance(await door.call(), Response)


def test_no_token_shows_in_what_is_printed() -> None:
    assert "t1" not in repr(Token("t1")) + repr(replace(ACCOUNT, token="t1"))
