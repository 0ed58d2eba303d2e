"""The one place that calls a gateway: a request leaves once, and what became of it is told in full.

What matters is which failures are certain. A request that never got a connection did nothing and
may go again; from the first byte on, silence, a reset or half an answer say nothing about the
money. So "not sent" is a short list of proofs, and whatever is not on it is unknown.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, assert_never

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from httpx_aiohttp import AiohttpTransport

from refund_service import __version__
from refund_service.gateways.answers import (
    Accepted,
    Answer,
    CannotTell,
    Finding,
    Found,
    Misconfigured,
    NotSent,
    Unknown,
)
from refund_service.gateways.protocol import (
    Account,
    PreparedRequest,
    RefundCommand,
    RefundGateway,
    RefundProbe,
    Response,
)

LARGEST_ANSWER: Final = 1024 * 1024
"""In bytes; a refund fits in a few thousand."""

CONNECT_WITHIN: Final = timedelta(seconds=5)
"""For a place in the pool, name, connection and TLS together: after it nothing has left."""

KEPT_ALIVE: Final = 5.0
"""Seconds an idle connection is kept. Every reuse of one that the gateway has just closed is an
unknown outcome, so we let go well before gateways and load balancers do."""

LEAVES_ONCE: Final = frozenset({"POST", "PATCH"})
"""aiohttp repeats the other methods by itself when a kept connection drops under them."""

_BEFORE_SENDING: Final = (
    aiohttp.ClientConnectorError,  # name, connection, TLS, certificate
    aiohttp.ConnectionTimeoutError,  # the same, and a place in the pool
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)


def make_client(
    *,
    connections: int = 128,
    connections_per_host: int = 64,
    tls: ssl.SSLContext | None = None,
    resolver: AbstractResolver | None = None,
) -> httpx.AsyncClient:
    """The HTTP client for gateways: bounded, without redirects, cookies or the environment's proxies."""
    context = tls or httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        # Made at the first call, because it belongs to the running loop.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=connections,
                limit_per_host=connections_per_host,
                keepalive_timeout=KEPT_ALIVE,
                resolver=resolver,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    return httpx.AsyncClient(
        transport=AiohttpTransport(verify=context, trust_env=False, client=session),
        timeout=httpx.Timeout(CONNECT_WITHIN.total_seconds()),
        # One client serves many merchants: a gateway's cookie for one must not reach another.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        # Packed answers could not be bounded before they are unpacked.
        headers={"Accept-Encoding": "identity", "User-Agent": f"refund-service/{__version__}"},
        follow_redirects=False,
        trust_env=False,
    )


class Sender:
    """Sends prepared requests and reads the answers."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()

    async def call(
        self, gateway: RefundGateway, account: Account, request: PreparedRequest, *, time_limit: timedelta
    ) -> Response | NotSent | Unknown | Misconfigured:
        """Send the request once, with the account's credentials, and read the answer.

        ``Misconfigured`` is a request that could not even be put together. A cancelled task gets
        its ``CancelledError``: the caller has to take the outcome for unknown.
        """
        # Half of a short limit: so that a host that swallows connections is told from one that
        # has our request and keeps silent.
        connect = min(CONNECT_WITHIN, time_limit / 2).total_seconds()
        read = time_limit.total_seconds()
        try:
            prepared = self._client.build_request(
                request.method,
                _url(account.base_url, request.path),
                headers=_one_line_each({**request.headers, **gateway.authorize(account)}),
                content=request.body,
                timeout=httpx.Timeout(connect=connect, pool=connect, read=read, write=read),
            )
        except Exception as failure:  # noqa: BLE001 - an adapter may raise anything; nothing has left
            # By its kind only: the text may hold a credential.
            return Misconfigured(f"the request could not be put together: {type(failure).__name__}")

        try:
            async with asyncio.timeout(read):
                return await self._exchange(prepared)
        except Exception as failure:  # noqa: BLE001 - sorted by what is certain, not by kind
            if _never_left(failure):
                return NotSent(f"no connection: {_kind(failure)}")
            return Unknown(f"no answer: {_kind(failure)}")

    async def _exchange(self, request: httpx.Request) -> Response | Unknown:
        reply = await self._client.send(request, stream=True)
        try:
            if reply.headers.get("content-encoding", "identity") != "identity":
                return Unknown(f"HTTP {reply.status_code}, packed although we asked for it plain")
            body = bytearray()
            async for chunk in reply.aiter_raw():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    return Unknown(f"HTTP {reply.status_code}, more than {LARGEST_ANSWER} bytes")
            return Response(reply.status_code, dict(reply.headers), bytes(body))
        finally:
            await reply.aclose()


async def ask_refund(
    sender: Sender, gateway: RefundGateway, account: Account, command: RefundCommand, request: PreparedRequest
) -> Answer:
    """Ask for the refund once and say what the answer means; what cannot be read is unknown."""
    if request.method not in LEAVES_ONCE:
        return Misconfigured(f"{request.method} could leave twice")
    reply = await sender.call(
        gateway, account, request, time_limit=gateway.traits(account.settings).time_limit
    )
    match reply:
        case Response():
            try:
                answer = gateway.read_refund(reply, command)
            except Exception as failure:  # noqa: BLE001 - whatever a reader stumbles over, money may have moved
                return Unknown(f"HTTP {reply.status}, unreadable: {type(failure).__name__}")
        case NotSent() | Unknown() | Misconfigured():
            return reply
        case _:
            assert_never(reply)

    if isinstance(answer, Accepted) and (odd := _differs(answer, command)):
        return Unknown(f"mismatch: {odd}", differs=True)
    return answer


async def look_up(
    sender: Sender, gateway: RefundGateway, account: Account, probe: RefundProbe, request: PreparedRequest
) -> Finding:
    """Look for the refund once; whatever is not a clear answer leaves it open."""
    reply = await sender.call(
        gateway, account, request, time_limit=gateway.traits(account.settings).time_limit
    )
    match reply:
        case Response():
            try:
                finding = gateway.read_look_up(reply, probe)
            except Exception as failure:  # noqa: BLE001 - an unreadable answer finds nothing out
                return CannotTell(f"HTTP {reply.status}, unreadable: {type(failure).__name__}")
        case NotSent(reason) | Misconfigured(reason):
            return CannotTell(reason)
        case Unknown(seen):
            return CannotTell(seen)
        case _:
            assert_never(reply)

    if isinstance(finding, Found):
        refund = finding.refund
        if (refund.payment_reference, refund.our_reference) != (probe.payment_reference, str(probe.key)):
            return CannotTell("mismatch: another payment or reference than looked for", differs=True)
    return finding


def _differs(answer: Accepted, command: RefundCommand) -> str | None:
    """What the gateway took down otherwise than it was asked."""
    refund = answer.refund
    if refund.amount != command.amount:
        asked, taken = command.amount, refund.amount
        return f"asked {asked.minor} {asked.currency}, taken {taken.minor} {taken.currency}"
    if refund.payment_reference != command.payment_reference:
        return "another payment than asked"
    if refund.our_reference != str(command.key):
        return "another reference than asked"
    return None


def _url(base: str, path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("a path begins with a slash")
    return base.rstrip("/") + path


def _one_line_each(headers: Mapping[str, str]) -> Mapping[str, str]:
    # Found after connecting, a broken header would count as sent; a secret read from a file often
    # ends in a newline.
    if any(not part.isprintable() for item in headers.items() for part in item):
        raise ValueError("a header is one printable line")
    return headers


def _never_left(failure: Exception) -> bool:
    """Whether it is certain that no byte of the request was sent.

    httpx-aiohttp 0.2.0 calls every connection error of aiohttp that it has no name for a
    ``ConnectTimeout``, a server that hung up on our request among them. So aiohttp's own
    exception decides wherever there is one: these are raised by its connector or before it, and
    by nothing after it. httpx's names count only where another transport raised them.
    """
    root = _root(failure)
    if isinstance(root, aiohttp.ClientError):
        return isinstance(root, _BEFORE_SENDING)
    return isinstance(
        failure, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol
    )


def _root(failure: BaseException) -> BaseException:
    cause = failure.__cause__
    return cause if isinstance(cause, aiohttp.ClientError) else failure


def _kind(failure: BaseException) -> str:
    """What failed, by its kinds: texts of exceptions may quote what was sent."""
    root = _root(failure)
    below = root.__cause__
    return f"{type(root).__name__} ({type(below).__name__})" if below else type(root).__name__
