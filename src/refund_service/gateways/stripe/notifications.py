"""Stripe's events: https://docs.stripe.com/webhooks#verify-manually and https://docs.stripe.com/api/events.

Their order is not guaranteed and what they show may be old: of a refund they only say that it is
time to look.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Any, Final

from refund_service.gateways.notices import (
    Delivery,
    DisputeNotice,
    Forged,
    Genuine,
    Notice,
    OtherNotice,
    RefundNotice,
)
from refund_service.gateways.protocol import Account
from refund_service.gateways.reading import json_object, member, moment_of, plain
from refund_service.gateways.stripe.words import DISPUTES, EXPONENTS
from refund_service.gateways.units import from_gateway_minor

TOLERANCE: Final = 300
"""Seconds that a signature may be old; one from the future is taken, as Stripe's own libraries do."""

_SECRETS: Final = ("webhook_secret", "previous_webhook_secret")
_TIME: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_REFUNDS: Final = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
_DISPUTES: Final = frozenset(
    {
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
    }
)


def verdict_on(delivery: Delivery, account: Account, now: datetime) -> Genuine | Forged:
    """Whether one of the signatures is the raw body's, under either secret, and young enough."""
    told = [part.partition("=") for part in delivery.headers.get("stripe-signature", "").split(",")]
    times = [value for name, _, value in told if name.strip() == "t"]
    signatures = [value.strip() for name, _, value in told if name.strip() == "v1"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]) or not signatures:
        return Forged("no signature")
    signed = times[0].encode() + b"." + delivery.body
    secrets = [account.credentials[name] for name in _SECRETS if account.credentials.get(name)]
    wanted = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    # Every pair is compared, so that the time it takes says nothing of which one fits.
    matches = [
        hmac.compare_digest(one.encode(), signature.encode()) for one in wanted for signature in signatures
    ]
    if not any(matches):
        return Forged("another signature" if secrets else "no secret here to check it by")
    if int(times[0]) < now.timestamp() - TOLERANCE:
        return Forged(f"older than {TOLERANCE} s")
    return Genuine()


def notices_in(delivery: Delivery) -> tuple[Notice, ...]:
    """The one thing that an event tells; one that cannot be read is told as not known."""
    event = json_object(delivery.body)
    id_, type_ = plain(event.get("id")), plain(event.get("type")) or "unnamed"
    shown = member(event, "data", "object")
    key = id_ or hashlib.sha256(delivery.body).hexdigest()
    happened_at = moment_of(event.get("created"))
    if id_ and type_ in _REFUNDS and (refund := plain(member(shown, "id"))):
        payments = (plain(member(shown, name)) for name in ("payment_intent", "charge"))
        return (
            RefundNotice(
                dedupe_key=key,
                type=type_,
                gateway_refund_id=refund,
                our_reference=plain(member(shown, "metadata", "refund_attempt")),
                payment_reference=next((named for named in payments if named), None),
                happened_at=happened_at,
            ),
        )
    if id_ and type_ in _DISPUTES and (dispute := _dispute(key, type_, shown, happened_at)):
        return (dispute,)
    return (OtherNotice(key, type_, known=type_ not in _REFUNDS | _DISPUTES and id_ is not None),)


def _dispute(key: str, type_: str, shown: Any, happened_at: datetime | None) -> DisputeNotice | None:
    id_, status = plain(member(shown, "id")), member(shown, "status")
    payments = (plain(member(shown, name)) for name in ("payment_intent", "charge"))
    payment = next((named for named in payments if named), None)
    amount = from_gateway_minor(member(shown, "amount"), member(shown, "currency"), EXPONENTS)
    if not id_ or not payment or amount is None or not isinstance(status, str) or status not in DISPUTES:
        return None
    return DisputeNotice(key, type_, id_, payment, amount, DISPUTES[status], happened_at)
