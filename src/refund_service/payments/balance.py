"""What of a payment is available: one rule, as a pure sum and as a column expression."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause


def available_of(captured: int, held: int, refunded: int, disputed: int) -> int:
    """Minor units that may still be promised; never negative."""
    return max(0, captured - held - refunded - disputed)


def available(payment: FromClause) -> ColumnElement[Any]:
    """The same of a row, for guards: negative where the gateway's facts exceed the capture."""
    return payment.c.captured - payment.c.held - payment.c.refunded - payment.c.disputed
