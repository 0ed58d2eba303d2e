"""The header ``Idempotency-Key`` as it comes in, and what a request is recognised by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Final

from refund_service.api.refusals import IdempotencyKeyInvalid, IdempotencyKeyMissing
from refund_service.card_numbers import looks_like_card

_VISIBLE: Final = re.compile(rb"[!-~]{1,255}")
_WHITESPACE: Final = b" \t"


def read_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key among a request's raw headers, or ``None`` where there is none.

    Taken as it is: case counts, and nothing in it means anything. Only the whitespace that HTTP
    puts around a value goes, and one pair of quotes, with which the standard's draft writes keys.
    """
    values = [value for name, value in headers if name.lower() == b"idempotency-key"]
    if not values:
        return None
    if len(values) > 1:
        raise IdempotencyKeyInvalid("The header was sent more than once.")
    key = values[0].strip(_WHITESPACE)
    if key[:1] == key[-1:] == b'"' and len(key) > 1:
        key = key[1:-1]
    if not _VISIBLE.fullmatch(key):
        raise IdempotencyKeyInvalid("The key is not 1 to 255 visible ASCII characters.")
    text = key.decode("ascii")
    if looks_like_card(text):
        # It is kept for ever, and a card number never is.
        raise IdempotencyKeyInvalid("The key looks like a card number.")
    return text


def require_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key; ``IdempotencyKeyMissing`` where there is none."""
    key = read_key(headers)
    if key is None:
        raise IdempotencyKeyMissing("This request needs the header Idempotency-Key.")
    return key


def fingerprint(method: str, path: str, query: str, body: object) -> bytes:
    """What tells one request from another: method, path, query and the body as it was parsed.

    Spelling (spaces, the order of members, escapes) does not count; the kind of a number does:
    ``1``, ``1.0`` and ``true`` are three things.
    """
    told = json.dumps([method, path, query, body], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(told.encode()).digest()
