"""Gateways of four kinds, side by side: with and without deduplication, with and without a look-up.

Where one of them would make up for a mistake, another one shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clockwork import Clock
from house import Shop


@dataclass(frozen=True)
class End:
    """What becomes of the refund, and how often it was paid out."""

    status: str
    executions: int
    attention: str | None = None


PAID = End("succeeded", 1)
LOOKS_AND_KEYS, LOOKS, KEYS, NEITHER = "looks up, deduplicates", "looks up", "deduplicates", "neither"


def ends(looks: End, neither: End) -> dict[str, End]:
    """Where the gateway keeps keys, the same is sent again or found: it always ends well."""
    return {LOOKS_AND_KEYS: PAID, KEYS: PAID, LOOKS: looks, NEITHER: neither}


ALWAYS_PAID = ends(PAID, PAID)
# It may have been sent, and was not: where it would not be recognised again, a person decides.
NEVER_SENT = ends(End("unknown", 0, "not_found_at_gateway"), neither=End("unknown", 0, "cannot_be_looked_up"))
SENT = ends(PAID, neither=End("unknown", 1, "cannot_be_looked_up"))

ACCOUNTS = {
    LOOKS_AND_KEYS: {"looks_up": True, "deduplicates": True},
    LOOKS: {"looks_up": True, "deduplicates": False},
    KEYS: {"looks_up": False, "deduplicates": True},
    NEITHER: {"looks_up": False, "deduplicates": False},
}


async def until_settled(
    clock: Clock, shops: Mapping[str, Shop], refunds: Mapping[str, Any], expected: Mapping[str, End]
) -> None:
    """Turn the clock until each refund stands where it should, and a while longer."""
    for _ in range(40):
        await clock.turn(seconds=70)
        stand = [(await shop.see(refunds[name]))["status"] for name, shop in shops.items()]
        if stand == [expected[name].status for name in shops]:
            break
    for _ in range(2):
        await clock.turn(hours=2)


async def assert_ends(
    shops: Mapping[str, Shop], refunds: Mapping[str, Any], expected: Mapping[str, End]
) -> None:
    """Each refund, the only one of its shop, has come to its end; hold and sums say the same."""
    for name, shop in shops.items():
        seen = await shop.see(refunds[name])
        attention = seen["attention"]["code"] if seen["attention"] else None
        assert End(seen["status"], len(shop.executions()), attention) == expected[name], name
        amount = seen["amount"]
        held, refunded = (0, amount) if seen["status"] == "succeeded" else (amount, 0)
        assert (seen["payment"]["held"], seen["payment"]["refunded"]) == (held, refunded), name
        sent = shop.sandbox.record(account=shop.remote)["requests"]
        assert len({asked["key"] for asked in sent if asked["action"] == "refund"}) <= 1, name
