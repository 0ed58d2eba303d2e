"""The one place that asks what time it is.

Business time (age, expiry, deadlines) comes from here and is passed on as a bind parameter.
Leases and sweeps are compared by the database's clock instead (``db_now()``), so that
machines whose clocks differ agree on who holds what.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)


def seconds() -> float:
    """A clock for durations: it never goes back."""
    return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """A moment as the API writes it: UTC, microseconds only where there are any, ``Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
