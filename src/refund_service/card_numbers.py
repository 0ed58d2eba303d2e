"""Card numbers in free text: found, so that they can be refused before they are stored, and masked.

Not every Luhn-valid run of digits is a card. An IMEI always is Luhn-valid, and so is every tenth
bar code, gateway reference or time in milliseconds; refusing those would refuse honest notes. So a
number counts when it has sixteen digits, or the length and first digits of an issuer's cards.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

MASK: Final = "[card number]"

_SHORTEST: Final = 13
_LONGEST: Final = 19
_ALWAYS: Final = 16
_SMALLEST_GROUP: Final = 3
"""Cards are written in groups of three digits and more; dates, prices and expiries are not."""

_BETWEEN: Final = r"[\s.\-\u2010-\u2015\u2212\uff0d/_]"
"""Spaces, dashes of any kind, dots, slashes, underscores: up to three between groups of digits."""
_RUN: Final = re.compile(rf"\d+(?:{_BETWEEN}{{1,3}}\d+)*")
_GROUP: Final = re.compile(r"\d+")
_UUID: Final = re.compile(
    r"(?<![0-9a-z])[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}(?![0-9a-z])",
    re.IGNORECASE,
)
"""One in three thousand random ones holds digits that pass for a card: refusing those would be a riddle."""

_ENOUGH: Final = re.compile(rf"\d(?:{_BETWEEN}{{0,3}}\d){{{_SHORTEST - 1}}}")

_ISSUERS: Final = (
    (re.compile(r"4"), frozenset({13, 16, 19})),  # Visa
    (re.compile(r"3[47]"), frozenset({15})),  # American Express
    (re.compile(r"30[0-5]|3[689]"), frozenset(range(14, 20))),  # Diners Club
    (re.compile(r"352[89]|35[3-8]"), frozenset(range(16, 20))),  # JCB
    (re.compile(r"6011|62|64[4-9]|65|81"), frozenset(range(16, 20))),  # Discover, UnionPay
    (re.compile(r"220[0-4]"), frozenset(range(16, 20))),  # Mir
    (re.compile(r"5018|5020|5038|5893|6304|6759|676[1-3]"), frozenset(range(13, 20))),  # Maestro
)


def looks_like_card(text: str) -> bool:
    """Whether the text holds what can be a card's number, in whatever script its digits are."""
    return next(_cards(text), None) is not None


def mask_cards(text: str) -> str:
    """The text with ``MASK`` where card numbers stood."""
    masked, end = [], 0
    for start, stop in _cards(text):
        masked += [text[end:start], MASK]
        end = stop
    return "".join([*masked, text[end:]]) if masked else text


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Where card numbers stand, from left to right."""
    # Every value of every log line comes by here, and hardly any has so many digits in a row.
    if len(text) < _SHORTEST or not _ENOUGH.search(text):
        return
    text = _UUID.sub(lambda uuid: "x" * len(uuid[0]), text)
    for run in _RUN.finditer(text):
        groups = [found.span() for found in _GROUP.finditer(text, *run.span())]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is None:
                first += 1
            else:
                yield groups[first][0], groups[last][1]
                first = last + 1


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last group of the card that begins with group ``first``; an expiry may follow it."""
    digits, found, fours = "", None, True
    for last in range(first, len(groups)):
        start, stop = groups[last]
        length = stop - start
        if length < _SMALLEST_GROUP or len(digits) + length > _LONGEST:
            break
        digits += "".join(str(unicodedata.decimal(letter)) for letter in text[start:stop])
        fours = fours and length == 4  # noqa: PLR2004 - 1234 1234 1234 1234, as it is embossed
        if _is_card(digits, whole=last == first or fours):
            found = last
    return found


def _is_card(digits: str, *, whole: bool) -> bool:
    if len(digits) < _SHORTEST or not _luhn(digits):
        return False
    if whole and len(digits) == _ALWAYS and digits != "0" * _ALWAYS:
        return True
    return any(len(digits) in lengths and begins.match(digits) for begins, lengths in _ISSUERS)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2  # noqa: PLR2004 - two digits are added up
        total += value
    return total % 10 == 0
