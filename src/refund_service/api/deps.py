"""What every route is given: the house it works in, who calls, and under which idempotency key."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from refund_service import clock
from refund_service.api.given import Given, header
from refund_service.api.idempotency import fingerprint, read_key, require_key
from refund_service.api.rate_limit import Allowance, RateLimiter
from refund_service.api.refusals import EdgeError, Forbidden, Unauthorized
from refund_service.api.visit import visit_of
from refund_service.card_numbers import looks_like_card
from refund_service.db.engine import Database
from refund_service.idempotency.keys import Claim
from refund_service.merchants.keys import KeyCabinet, Principal, TooManyStrangers
from refund_service.merchants.roles import Scope
from refund_service.refunds.wait import Waiters

_ACTOR: Final = re.compile(r"[!-~]{1,255}")
LONGEST_WAIT: Final = 20
STRANGERS: Final = "strangers"
"""The one bucket of all keys that were not known a moment ago."""

VISIBLE: Final[dict[str, Any]] = {"minLength": 1, "maxLength": 255, "pattern": "^[!-~]*$"}
"""For the document only: the headers are read as they came."""


@dataclass(frozen=True, slots=True)
class House:
    """What the process shares: put together in ``app.py``, found at ``app.state.house``."""

    db: Database
    cabinet: KeyCabinet
    limiter: RateLimiter
    cursor_secret: bytes
    waiters: Waiters
    wake_worker: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Caller:
    """The key that calls, and the person it acts for."""

    principal: Principal
    actor: str


class ActorInvalid(EdgeError):
    code = "actor-invalid"
    status = 400
    title = "The header Refund-Actor is not usable"
    help = "Send it once, with 1 to 255 visible ASCII characters: an id of your own, not a name or e-mail."


async def authenticate(request: Request) -> None:
    """Who calls, whether the key's limit allows it, and for whom; before anything else is read."""
    house = cast("House", request.app.state.house)
    headers = request.headers.getlist("authorization")
    at = clock.seconds

    asked: list[Allowance] = []

    def may_ask(prefix: str | None) -> bool:
        # All made-up keys together may ask the database as often as one key may, and so may each
        # prefix that a key was made with.
        asked.append(house.limiter.take(prefix or STRANGERS, now=at()))
        return asked[-1].allowed

    try:
        principal = (
            await house.cabinet.authenticate(headers[0], at=at(), may_ask=may_ask)
            if len(headers) == 1
            else None
        )
    except TooManyStrangers as crowd:
        raise asked[-1].refusal("Keys that are not known") from crowd
    if principal is None:
        raise Unauthorized("The request carries no API key of this service, or a revoked one.")
    visit = visit_of(request.scope)
    visit.merchant_id, visit.key_id = str(principal.merchant_id), str(principal.key_id)
    # The time anew: while the key was looked up, others may have come and gone. Counted back to when
    # this request arrived, it would take away what theirs had earned since.
    allowance = house.limiter.take(str(principal.key_id), now=at())
    visit.headers |= allowance.headers()
    if not allowance.allowed:
        raise allowance.refusal()
    visit.actor = _actor(request, principal)
    request.state.caller = Caller(principal, visit.actor)


def _actor(request: Request, principal: Principal) -> str:
    told = request.headers.getlist("refund-actor")
    if not told:
        return principal.subject
    if Scope.ACT_AS not in principal.scopes:
        raise Forbidden.without(Scope.ACT_AS)
    if len(told) > 1 or not _ACTOR.fullmatch(told[0]) or looks_like_card(told[0]):
        raise ActorInvalid("Refund-Actor is not 1 to 255 visible ASCII characters.")
    return told[0]


_ACTS_FOR: Final = header("Refund-Actor", "The person the key acts for; needs the scope `act_as`.", **VISIBLE)


def needs(scope: Scope) -> Given:
    """The caller, who must hold ``scope``: annotate a route's parameter with it."""

    def caller(request: Request) -> Caller:
        found = cast("Caller", request.state.caller)
        if scope not in found.principal.scopes:
            raise Forbidden.without(scope)
        return found

    return Given(caller, scopes=(scope.value,), parameters=(_ACTS_FOR,))


def needs_any_key() -> Given:
    """The caller, whatever its key may do."""
    return Given(lambda request: request.state.caller, scopes=())


InHouse = Annotated[House, Given(lambda request: request.app.state.house)]

KeyHeader = Annotated[
    str | None,
    Given(
        None,
        parameters=(
            header(
                "Idempotency-Key",
                "The same for each repetition of one request: it acts once, for ever.",
                "3f0c6d0a-order-1001-refund-1",
                **VISIBLE,
            ),
        ),
    ),
]
"""For the OpenAPI document only; ``claim_of`` reads the header as it came."""


def claim_of(request: Request) -> Claim | None:
    """What the request is to be remembered by, where it sent a key."""
    key = read_key(request.scope["headers"])
    return None if key is None else _claim(request, key)


def required_claim(request: Request, *, reference: str | None, kind: str) -> Claim:
    """The same where a key is needed; the body's own ``reference`` may stand in for it.

    Raises ``IdempotencyKeyMissing`` where neither is there.
    """
    if reference is not None and read_key(request.scope["headers"]) is None:
        # A space, which no header's key can hold, keeps the two kinds of key apart.
        return _claim(request, f"{kind} {reference}")
    return _claim(request, require_key(request.scope["headers"]))


def _claim(request: Request, key: str) -> Claim:
    if " " not in key:
        visit_of(request.scope).headers["Idempotency-Key"] = key
    told = fingerprint(
        request.method, request.url.path, request.scope["query_string"].decode("latin-1"), request.state.body
    )
    return Claim(key, told)


def preferred_wait(request: Request) -> int:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most 20; 0 where there is none."""
    for told in request.headers.getlist("prefer"):
        for preference in told.split(","):
            name, _, value = (part.strip() for part in preference.partition("="))
            if name.lower() == "wait" and value.isdigit() and value.isascii():
                # No more digits than a number of seconds has; leading zeros are none of them.
                return min(int(value.lstrip("0")[:9] or 0), LONGEST_WAIT)
    return 0


def answer(
    model: BaseModel,
    *,
    status: int = 200,
    location: str | None = None,
    replayed: bool = False,
    waited: int = 0,
) -> Response:
    """A resource as JSON, with the headers that tell what became of the request."""
    headers = {}
    if location is not None:
        headers["Location"] = location
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if waited:
        headers["Preference-Applied"] = f"wait={waited}"
    return Response(model.model_dump_json(by_alias=True), status, headers, "application/json")
