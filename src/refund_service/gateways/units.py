"""Amounts as gateways write them: whole numbers of *their* smallest unit, or decimal strings.

The number of decimals is the gateway's own, not always ISO 4217's: an adapter's traits name the
exceptions (``GatewayTraits.exponents``). Reading never raises: what is not a plain amount is ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from refund_service.money import EXPONENTS, LARGEST_AMOUNT, Money

_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,9}))?", re.ASCII)


def to_gateway_minor(money: Money, exponents: Mapping[str, int]) -> int | None:
    """In the gateway's smallest unit; ``None`` where that cannot hold it exactly."""
    step = exponents.get(money.currency, EXPONENTS[money.currency]) - EXPONENTS[money.currency]
    if step >= 0:
        return money.minor * int(10**step)
    minor, rest = divmod(money.minor, 10**-step)
    return None if rest else int(minor)


def from_gateway_minor(minor: object, currency: object, exponents: Mapping[str, int]) -> Money | None:
    """The amount that a gateway tells as a whole number (no boolean, no text)."""
    if not isinstance(minor, int) or isinstance(minor, bool) or not isinstance(currency, str):
        return None
    code = currency.upper()
    if code not in EXPONENTS:
        return None
    step = EXPONENTS[code] - exponents.get(code, EXPONENTS[code])
    if step >= 0:
        return _bounded(minor * 10**step, code)
    ours, rest = divmod(minor, 10**-step)
    return None if rest else _bounded(int(ours), code)


def to_decimal(money: Money, exponents: Mapping[str, int]) -> str | None:
    """As a decimal string with just the gateway's decimals; ``None`` where they do not suffice."""
    minor = to_gateway_minor(money, exponents)
    if minor is None:
        return None
    digits = exponents.get(money.currency, EXPONENTS[money.currency])
    sign, text = "-" * (minor < 0), str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def from_decimal(text: object, currency: object, exponents: Mapping[str, int]) -> Money | None:
    """The amount in a decimal string: plain ASCII digits and at most one point.

    No exponents, no NaN, no other scripts' digits, and no more decimals than the gateway's currency
    has unless they are zeros.
    """
    if not isinstance(text, str) or not isinstance(currency, str) or currency not in EXPONENTS:
        return None
    parts = _DECIMAL.fullmatch(text)
    if parts is None:
        return None
    digits = exponents.get(currency, EXPONENTS[currency])
    fraction = parts[3] or ""
    if fraction[digits:].strip("0"):
        return None
    minor = int(parts[1] + parts[2] + fraction[:digits].ljust(digits, "0"))
    return from_gateway_minor(minor, currency, exponents)


def _bounded(minor: int, currency: str) -> Money | None:
    return Money(minor, currency) if abs(minor) <= LARGEST_AMOUNT else None
