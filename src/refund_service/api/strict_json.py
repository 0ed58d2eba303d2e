"""JSON as clients may send it: what parsers disagree about is refused, not guessed at.

Two readers of one body (a proxy and we, we and a gateway) must see the same request. So a name
stands once in an object, numbers are finite and of a bearable length, text is UTF-8.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from refund_service.api.pointers import MOST_ERRORS, field_error, pointer_to
from refund_service.api.refusals import BodyMalformed, BodyUnreadable

DEEPEST: Final = 32
LONGEST_NUMBER: Final = 100
"""Digits. A longer number is no amount; Python would refuse 4,300 of them by itself."""


class _Repeated(dict[str, Any]):
    """An object in which a name stood twice."""

    twice: str


def parse(body: bytes) -> object:
    """What the body says; ``BodyUnreadable`` or ``BodyMalformed`` where it may not be said so."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyUnreadable(f"The body is not UTF-8 (byte {error.start}).") from None
    if text.startswith("\ufeff"):
        raise BodyUnreadable("The body begins with a byte order mark.")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BodyUnreadable(f"The body is not JSON (line {error.lineno}, column {error.colno}).") from None
    except RecursionError:
        raise _too_deep() from None
    # UTF-8 holds no surrogates and JSON no bare NUL: only escapes can smuggle them in.
    _inspect(value, escapes="\\u" in text)
    return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) == len(members):
        return found
    repeated = _Repeated(found)
    counts = Counter(name for name, _ in members)
    repeated.twice = counts.most_common(1)[0][0]
    return repeated


def _integer(digits: str) -> int:
    _check_length(digits)
    return int(digits)


def _float(digits: str) -> float:
    _check_length(digits)
    return float(digits)


def _check_length(digits: str) -> None:
    if len(digits) > LONGEST_NUMBER:
        raise BodyUnreadable(f"A number has more than {LONGEST_NUMBER} digits.")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float)


def _too_deep() -> BodyUnreadable:
    return BodyUnreadable(f"Arrays and objects are nested deeper than {DEEPEST}.")


def _inspect(value: object, *, escapes: bool) -> None:
    """Refuse what is JSON and yet not allowed, wherever it lies."""
    errors: list[dict[str, str]] = []
    waiting: list[tuple[object, tuple[str | int, ...]]] = [(value, ())]
    while waiting and len(errors) < MOST_ERRORS:
        found, path = waiting.pop()
        match found:
            case dict() | list() if len(path) >= DEEPEST:
                raise _too_deep()
            case dict():
                errors += _wrong_names(found, path, escapes=escapes)
                waiting += [(inner, (*path, name)) for name, inner in found.items()]
            case list():
                waiting += [(inner, (*path, place)) for place, inner in enumerate(found)]
            case float() if not math.isfinite(found):
                errors.append(field_error(pointer_to(path), "not-finite", "The number is not finite."))
            case str() if escapes and (code := _unfit(found)):
                errors.append(field_error(pointer_to(path), code, _UNFIT[code]))
            case _:
                pass
    if errors:
        raise BodyMalformed("The body is JSON, but holds what is not allowed.", errors=errors)


def _wrong_names(
    found: dict[str, Any], path: tuple[str | int, ...], *, escapes: bool
) -> Iterator[dict[str, str]]:
    if isinstance(found, _Repeated):
        pointer = pointer_to((*path, found.twice))
        yield field_error(pointer, "duplicate-member", "The name stands twice in one object.")
    if escapes:
        for name in found:
            if code := _unfit(name):
                yield field_error(pointer_to((*path, name)), code, _UNFIT[code])


_UNFIT: Final = {
    "nul-character": "Text may not hold the character NUL.",
    "lone-surrogate": "Text may not hold half of a surrogate pair.",
}


def _unfit(text: str) -> str | None:
    """Why the text cannot be stored, as a code."""
    if "\x00" in text:
        return "nul-character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "lone-surrogate"
    return None
