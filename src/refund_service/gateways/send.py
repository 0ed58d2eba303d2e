"""The one place that calls a gateway: a request leaves once, and what became of it is told in full.

What matters is which failures are certain. A request that never got a connection did nothing and
may go again; from the first byte on, silence, a reset or half an answer say nothing about the
money. So "not sent" is a short list of proofs, and whatever is not on it is unknown.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from httpx_aiohttp import AiohttpTransport

from refund_service import __version__
from refund_service.clock import seconds
from refund_service.gateways.answers import Misconfigured, NotSent, PreparedRequest, Token, Unknown
from refund_service.gateways.protocol import Account, RefundGateway, Response, TradesTokens
from refund_service.gateways.tokens import TokenCabinet

LARGEST_ANSWER: Final = 1024 * 1024
"""In bytes; a refund fits in a few thousand."""

CONNECT_WITHIN: Final = timedelta(seconds=5)
"""For a place in the pool, name, connection and TLS together: after it nothing has left."""

KEPT_ALIVE: Final = 5.0
"""Seconds an idle connection is kept. Every reuse of one that the gateway has just closed is an
unknown outcome, so we let go well before gateways and load balancers do."""

UNAUTHORIZED: Final = 401

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
        self._tokens = TokenCabinet()

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
        if not isinstance(gateway, TradesTokens):
            return await self._call(
                account, request, lambda: gateway.authorize(account), within=time_limit.total_seconds()
            )
        return await self._call_with_token(gateway, account, request, within=time_limit.total_seconds())

    async def _call_with_token(
        self, gateway: RefundGateway, account: Account, request: PreparedRequest, *, within: float
    ) -> Response | NotSent | Unknown | Misconfigured:
        began = seconds()
        admitted = await self._tokens.admit(account, lambda: self._trade(gateway, account, within=within / 2))
        if isinstance(admitted, NotSent | Misconfigured):
            return admitted
        if isinstance(admitted, Unknown):
            # The trade has no answer; the request itself has not left.
            return NotSent(f"no token: {admitted.seen}")
        let_in, fresh = admitted
        reply = await self._call(
            let_in, request, lambda: gateway.authorize(let_in), within=within - (seconds() - began)
        )
        if isinstance(reply, Response) and reply.status == UNAUTHORIZED and not fresh:
            # Turned away unread with a token that had lasted so far: the next call trades a new one.
            self._tokens.forget(let_in)
            return NotSent("HTTP 401, the token was not taken any more")
        return reply

    async def _trade(
        self, gateway: RefundGateway, account: Account, *, within: float
    ) -> Token | NotSent | Unknown | Misconfigured:
        if not isinstance(gateway, TradesTokens):
            raise TypeError(f"{gateway.name} trades no tokens")
        try:
            request = gateway.render_token(account)
        except Exception as failure:  # noqa: BLE001 - an adapter may raise anything; nothing has left
            return Misconfigured(f"the request could not be put together: {type(failure).__name__}")
        reply = await self._call(account, request, lambda: gateway.authorize_trade(account), within=within)
        if not isinstance(reply, Response):
            return reply
        try:
            return gateway.read_token(reply)
        except Exception as failure:  # noqa: BLE001 - whatever a reader stumbles over
            return Unknown(f"HTTP {reply.status}, unreadable: {type(failure).__name__}")

    async def _call(
        self,
        account: Account,
        request: PreparedRequest,
        authorize: Callable[[], Mapping[str, str]],
        *,
        within: float,
    ) -> Response | NotSent | Unknown | Misconfigured:
        # Half of a short limit: so that a host that swallows connections is told from one that
        # has our request and keeps silent.
        connect = min(CONNECT_WITHIN.total_seconds(), within / 2)
        try:
            prepared = self._client.build_request(
                request.method,
                _url(account.base_url, request.path),
                headers=_one_line_each({**request.headers, **authorize()}),
                content=request.body,
                timeout=httpx.Timeout(connect=connect, pool=connect, read=within, write=within),
            )
        except Exception as failure:  # noqa: BLE001 - an adapter may raise anything; nothing has left
            # By its kind only: the text may hold a credential.
            return Misconfigured(f"the request could not be put together: {type(failure).__name__}")

        try:
            async with asyncio.timeout(within):
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
