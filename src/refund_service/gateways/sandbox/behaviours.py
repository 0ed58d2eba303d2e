"""What a refund's ``metadata.sandbox`` can ask of the sandbox: ``name`` or ``name:argument``.

"First" means the first POST under a key at an account. A distorted answer is distorted on its way
out: where the account deduplicates, a repeated POST gets the honest answer that was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from refund_service.gateways.answers import DeclineCode

SECONDS: Final = {
    # Pending, then succeeded.
    "succeed_late": 2.0,
    # Pending, then failed.
    "fail_late": 2.0,
    # Succeeded, then failed.
    "fail_after_success": 2.0,
    # Executes, then answers late.
    "slow": 2.0,
    # The first POST takes so long; others under its key meanwhile get 409 in_progress.
    "in_progress": 2.0,
}
"""Behaviours whose argument is a time, and the time where none is given."""

PLAIN: Final = (
    "succeed",
    # Pending until it is settled by ``POST /v1/refunds/{id}/settle``.
    "pend",
    # Waits for the customer, until it is settled.
    "requires_action",
    # Executes, then hangs up without a byte.
    "lose_answer",
    # Executes, then hangs up in the middle of the answer.
    "cut_answer",
    # The first POST: hangs up without executing.
    "lose_request",
    # Executes, and answers 200 with a web page.
    "nonsense",
    # Executes, and tells another amount.
    "other_amount",
    # Executes, and tells a status that no one documented.
    "unknown_status",
    # The first POST: 500, not executed.
    "error_500",
    # Executes, and answers 500.
    "error_500_executed",
    # The first POST: 429 with Retry-After, not executed.
    "rate_limit",
    # 401.
    "unauthorized",
    # 400 with a code that no one documented.
    "undocumented",
)

DECLINE: Final = "decline"
"""422 with a documented code, or the one named; nothing is executed."""

LOOKUP_LAGS: Final = "lookup_lags"
"""Executes, loses the answer, and the first so many look-ups do not see it."""

NAMES: Final = frozenset((*SECONDS, *PLAIN, DECLINE, LOOKUP_LAGS))

_LONGEST: Final = 30 * 24 * 3600.0
_MOST_LAGS: Final = 1000


class UnknownBehaviour(ValueError):
    """The sandbox cannot do this."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One behaviour with its argument."""

    name: str
    seconds: float = 0.0
    lags: int = 0
    decline: DeclineCode = DeclineCode.ISSUER_DECLINED


def read_behaviour(text: str) -> Behaviour:
    """The behaviour that the text asks for."""
    name, colon, argument = text.partition(":")
    try:
        if name in SECONDS:
            return Behaviour(name, seconds=_between(float(argument), _LONGEST) if colon else SECONDS[name])
        if name == LOOKUP_LAGS:
            return Behaviour(name, lags=int(_between(int(argument), _MOST_LAGS)) if colon else 2)
        if name == DECLINE:
            return Behaviour(name, decline=DeclineCode(argument)) if colon else Behaviour(name)
        if name in PLAIN and not colon:
            return Behaviour(name)
    except ValueError as failure:
        raise UnknownBehaviour(text) from failure
    raise UnknownBehaviour(text)


def _between(value: float, most: float) -> float:
    # The comparison is false for NaN too.
    if not 0 <= value <= most:
        raise ValueError(value)
    return value
