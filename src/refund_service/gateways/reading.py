"""Reading what a gateway wrote, without ever raising: objects, plain ids, keepable texts, moments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from refund_service.card_numbers import mask_cards

LONGEST_TEXT: Final = 500
_LONGEST_PAUSE: Final = 3600
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,255}")
"""Ids and references: anything else could not be stored or sent back as it came."""
_SECRETS: Final = re.compile(
    r"\b(?:sk|rk|pk|whsec)_[A-Za-z0-9_]{6,}|\b(?:Bearer|Basic)\s+\S+|\bAQE[A-Za-z0-9+/=_\-.]{20,}",
    re.IGNORECASE,
)
_MAIL: Final = re.compile(r"[^\s@<>()\"',;:]+@[^\s@<>()\"',;:]+\.[A-Za-z]{2,}")
_IBAN: Final = re.compile(r"\b[A-Z]{2}[0-9]{2}(?:\s?[A-Z0-9]{4}){2,7}(?:\s?[A-Z0-9]{1,4})?\b")
_FIRST_MOMENT: Final = 0
_LAST_MOMENT: Final = 253_402_300_799
"""The last second of the year 9999."""


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in the body; empty where there is none."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def member(told: object, *path: str | int) -> Any:
    """What stands at ``path`` within objects and lists; ``None`` where the way breaks off."""
    for step in path:
        if isinstance(step, str) and isinstance(told, dict):
            told = told.get(step)
        elif isinstance(step, int) and isinstance(told, list) and step < len(told):
            told = told[step]
        else:
            return None
    return told


def plain(told: object) -> str | None:
    """An id, a code or a reference: visible ASCII, at most 255 characters."""
    return told if isinstance(told, str) and _PLAIN.fullmatch(told) else None


def keepable(told: object) -> str:
    """A gateway's free text as it may be stored: short, printable, and without what is nobody's business.

    Card numbers, bank accounts, e-mail addresses and keys are masked.
    """
    if not isinstance(told, str):
        return ""
    text = "".join(letter if letter.isprintable() else " " for letter in told[: 4 * LONGEST_TEXT])
    text = mask_cards(" ".join(text.split()))
    for pattern, mask in ((_SECRETS, "[secret]"), (_MAIL, "[e-mail]"), (_IBAN, "[account]")):
        text = pattern.sub(mask, text)
    return text[:LONGEST_TEXT]


def moment_of(seconds: object) -> datetime | None:
    """A Unix time in whole seconds."""
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        return None
    return datetime.fromtimestamp(seconds, UTC) if _FIRST_MOMENT < seconds <= _LAST_MOMENT else None


def moment_in(text: object) -> datetime | None:
    """An RFC 3339 or ISO 8601 time that says its zone."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """``Retry-After`` in seconds (RFC 9110, 10.2.3), an hour at most; header names are in lower case."""
    told = headers.get("retry-after", "")
    if not re.fullmatch(r"[0-9]{1,9}", told):
        return None
    return timedelta(seconds=min(int(told), _LONGEST_PAUSE))
