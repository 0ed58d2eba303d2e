"""Ids, keys and all other randomness.

An id is 128 bits whose first 48 are the time in milliseconds (RFC 9562, UUIDv7): rows of one
day lie together, and a table can later be partitioned by ranges of its id. It is stored as
``uuid`` and shown with a prefix at the edge only, in lower-case Crockford base 32.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import time
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

NIL: Final = UUID(int=0)

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_LENGTH: Final = 26  # 130 bits for 128: the first letter is one of 0 to 7
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS: Final = range(120, -1, -10)
"""Two letters at a time: an answer shows a dozen ids."""
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

PREFIXES: Final = {
    "attempt": "att",
    "decision": "dec",
    "event": "evt",
    "gateway_account": "ga",
    "merchant": "mer",
    "order": "ord",
    "payment": "pay",
    "refund": "rf",
}


class NotAnId(ValueError):
    """The text is not an id of the kind asked for."""


_latest = [0]
"""The id given out last: the next one of the same millisecond is larger."""


def new_id() -> UUID:
    """A new time-ordered id (RFC 9562, version 7, monotonic within a millisecond of the process)."""
    stamp = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10), "big")
    value = (stamp & (1 << 48) - 1) << 80 | chance & (1 << 80) - 1
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    # What is written in one go is read in the order in which it was named.
    if _latest[0] >> 80 == stamp:
        value = max(value, _latest[0] + 1)
    _latest[0] = value
    return UUID(int=value)


def first_id_at(moment: datetime, *, ahead: timedelta = timedelta(0)) -> UUID:
    """The smallest id that ``new_id`` could have given out so long after a moment."""
    # In numbers, because the calendar has an end and a beginning.
    stamp = int((moment.timestamp() + ahead.total_seconds()) * 1000)
    return UUID(int=max(0, min(stamp, (1 << 48) - 1)) << 80)


def show(kind: str, id_: UUID) -> str:
    """An id as clients see it: ``rf_01k…``."""
    value = id_.int
    return f"{PREFIXES[kind]}_{''.join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])}"


def read(kind: str, text: str) -> UUID:
    """The id behind what a client sent; ``NotAnId`` when it cannot be one of that kind."""
    prefix, _, digits = text.partition("_")
    if prefix != PREFIXES[kind] or len(digits) != _LENGTH or not set(digits) <= _VALUES.keys():
        raise NotAnId(text)
    value = 0
    for letter in digits:
        value = value * 32 + _VALUES[letter]
    if value >> 128:
        raise NotAnId(text)
    return UUID(int=value)


def schema(kind: str) -> dict[str, Any]:
    """What ids of a kind look like to clients, as a JSON schema."""
    pattern = f"^{PREFIXES[kind]}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"
    return {"type": "string", "pattern": pattern, "examples": [show(kind, _EXAMPLE)]}


_EXAMPLE: Final = UUID("0193a4c5-6f00-7abc-8def-0123456789ab")


def gateway_key(merchant_id: UUID, idempotency_key: str, generation: int) -> UUID:
    """The key a gateway gets: a function of merchant, the refund's own key and the generation.

    Being computed and not drawn, it survives a restored backup: a client's retry reaches the
    gateway under the key that the gateway already knows. Shaped like a UUIDv4, the one shape
    that every gateway's limit and alphabet allows.
    """
    told = f"refund\n{merchant_id}\n{generation}\n{idempotency_key}".encode()
    return UUID(bytes=hashlib.sha256(told).digest()[:16], version=4)


def secret_token(length: int = 43) -> str:
    """``length`` base-62 letters from the system's generator; 43 of them hold 256 bits."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def base62(value: int, length: int) -> str:
    """``value`` in base 62, padded to ``length``."""
    letters = []
    for _ in range(length):
        value, digit = divmod(value, 62)
        letters.append(_BASE62[digit])
    return "".join(reversed(letters))


def jitter(seconds: float, share: float = 0.1) -> float:
    """``seconds`` and up to ``share`` more, so that what failed together does not return together.

    Never less: a gateway that asks to be left alone for a while is.
    """
    return seconds * random.uniform(1, 1 + share)  # noqa: S311 - spreads load, guards nothing
