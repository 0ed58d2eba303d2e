"""Stripe's refunds: https://docs.stripe.com/api/refunds. Forms go out, JSON comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    Answer,
    BankReference,
    Cancellation,
    CannotTell,
    DeclineCode,
    Declined,
    Finding,
    Found,
    Further,
    GatewayRefund,
    GatewayState,
    InFlight,
    Misconfigured,
    NotSent,
    PaymentReading,
    PaymentRecord,
    PreparedRequest,
    RefundPage,
    Settlement,
    TooLate,
    Unknown,
    Usable,
)
from refund_service.gateways.notices import Delivery, Forged, Genuine, Notice, Verification
from refund_service.gateways.protocol import (
    Account,
    Field,
    GatewayTraits,
    RefundCommand,
    RefundProbe,
    Response,
)
from refund_service.gateways.reading import json_object, keepable, member, moment_of, plain, retry_after
from refund_service.gateways.stripe.notifications import notices_in, verdict_on
from refund_service.gateways.stripe.words import (
    DECLINES,
    EXPONENTS,
    FAILURES,
    MALFORMED,
    REASONS,
    STATES,
    STEPS,
)
from refund_service.gateways.units import from_gateway_minor, to_gateway_minor

VERSION: Final = "2026-10-28.endive"
"""Pinned, so that what comes back has the shape that was tried."""

OURS: Final = "refund_attempt"
"""The member of ``metadata`` that holds our key: there is no filter for it, so lists are read through."""

_PAGE: Final = 100
_OK: Final = 200
_DAY: Final = timedelta(days=1)


class StripeGateway:
    """The adapter."""

    name = "stripe"
    title = "Stripe"
    fields = (
        Field(
            "secret_key",
            "Developers → API keys: a secret key, or one that may write refunds and read charges.",
            secret=True,
            pattern=r"(sk|rk)_(test|live)_[A-Za-z0-9]{8,255}",
        ),
        Field(
            "webhook_secret",
            "Developers → Webhooks → the endpoint: its signing secret.",
            secret=True,
            required=False,
            pattern=r"whsec_[\x21-\x7e]{8,255}",
        ),
        Field(
            "stripe_account",
            "Platforms only: the connected account whose payments these are.",
            required=False,
            pattern=r"acct_[A-Za-z0-9]{1,255}",
        ),
    )

    def base_url(self, settings: Mapping[str, Any], *, livemode: bool) -> str:  # noqa: ARG002 - the protocol's
        """One host for both: the key decides which it is."""
        return "https://api.stripe.com"

    def traits(self, settings: Mapping[str, Any]) -> GatewayTraits:  # noqa: ARG002 - the protocol's
        """As documented; keys are pruned after 24 hours, so we stop well before."""
        return GatewayTraits(
            idempotency="header",
            replay_horizon=timedelta(hours=20),
            lookup="by_payment",
            enough_misses=4,
            enough_miss_time=timedelta(minutes=15),
            poll_plan=(timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6), _DAY),
            parallel_calls=16,
            # 5 to 10 business days: https://docs.stripe.com/refunds
            arrives_within=14 * _DAY,
            exponents=EXPONENTS,
            steps=STEPS,
        )

    def authorize(self, account: Account) -> Mapping[str, str]:
        """The secret key."""
        return {"Authorization": f"Bearer {account.credentials['secret_key']}"}

    def render_refund(self, command: RefundCommand, account: Account) -> PreparedRequest:
        """``POST /v1/refunds``. Raises ``ValueError`` for an amount that Stripe's units cannot hold."""
        amount = to_gateway_minor(command.amount, EXPONENTS)
        if amount is None:
            raise ValueError("Stripe's units cannot hold this amount")
        key = str(command.key)
        form = {
            _kind(command.payment_reference): command.payment_reference,
            "amount": str(amount),
            f"metadata[{OURS}]": key,
        }
        if command.reason in REASONS:
            form["reason"] = REASONS[command.reason]
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": key}
        return PreparedRequest(
            "POST", "/v1/refunds", _about(account) | headers, urlencode(sorted(form.items())).encode()
        )

    def read_refund(self, response: Response, command: RefundCommand) -> Answer:
        """What the answer means. The type of content is not asked: a replay may come as another one."""
        told = json_object(response.body)
        kind, code = _word(told, "type"), _word(told, "code")
        match response.status:
            case 200:
                refund = _refund(told, paid=command.payment_reference)
                return Accepted(refund) if refund else Unknown("HTTP 200, not a refund")
            case 401 | 403:
                return Misconfigured(f"HTTP {response.status}, {code or kind}")
            case 409 if code == "idempotency_key_in_use":
                return InFlight(retry_after(response.headers))
            case 429:
                # The limiter, or the lock on the charge: both turn it away unread.
                return NotSent(f"HTTP 429, {code or kind}", retry_after(response.headers))
            case 400 if code in DECLINES:
                return Declined(DECLINES[code], code, _message(told))
            case 400 if not code and kind == "invalid_request_error" and _more_than_is_left(told):
                return Declined(DeclineCode.AMOUNT_TOO_HIGH, "amount", _message(told))
            case 404 if code == "resource_missing" and _word(told, "param") in {"charge", "payment_intent"}:
                return Declined(DeclineCode.PAYMENT_NOT_FOUND, code, _message(told))
            case 400 if code in MALFORMED:
                return Misconfigured(f"HTTP 400, {code}")
            case status:
                return Unknown(f"HTTP {status}, {code or kind or 'no code'}")

    def render_look_up(self, probe: RefundProbe, account: Account) -> PreparedRequest:
        """``GET /v1/refunds/{id}``, or the refunds of the payment."""
        if probe.gateway_refund_id is not None:
            return _get(f"/v1/refunds/{quote(probe.gateway_refund_id, safe='')}", account)
        return _get(_list_of(probe.payment_reference), account)

    def read_look_up(self, response: Response, probe: RefundProbe) -> Finding | Further:
        """What was found: only a list that was read to its end says that nothing is there."""
        told = json_object(response.body)
        if response.status != _OK:
            return CannotTell(f"HTTP {response.status}, {_word(told, 'code') or 'no code'}")
        if probe.gateway_refund_id is not None:
            refund = _refund(told, paid=probe.payment_reference)
            return Found(refund) if refund else CannotTell("HTTP 200, not a refund")
        listed = told.get("data")
        if not isinstance(listed, list) or not isinstance(told.get("has_more"), bool):
            return CannotTell("HTTP 200, not a list of refunds")
        found = list(probe.found)
        for one in listed:
            if member(one, "metadata", OURS) == str(probe.key):
                refund = _refund(one, paid=probe.payment_reference)
                if refund is None:
                    return CannotTell("HTTP 200, a refund of ours that cannot be read")
                found.append(refund)
        if told["has_more"]:
            last = plain(member(listed, len(listed) - 1, "id")) if listed else None
            if last is None:
                return CannotTell("HTTP 200, more than is told, and no way there")
            after = f"{_list_of(probe.payment_reference)}&{urlencode({'starting_after': last})}"
            return Further(after, tuple(found))
        if len(found) > 1:
            # Money has moved more than once under one key: no machine may pick one of them.
            return CannotTell(f"mismatch: {len(found)} refunds under one reference", differs=True)
        return Found(found[0]) if found else Absent()

    def render_payment(self, reference: str, account: Account) -> PreparedRequest:
        """``GET /v1/payment_intents/{id}`` or ``/v1/charges/{id}``."""
        where = "payment_intents" if _kind(reference) == "payment_intent" else "charges"
        return _get(f"/v1/{where}/{quote(reference, safe='')}", account)

    def read_payment(self, response: Response, reference: str) -> PaymentReading | Further:
        """The charge has the facts; an intent names its latest one."""
        told = json_object(response.body)
        if response.status == 404 and _word(told, "code") == "resource_missing":  # noqa: PLR2004 - not found
            return Absent()
        if response.status != _OK:
            return CannotTell(f"HTTP {response.status}, {_word(told, 'code') or 'no code'}")
        if told.get("object") == "payment_intent" and told.get("id") == reference:
            charge = plain(told.get("latest_charge"))
            return Further(f"/v1/charges/{quote(charge, safe='')}") if charge else CannotTell("no charge yet")
        if told.get("object") != "charge" or reference not in {told.get("id"), told.get("payment_intent")}:
            return CannotTell("HTTP 200, another payment than asked for")
        captured, refunded = (
            from_gateway_minor(told.get(name), told.get("currency"), EXPONENTS)
            for name in ("amount_captured", "amount_refunded")
        )
        if captured is None or refunded is None or not isinstance(told.get("disputed"), bool):
            return CannotTell("HTTP 200, not a charge as documented")
        return PaymentRecord(
            reference,
            captured=captured,
            refunded=refunded,
            captured_at=moment_of(told.get("created")),
            disputed=told["disputed"],
            order_name=plain(member(told, "metadata", "order_id")),
        )

    def render_refunds(self, since: datetime, until: datetime, account: Account) -> PreparedRequest:
        """``GET /v1/refunds``, by the time they were made."""
        asked = {
            "created[gte]": int(since.timestamp()),
            "created[lt]": int(until.timestamp()),
            "limit": _PAGE,
        }
        return _get(f"/v1/refunds?{urlencode(asked)}", account)

    def read_refunds(self, response: Response, asked: PreparedRequest) -> RefundPage | CannotTell:
        """One page; one refund that cannot be read makes the page one that cannot."""
        told = json_object(response.body)
        listed = told.get("data")
        if response.status != _OK or not isinstance(listed, list):
            return CannotTell(f"HTTP {response.status}, {_word(told, 'code') or 'not a list'}")
        refunds = tuple(refund for one in listed if (refund := _refund(one)))
        if len(refunds) < len(listed):
            return CannotTell("HTTP 200, a refund that cannot be read")
        if told.get("has_more") is not True:
            return RefundPage(refunds)
        if not refunds:
            return CannotTell("HTTP 200, more than is told, and no way there")
        path, _, query = asked.path.partition("?")
        following = dict(parse_qsl(query)) | {"starting_after": refunds[-1].id}
        return RefundPage(refunds, replace(asked, path=f"{path}?{urlencode(following)}"))

    def render_cancel(self, gateway_refund_id: str, account: Account) -> PreparedRequest:
        """``POST /v1/refunds/{id}/cancel``: taken while it requires action, and only then."""
        path = f"/v1/refunds/{quote(gateway_refund_id, safe='')}/cancel"
        return PreparedRequest("POST", path, _about(account), b"")

    def read_cancel(self, response: Response) -> Cancellation:
        """What became of it."""
        told = json_object(response.body)
        code = _word(told, "code") or _word(told, "type")
        match response.status:
            case 200:
                refund = _refund(told)
                return Accepted(refund) if refund else Unknown("HTTP 200, not a refund")
            case 400 if _word(told, "type") == "invalid_request_error":
                return TooLate(code or "invalid_request_error")
            case 401 | 403:
                return Misconfigured(f"HTTP {response.status}, {code}")
            case 429:
                return NotSent("HTTP 429", retry_after(response.headers))
            case status:
                return Unknown(f"HTTP {status}, {code}")

    def render_trial(self, account: Account) -> PreparedRequest:
        """One refund of the list, whichever it is."""
        return _get("/v1/refunds?limit=1", account)

    def read_trial(self, response: Response, account: Account) -> Usable | NotSent | Unknown | Misconfigured:
        """What it says of the key."""
        told = json_object(response.body)
        match response.status:
            case 200 if isinstance(told.get("data"), list):
                return Usable(account.settings.get("stripe_account"))
            case 401 | 403:
                return Misconfigured(f"HTTP {response.status}, {_word(told, 'code') or _word(told, 'type')}")
            case 429:
                return NotSent("HTTP 429", retry_after(response.headers))
            case status:
                return Unknown(f"HTTP {status}")

    def verify(self, delivery: Delivery, account: Account, *, now: datetime) -> Verification:
        """By ``Stripe-Signature``, under the endpoint's secret or the one before it."""
        return verdict_on(delivery, account, now)

    def read_verification(self, response: Response) -> Genuine | Forged | CannotTell:  # noqa: ARG002 - the protocol's
        """Never asked: the signature says it."""
        return CannotTell("Stripe is not asked about signatures")

    def read_notices(self, delivery: Delivery, account: Account) -> tuple[Notice, ...]:  # noqa: ARG002 - the protocol's
        """The event's refund or dispute."""
        return notices_in(delivery)


def _kind(reference: str) -> str:
    return "payment_intent" if reference.startswith("pi_") else "charge"


def _list_of(payment: str) -> str:
    return f"/v1/refunds?{urlencode({_kind(payment): payment, 'limit': _PAGE})}"


def _about(account: Account) -> dict[str, str]:
    """The version, and whose payments they are where a platform asks for another."""
    headers = {"Stripe-Version": VERSION}
    if connected := account.settings.get("stripe_account"):
        headers["Stripe-Account"] = str(connected)
    return headers


def _get(path: str, account: Account) -> PreparedRequest:
    return PreparedRequest("GET", path, _about(account), b"")


def _word(told: Mapping[str, Any], name: str) -> str:
    return plain(member(told, "error", name)) or ""


def _message(told: Mapping[str, Any]) -> str:
    return keepable(member(told, "error", "message"))


def _more_than_is_left(told: Mapping[str, Any]) -> bool:
    """Stripe has no code for it: the parameter and the words say it."""
    return _word(told, "param") == "amount" and "greater than" in _message(told)


def _refund(told: object, *, paid: str | None = None) -> GatewayRefund | None:
    """The refund; nothing where a member is not as documented. ``paid`` is how we call the payment."""
    if not isinstance(told, dict) or told.get("object") != "refund":
        return None
    id_, state = plain(told.get("id")), told.get("status")
    payments = [plain(told.get(name)) for name in ("payment_intent", "charge")]
    payment = paid if paid and paid in payments else next((named for named in payments if named), None)
    amount = from_gateway_minor(told.get("amount"), told.get("currency"), EXPONENTS)
    if not id_ or not payment or amount is None or not isinstance(state, str) or state not in STATES:
        return None
    failure = plain(told.get("failure_reason")) or "none given"
    failed = STATES[state] is GatewayState.FAILED
    entry = plain(told.get("balance_transaction"))
    return GatewayRefund(
        id=id_,
        state=STATES[state],
        amount=amount,
        payment_reference=payment,
        our_reference=plain(member(told, "metadata", OURS)) or "",
        bank_reference=_bank_reference(told.get("destination_details")),
        failure=(FAILURES.get(failure, DeclineCode.OTHER), failure) if failed else None,
        settlement=Settlement(id=entry) if entry else None,
        created_at=moment_of(told.get("created")),
    )


def _bank_reference(told: object) -> BankReference | None:
    # Good to have and no more: a refund is not doubted for it.
    kind = plain(member(told, "type"))
    value, status, called = (
        plain(member(told, kind or "", name)) for name in ("reference", "reference_status", "reference_type")
    )
    return BankReference(called or "reference", value, status or "available") if value else None
