"""The sandbox's words, and what they mean to us."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    Answer,
    BankReference,
    CannotTell,
    DeclineCode,
    Declined,
    Finding,
    Found,
    GatewayRefund,
    GatewayState,
    InFlight,
    Misconfigured,
    NotSent,
    PreparedRequest,
    Unknown,
)
from refund_service.gateways.protocol import (
    LONGEST_CALL,
    Account,
    Field,
    GatewayTraits,
    RefundCommand,
    RefundProbe,
    Response,
)
from refund_service.gateways.reading import json_object, keepable, member, plain, retry_after
from refund_service.money import Money

DECLINES: Final[dict[str, DeclineCode]] = {
    **{code.value: code for code in DeclineCode},
    # A misspelt behaviour is the caller's mistake and moves nothing; pausing the account for it
    # would punish everyone else.
    "unknown_behaviour": DeclineCode.OTHER,
}
"""The refusals that the sandbox documents: a 422 with one of these did nothing and never will."""

_STATES: Final = {
    "pending": GatewayState.PENDING,
    "requires_action": GatewayState.REQUIRES_ACTION,
    "succeeded": GatewayState.SUCCEEDED,
    "failed": GatewayState.FAILED,
    "canceled": GatewayState.CANCELED,
}


class SandboxGateway:
    """The adapter."""

    name = "sandbox"
    title = "Sandbox"
    fields = (
        Field("url", "Where the sandbox listens."),
        Field("token", "What it was started with.", secret=True),
    )

    def base_url(self, settings: Mapping[str, Any], *, livemode: bool) -> str:
        """Where the account's settings say that it listens; never for live merchants."""
        if livemode:
            raise ValueError("the sandbox moves no real money")
        return str(settings["url"])

    def traits(self, settings: Mapping[str, Any]) -> GatewayTraits:
        """As the account is set up: with or without deduplication, with or without look-up."""
        time_limit = min(timedelta(seconds=float(settings.get("time_limit_seconds", 20))), LONGEST_CALL)
        deduplicates = _deduplicates(settings)
        return GatewayTraits(
            idempotency="header" if deduplicates else "none",
            replay_horizon=timedelta(hours=24) if deduplicates else timedelta(0),
            lookup="by_reference" if _looks_up(settings) else "none",
            enough_misses=2,
            enough_miss_time=max(timedelta(seconds=45), time_limit + timedelta(seconds=5)),
            time_limit=time_limit,
            poll_plan=(timedelta(seconds=15),),
            parallel_calls=16,
        )

    def authorize(self, account: Account) -> Mapping[str, str]:
        """The account's token."""
        return {"Authorization": f"Bearer {account.credentials['token']}"}

    def render_refund(self, command: RefundCommand, account: Account) -> PreparedRequest:
        """``POST /v1/refunds``."""
        key = str(command.key)
        body = {
            "payment": command.payment_reference,
            "amount": command.amount.minor,
            "currency": command.amount.currency,
            "reference": key,
            "metadata": dict(command.hints),
        }
        return PreparedRequest(
            method="POST",
            path="/v1/refunds",
            headers={
                **_about(account),
                "Content-Type": "application/json",
                "Idempotency-Key": key,
            },
            body=json.dumps(body, sort_keys=True, separators=(",", ":")).encode(),
        )

    def read_refund(self, response: Response, command: RefundCommand) -> Answer:  # noqa: ARG002 - the protocol's
        """What the answer to a refund means; what is not documented is unknown."""
        told = json_object(response.body)
        code = _error_code(told)
        match response.status:
            case status if 200 <= status < 300:  # noqa: PLR2004 - every success
                refund = _refund(told)
                return Accepted(refund) if refund else Unknown(f"HTTP {status}, not a refund")
            case 401 | 403:
                return Misconfigured(f"HTTP {response.status}, {code}")
            case 400 if code == "malformed":
                return Misconfigured("the sandbox found our request malformed")
            case 409 if code == "in_progress":
                return InFlight(retry_after(response.headers))
            case 422 if code in DECLINES:
                return Declined(DECLINES[code], code, keepable(member(told, "error", "message")))
            case 429:
                return NotSent("HTTP 429, too many requests", retry_after(response.headers))
            case status:
                return Unknown(f"HTTP {status}, {code}")

    def render_look_up(self, probe: RefundProbe, account: Account) -> PreparedRequest:
        """``GET /v1/refunds/{id}``, or the list by payment and reference."""
        if probe.gateway_refund_id is not None:
            path = f"/v1/refunds/{quote(probe.gateway_refund_id, safe='')}"
        else:
            path = (
                f"/v1/refunds?{urlencode({'payment': probe.payment_reference, 'reference': str(probe.key)})}"
            )
        return PreparedRequest(method="GET", path=path, headers=_about(account), body=b"")

    def read_look_up(self, response: Response, probe: RefundProbe) -> Finding:
        """What was found: only a well-formed empty list says that nothing is there."""
        told = json_object(response.body)
        if response.status != 200:  # noqa: PLR2004 - OK, by any name
            # A 404 too: an id that the sandbox once gave out and now denies is a riddle, not an absence.
            return CannotTell(f"HTTP {response.status}, {_error_code(told)}")
        listed = [told] if probe.gateway_refund_id is not None else told.get("data")
        if listed == []:
            return Absent()
        if not isinstance(listed, list):
            return CannotTell("HTTP 200, not a list of refunds")
        if len(listed) > 1:
            # Money has moved more than once under one reference: no machine may pick one of them.
            return CannotTell(f"mismatch: {len(listed)} refunds under one reference", differs=True)
        refund = _refund(listed[0])
        return Found(refund) if refund else CannotTell("HTTP 200, not a refund")


def _deduplicates(settings: Mapping[str, Any]) -> bool:
    return settings.get("deduplicates", True) is not False


def _looks_up(settings: Mapping[str, Any]) -> bool:
    return settings.get("looks_up", True) is not False


def _about(account: Account) -> dict[str, str]:
    """Whose account it is and how it behaves; frozen with the request, as it bears no secret."""
    headers = {"Sandbox-Account": account.remote_account or str(account.id)}
    traits = ["deduplicates"] * _deduplicates(account.settings) + ["looks-up"] * _looks_up(account.settings)
    if traits:
        headers["Sandbox-Traits"] = ", ".join(traits)
    return headers


def _refund(told: object) -> GatewayRefund | None:
    """The refund, or nothing where one member is not as documented."""
    if not isinstance(told, dict):
        return None
    id_, payment, reference = (plain(told.get(name)) for name in ("id", "payment", "reference"))
    amount, currency, status = told.get("amount"), told.get("currency"), told.get("status")
    if not (id_ and payment and reference and isinstance(currency, str) and isinstance(status, str)):
        return None
    if not isinstance(amount, int) or isinstance(amount, bool) or status not in _STATES:
        return None
    try:
        money = Money(amount, currency)
    except ValueError:
        return None
    state = _STATES[status]
    return GatewayRefund(
        id=id_,
        state=state,
        amount=money,
        payment_reference=payment,
        our_reference=reference,
        bank_reference=_bank_reference(told.get("bank_reference")),
        failure=_failure(told.get("failure_code")) if state is GatewayState.FAILED else None,
    )


def _bank_reference(told: object) -> BankReference | None:
    # Good to have and no more: a refund is not doubted for it.
    if not isinstance(told, dict):
        return None
    kind, value, status = (plain(told.get(name)) for name in ("type", "value", "status"))
    return BankReference(kind, value, status) if kind and value and status else None


def _failure(told: object) -> tuple[DeclineCode, str]:
    code = plain(told) or "none given"
    return DECLINES.get(code, DeclineCode.OTHER), code


def _error_code(told: Mapping[str, Any]) -> str:
    return plain(member(told, "error", "code")) or "no code"
