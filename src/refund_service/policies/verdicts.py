"""What a decision comes to."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a decision comes to."""

    ALLOWED = "allowed"
    REFUSED = "refused"
