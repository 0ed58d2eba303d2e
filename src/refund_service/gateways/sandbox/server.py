"""The sandbox as a gateway on the network: a real server, so that answers can really be lost.

The gateway's own API is ``/v1/refunds`` and ``/v1/payments``; ``/v1/record``, ``/v1/clock``,
``/v1/refunds/{id}/settle`` and ``/health`` are for whoever tests with it and ask for no token.
Between a look at the book and the note that follows from it there is no ``await``: requests
cannot come between, so no lock is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from refund_service.clock import rfc3339
from refund_service.gateways.answers import DeclineCode
from refund_service.gateways.sandbox.behaviours import Behaviour, UnknownBehaviour, read_behaviour
from refund_service.gateways.sandbox.book import OPEN, Book, Refund
from refund_service.gateways.sandbox.record import Record
from refund_service.ids import new_id
from refund_service.money import EXPONENTS, LARGEST_AMOUNT

LARGEST_REQUEST: Final = 64 * 1024
FURTHEST_AHEAD: Final = 10 * 365 * 24 * 3600.0

_TOKEN: Final = re.compile(r"Bearer sk_sandbox_\S+")
_SETTLED: Final = ("succeeded", "failed")

_log = logging.getLogger(__name__)


class Refusal(HTTPException):
    """An answer in the gateway's shape of errors."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(status, message, None if retry_after is None else {"Retry-After": str(retry_after)})
        self.code = code


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose account it is, and how that account behaves."""

    account: str
    deduplicates: bool
    looks_up: bool


@dataclass(frozen=True, slots=True)
class Order:
    """A refund as it was asked for."""

    payment: str
    amount: int
    currency: str
    reference: str
    behaviour: str


class HangUp(Response):
    """The connection is closed after the first ``told`` bytes of the body, or without any byte."""

    def __init__(self, body: bytes = b"", told: int = 0) -> None:
        super().__init__(body, media_type="application/json")
        self.told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Play half an answer to the connection and close it."""
        if self.told:
            await send({"type": "http.response.start", "status": 201, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body[: self.told], "more_body": True})
        connection = _Connection.open.get(scope["client"])
        if connection is not None:
            connection.transport.close()
        # Returned before the connection is gone, the server would still send its own 500.
        while (await receive())["type"] != "http.disconnect":
            pass


class _Connection(HttpToolsProtocol):
    """A connection that an answer can find again by its caller's address, to close it.

    ASGI has no word for hanging up.
    """

    open: Final[dict[tuple[str, int] | None, _Connection]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base does
        super().connection_made(transport)
        self.open[self.client] = self

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.open.pop(self.client, None)


class Sandbox:
    """The gateway's desk: one handler for each endpoint."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._running: set[tuple[str, str]] = set()
        self._clock_moved = asyncio.Event()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/refunds", self.ask, methods=["POST"]),
                Route("/v1/refunds", self.look_up, methods=["GET"]),
                Route("/v1/refunds/{id}", self.get, methods=["GET"]),
                Route("/v1/refunds/{id}/settle", self.settle, methods=["POST"]),
                Route("/v1/payments", self.tell_payment, methods=["POST"]),
                Route("/v1/record", self.tell_record, methods=["GET"]),
                Route("/v1/clock", self.advance, methods=["POST"]),
                Route("/health", self.health, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _refuse, ClientDisconnect: _nobody_there},
        )

    async def ask(self, request: Request) -> Response:
        """``POST /v1/refunds``: do what the behaviour says."""
        body = await _body(request)
        key = request.headers.get("idempotency-key", "")
        order = _order(body)
        payment, reference = (order.payment, order.reference) if order else ("", "")
        self._note_request(request, "refund", key=key, payment=payment, reference=reference)
        caller = _caller(request)
        if order is None or (caller.deduplicates and not key):
            raise Refusal(400, "malformed", "A refund has payment, amount, currency, reference, and a key.")

        fingerprint = hashlib.sha256(body).hexdigest() if caller.deduplicates else None
        if caller.deduplicates:
            kept = self._book.kept_answer(caller.account, key)
            if kept is not None:
                if kept.fingerprint != fingerprint:
                    raise Refusal(422, "idempotency_mismatch", "This key came with another body before.")
                await self._book.record.safe()
                return JSONResponse(kept.body, kept.status, {"Sandbox-Replayed": "true"})
            if (caller.account, key) in self._running:
                raise Refusal(
                    409, "in_progress", "A refund under this key is being worked on.", retry_after=1
                )
        return await self._behave(caller, order, key, fingerprint)

    async def look_up(self, request: Request) -> Response:
        """``GET /v1/refunds?payment=&reference=``."""
        payment, reference = request.query_params.get("payment"), request.query_params.get("reference")
        account = request.headers.get("sandbox-account", "")
        seen = self._book.look_up(account, payment, reference)
        self._note_request(request, "look_up", payment=payment or "", reference=reference or "")
        if not _caller(request).looks_up:
            raise Refusal(404, "not_supported", "This account cannot look refunds up.")
        if payment is None and reference is None:
            raise Refusal(400, "malformed", "Name a payment, a reference, or both.")
        await self._book.record.safe()
        return JSONResponse({"data": [self._book.show(refund) for refund in seen]})

    async def get(self, request: Request) -> Response:
        """``GET /v1/refunds/{id}``."""
        self._note_request(request, "get")
        refund = self._book.refunds.get(request.path_params["id"])
        if refund is None or refund.account != _caller(request).account:
            raise Refusal(404, "not_found", "There is no such refund.")
        await self._book.record.safe()
        return JSONResponse(self._book.show(refund))

    async def tell_payment(self, request: Request) -> Response:
        """``POST /v1/payments``: from now on this payment has a ceiling."""
        caller = _caller(request)
        told = _object(await _body(request))
        payment, amount, currency = told.get("payment"), told.get("amount"), told.get("currency")
        if not (_is_text(payment) and _is_amount(amount) and currency in EXPONENTS):
            raise Refusal(400, "malformed", "A payment has payment, amount and currency.")
        known = self._book.captured.get((caller.account, payment))
        if known is None:
            self._book.note(
                "payment", account=caller.account, payment=payment, amount=amount, currency=currency
            )
        elif known != (amount, currency):
            raise Refusal(409, "payment_differs", f"It was told before with {known[0]} {known[1]}.")
        await self._book.record.safe()
        return JSONResponse(
            {"payment": payment, "amount": amount, "currency": currency}, 201 if known is None else 200
        )

    async def settle(self, request: Request) -> Response:
        """``POST /v1/refunds/{id}/settle``: the end of a refund that waits for one."""
        told = _object(await _body(request))
        refund = self._book.refunds.get(request.path_params["id"])
        if refund is None:
            raise Refusal(404, "not_found", "There is no such refund.")
        if told.get("status") not in _SETTLED:
            raise Refusal(400, "malformed", "A status is succeeded or failed.")
        if refund.status(self._book.now())[0] not in OPEN:
            raise Refusal(409, "already_settled", "It does not wait for an end.")
        failure = DeclineCode.ISSUER_DECLINED.value if told["status"] == "failed" else None
        self._book.note("settlement", refund=refund.id, status=told["status"], failure=failure)
        await self._book.record.safe()
        return JSONResponse(self._book.show(refund))

    async def advance(self, request: Request) -> Response:
        """``POST /v1/clock``: put the sandbox's time ahead, so that nobody has to sleep."""
        seconds = _object(await _body(request)).get("advance_seconds")
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 <= seconds <= FURTHEST_AHEAD
        ):
            raise Refusal(400, "malformed", "advance_seconds is a number, not below zero.")
        if self._book.ahead + seconds > FURTHEST_AHEAD:
            raise Refusal(400, "malformed", "That is too far ahead.")
        self._book.note("clock", ahead=self._book.ahead + seconds)
        moved, self._clock_moved = self._clock_moved, asyncio.Event()
        moved.set()
        await self._book.record.safe()
        return JSONResponse({"now": rfc3339(self._book.now())})

    async def tell_record(self, request: Request) -> Response:
        """``GET /v1/record``: every execution, and what was asked; by account, payment or reference."""
        wanted = {name: request.query_params.get(name) for name in ("account", "payment", "reference")}
        executions = [
            refund
            for refund in self._book.refunds.values()
            if all(value in {None, getattr(refund, name)} for name, value in wanted.items())
        ]
        requests = [
            asked
            for asked in self._book.requests
            if all(value in {None, asked[name]} for name, value in wanted.items())
        ]
        return JSONResponse(
            {
                "counts": {
                    "executions": len(executions),
                    "requests": len(requests),
                    **{
                        action: sum(asked["action"] == action for asked in requests)
                        for action in ("refund", "look_up", "get")
                    },
                },
                "executions": [self._execution(refund) for refund in executions],
                "requests": requests,
            }
        )

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's form of a handler
        """``GET /health``."""
        return JSONResponse({"status": "pass", "now": rfc3339(self._book.now())})

    async def _behave(self, caller: Caller, order: Order, key: str, fingerprint: str | None) -> Response:
        try:
            behaviour = read_behaviour(order.behaviour)
        except UnknownBehaviour:
            return await self._decline(
                caller, key, fingerprint, "unknown_behaviour", "The sandbox knows no such behaviour."
            )
        first = self._book.times_asked(caller.account, key) == 1

        # What keeps a refund from being executed …
        match behaviour.name:
            case "decline":
                code = behaviour.decline.value
                return await self._decline(caller, key, fingerprint, code, "Declined, as asked.")
            case "unauthorized":
                raise Refusal(401, "unauthorized", "Refused, as asked.")
            case "undocumented":
                raise Refusal(400, "mystery", "No document tells what this means.")
            case "lose_request" if first:
                return HangUp()
            case "error_500" if first:
                raise Refusal(500, "internal", "Nothing was done.")
            case "rate_limit" if first:
                raise Refusal(429, "rate_limited", "Too many requests.", retry_after=1)
            case "in_progress" if first:
                self._running.add((caller.account, key))
                try:
                    await self._until(self._book.now() + timedelta(seconds=behaviour.seconds))
                finally:
                    self._running.discard((caller.account, key))
            case _:
                pass

        refusal = self._refusal(caller, order)
        if refusal is not None:
            return await self._decline(caller, key, fingerprint, *refusal)
        refund = self._execute(caller, order, key, fingerprint, behaviour)
        await self._book.record.safe()

        # … and what happens to the answer of one that was.
        return await self._answer(behaviour, refund)

    async def _answer(self, behaviour: Behaviour, refund: Refund) -> Response:
        told = self._book.show(refund)
        match behaviour.name:
            case "lose_answer" | "lookup_lags":
                return HangUp()
            case "cut_answer":
                body = json.dumps(told).encode()
                return HangUp(body, told=len(body) // 2)
            case "nonsense":
                return HTMLResponse("<html><body><h1>It works!</h1></body></html>")
            case "other_amount":
                return JSONResponse({**told, "amount": refund.amount + 1}, 201)
            case "unknown_status":
                return JSONResponse({**told, "status": "archived"}, 201)
            case "error_500_executed":
                raise Refusal(500, "internal", "Something went wrong.")
            case "slow":
                await self._until(self._book.now() + timedelta(seconds=behaviour.seconds))
            case _:
                pass
        return JSONResponse(told, 201)

    def _refusal(self, caller: Caller, order: Order) -> tuple[str, str] | None:
        """Why a payment that the sandbox was told of does not bear this refund."""
        left = self._book.left(caller.account, order.payment)
        if left is None:
            return None
        if order.currency != self._book.captured[caller.account, order.payment][1]:
            return "currency_mismatch", "The payment has another currency."
        if left <= 0:
            return "already_refunded", "All of the payment is refunded."
        if order.amount > left:
            return "amount_too_high", f"Only {left} is left of the payment."
        return None

    async def _decline(
        self, caller: Caller, key: str, fingerprint: str | None, code: str, message: str
    ) -> Response:
        body = {"error": {"code": code, "message": message}}
        if fingerprint is not None:
            answer = {"status": 422, "body": body}
            self._book.note("answer", account=caller.account, key=key, fingerprint=fingerprint, answer=answer)
            await self._book.record.safe()
        return JSONResponse(body, 422)

    def _execute(
        self, caller: Caller, order: Order, key: str, fingerprint: str | None, behaviour: Behaviour
    ) -> Refund:
        id_ = f"sbr_{new_id().hex}"
        self._book.note(
            "execution",
            refund=id_,
            account=caller.account,
            payment=order.payment,
            amount=order.amount,
            currency=order.currency,
            key=key,
            reference=order.reference,
            steps=_steps(behaviour, self._book.now()),
            hidden_for=behaviour.lags,
            fingerprint=fingerprint,
        )
        return self._book.refunds[id_]

    async def _until(self, moment: datetime) -> None:
        while (left := (moment - self._book.now()).total_seconds()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._clock_moved.wait(), left)

    def _note_request(
        self, request: Request, action: str, *, key: str = "", payment: str = "", reference: str = ""
    ) -> None:
        account = request.headers.get("sandbox-account", "")
        self._book.note(
            "request", action=action, account=account, key=key, payment=payment, reference=reference
        )

    def _execution(self, refund: Refund) -> dict[str, Any]:
        status, failure = refund.status(self._book.now())
        return {
            "refund": refund.id,
            "account": refund.account,
            "payment": refund.payment,
            "amount": refund.amount,
            "currency": refund.currency,
            "key": refund.key,
            "reference": refund.reference,
            "at": refund.at,
            "status": status,
            "failure_code": failure,
        }


def serve(host: str, port: int, record_path: Path, listening: Callable[[int], None] = lambda _: None) -> None:
    """Play the gateway until the process is told to end; ``listening`` hears the port."""
    record = Record(record_path)
    with socket.create_server((host, port)) as listener:
        listening(listener.getsockname()[1])
        uvicorn.Server(
            uvicorn.Config(
                Sandbox(Book(record)).app(),
                http=_Connection,
                ws="none",
                # A connection is found again by its caller's address, which no header may change.
                proxy_headers=False,
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                # Longer than the service keeps a connection: who hangs up first decides who is in doubt.
                timeout_keep_alive=60,
                timeout_graceful_shutdown=1,
            )
        ).run(sockets=[listener])
    record.close()


def _steps(behaviour: Behaviour, now: datetime) -> list[tuple[str, str, str | None]]:
    declined = DeclineCode.ISSUER_DECLINED.value
    late = now + timedelta(seconds=behaviour.seconds)
    life: list[tuple[datetime, str, str | None]]
    match behaviour.name:
        case "pend":
            life = [(now, "pending", None)]
        case "requires_action":
            life = [(now, "requires_action", None)]
        case "succeed_late":
            life = [(now, "pending", None), (late, "succeeded", None)]
        case "fail_late":
            life = [(now, "pending", None), (late, "failed", declined)]
        case "fail_after_success":
            life = [(now, "succeeded", None), (late, "failed", declined)]
        case _:
            life = [(now, "succeeded", None)]
    return [(rfc3339(at), status, failure) for at, status, failure in life]


def _caller(request: Request) -> Caller:
    if not _TOKEN.fullmatch(request.headers.get("authorization", "")):
        raise Refusal(401, "unauthorized", "A token begins with sk_sandbox_.")
    account = request.headers.get("sandbox-account", "")
    if not account:
        raise Refusal(400, "malformed", "The header Sandbox-Account is missing.")
    traits = {trait.strip() for trait in request.headers.get("sandbox-traits", "").split(",")}
    return Caller(account, "deduplicates" in traits, "looks-up" in traits)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_REQUEST:
            raise Refusal(413, "too_large", f"A request has at most {LARGEST_REQUEST} bytes.")
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _order(body: bytes) -> Order | None:
    told = _object(body)
    payment, amount, currency = told.get("payment"), told.get("amount"), told.get("currency")
    reference, metadata = told.get("reference"), told.get("metadata", {})
    if not (_is_text(payment) and _is_text(reference) and _is_amount(amount) and isinstance(currency, str)):
        return None
    if currency not in EXPONENTS or not isinstance(metadata, dict):
        return None
    behaviour = metadata.get("sandbox", "succeed")
    return Order(payment, amount, currency, reference, behaviour if isinstance(behaviour, str) else "")


def _is_text(told: object) -> TypeGuard[str]:
    return isinstance(told, str) and 0 < len(told) <= 255 and told.isprintable()  # noqa: PLR2004 - as long as the adapter takes


def _is_amount(told: object) -> TypeGuard[int]:
    return isinstance(told, int) and not isinstance(told, bool) and 0 < told <= LARGEST_AMOUNT


async def _refuse(request: Request, failure: Exception) -> Response:  # noqa: ARG001 - Starlette's form
    assert isinstance(failure, HTTPException)  # noqa: S101 - registered for this class alone
    code = failure.code if isinstance(failure, Refusal) else "not_found"
    body = {"error": {"code": code, "message": failure.detail}}
    return JSONResponse(body, failure.status_code, dict(failure.headers or {}))


async def _nobody_there(request: Request, failure: Exception) -> Response:  # noqa: ARG001 - Starlette's form
    _log.info("a caller left before its request was whole")
    return Response()
