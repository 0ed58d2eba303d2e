"""The questions put to a gateway, each with the closed set of what can come back.

Adapters render and read, the sender sends; here the two are joined, and whatever a reader stumbles
over becomes "unknown" or "cannot tell", never an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar, assert_never, cast

from refund_service.clock import seconds, utc_now
from refund_service.gateways.answers import (
    Accepted,
    Answer,
    Cancellation,
    CannotTell,
    Finding,
    Found,
    Further,
    GatewayRefund,
    Misconfigured,
    NotSent,
    PaymentReading,
    PreparedRequest,
    RefundPage,
    Unknown,
    Usable,
)
from refund_service.gateways.notices import AskGateway, Delivery, Forged, Genuine
from refund_service.gateways.protocol import (
    Account,
    CancelsRefunds,
    ListsRefunds,
    Notifies,
    ReadsPayments,
    RefundCommand,
    RefundGateway,
    RefundProbe,
    Response,
    TriesAccounts,
)
from refund_service.gateways.send import Sender

LEAVES_ONCE: Final = frozenset({"POST", "PATCH"})
"""aiohttp repeats the other methods by itself when a kept connection drops under them."""

MOST_PAGES: Final = 10
"""Of one look-up: a payment with more refunds than these hold is for a person."""

_T = TypeVar("_T")


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

    def read(found: tuple[GatewayRefund, ...], reply: Response) -> Finding | Further:
        return gateway.read_look_up(reply, replace(probe, found=found))

    finding: Finding = await _read_on(sender, gateway, account, request, read)
    if isinstance(finding, Found):
        refund = finding.refund
        if (refund.payment_reference, refund.our_reference) != (probe.payment_reference, str(probe.key)):
            return CannotTell("mismatch: another payment or reference than looked for", differs=True)
    return finding


async def read_payment(
    sender: Sender, gateway: ReadsPayments, account: Account, reference: str
) -> PaymentReading:
    """The payment as the gateway has it."""
    return await _read_on(
        sender,
        _kind(gateway),
        account,
        gateway.render_payment(reference, account),
        lambda _, reply: gateway.read_payment(reply, reference),
    )


async def list_refunds(
    sender: Sender,
    gateway: ListsRefunds,
    account: Account,
    request: PreparedRequest | None,
    *,
    since: datetime,
    until: datetime,
) -> RefundPage | CannotTell:
    """One page of the gateway's refunds: the first where ``request`` is none."""
    asked = request or gateway.render_refunds(since, until, account)
    return await _read(
        sender, _kind(gateway), account, asked, lambda reply: gateway.read_refunds(reply, asked)
    )


async def cancel_refund(
    sender: Sender, gateway: CancelsRefunds, account: Account, gateway_refund_id: str
) -> Cancellation:
    """Ask the gateway to stop a refund that it has; sent once."""
    kind = _kind(gateway)
    reply = await sender.call(
        kind,
        account,
        gateway.render_cancel(gateway_refund_id, account),
        time_limit=kind.traits(account.settings).time_limit,
    )
    if not isinstance(reply, Response):
        return reply
    try:
        return gateway.read_cancel(reply)
    except Exception as failure:  # noqa: BLE001 - it may be stopped or not
        return Unknown(f"HTTP {reply.status}, unreadable: {type(failure).__name__}")


async def try_account(
    sender: Sender, gateway: TriesAccounts, account: Account
) -> Usable | NotSent | Unknown | Misconfigured:
    """Whether the gateway takes the account's credentials; nothing is changed there."""
    kind = _kind(gateway)
    try:
        request = gateway.render_trial(account)
    except Exception as failure:  # noqa: BLE001 - an adapter may raise anything; nothing has left
        return Misconfigured(f"the request could not be put together: {type(failure).__name__}")
    reply = await sender.call(kind, account, request, time_limit=kind.traits(account.settings).time_limit)
    if not isinstance(reply, Response):
        return reply
    try:
        return gateway.read_trial(reply, account)
    except Exception as failure:  # noqa: BLE001 - it says nothing of the credentials
        return Unknown(f"HTTP {reply.status}, unreadable: {type(failure).__name__}")


async def verify_delivery(
    sender: Sender, gateway: Notifies, account: Account, delivery: Delivery
) -> Genuine | Forged | CannotTell:
    """Whether a notification is the gateway's; asks the gateway where only that can say."""
    try:
        verdict = gateway.verify(delivery, account, now=utc_now())
    except Exception as failure:  # noqa: BLE001 - what cannot be checked is not believed
        return Forged(f"unreadable: {type(failure).__name__}")
    if not isinstance(verdict, AskGateway):
        return verdict
    return await _read(sender, _kind(gateway), account, verdict.request, gateway.read_verification)


async def _read_on(
    sender: Sender,
    gateway: RefundGateway,
    account: Account,
    request: PreparedRequest,
    read: Callable[[tuple[GatewayRefund, ...], Response], _T | Further],
) -> _T | CannotTell:
    """Ask, and go wherever the answer leads; all of it within the time of one call.

    ``read`` gets what the earlier answers had found.
    """
    until = seconds() + gateway.traits(account.settings).time_limit.total_seconds()
    found: tuple[GatewayRefund, ...] = ()
    for _ in range(MOST_PAGES):
        left = timedelta(seconds=until - seconds())
        if left <= timedelta(0):
            return CannotTell("no time is left for what follows")
        told = await _read(sender, gateway, account, request, partial(read, found), within=left)
        if not isinstance(told, Further):
            return told
        request, found = PreparedRequest("GET", told.path, request.headers, b""), told.found
    return CannotTell(f"more than {MOST_PAGES} pages")


async def _read(
    sender: Sender,
    gateway: RefundGateway,
    account: Account,
    request: PreparedRequest,
    read: Callable[[Response], _T],
    *,
    within: timedelta | None = None,
) -> _T | CannotTell:
    """Ask once; whatever is no readable answer leaves it open."""
    limit = within or gateway.traits(account.settings).time_limit
    reply = await sender.call(gateway, account, request, time_limit=limit)
    match reply:
        case Response():
            try:
                return read(reply)
            except Exception as failure:  # noqa: BLE001 - an unreadable answer finds nothing out
                return CannotTell(f"HTTP {reply.status}, unreadable: {type(failure).__name__}")
        case NotSent(reason) | Misconfigured(reason):
            return CannotTell(reason)
        case Unknown(seen):
            return CannotTell(seen)
        case _:
            assert_never(reply)


def _kind(gateway: object) -> RefundGateway:
    """Every adapter is a gateway first; its capability is named where it is needed."""
    return cast("RefundGateway", gateway)


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
