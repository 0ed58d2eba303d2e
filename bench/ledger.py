"""Names by number: every row that the bench makes has an id that SQL, pgbench and Python can tell from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

PAYMENTS = 6_000
"""Half of them the large merchant's."""

MERCHANTS = 20
LARGE = PAYMENTS // 2

SPAN_MS = 2 * 365 * 24 * 3600 * 1000
"""The refunds that are there already were made over the two years before this moment."""

START_MS = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)


def short_id(number: str, kind: int = 0) -> str:
    """SQL for the uuid of a payment, an order or a queued refund's rows, by its number."""
    return f"('000000000000{kind:x}' || ({10**18} + {number}))::uuid"


def payment_id(number: int) -> UUID:
    """The same, for requests."""
    return UUID(f"0000000000000{10**18 + number}")


@dataclass(frozen=True)
class History:
    """``refunds`` of them, evenly over ``SPAN_MS``, every second one the large merchant's."""

    refunds: int

    @property
    def step_ms(self) -> int:
        return max(1, SPAN_MS // max(1, self.refunds))

    def moment_ms(self, number: int) -> int:
        return START_MS + number * self.step_ms

    def moment(self, number: str = "n") -> str:
        """SQL: when refund ``number`` was made."""
        return f"to_timestamp(({START_MS} + {number}::bigint * {self.step_ms}) / 1000.0)"

    def id(self, kind: int, number: str = "n") -> str:
        """SQL: a time-ordered uuid; ``kind`` keeps refunds, decisions and the rest apart."""
        at = f"lpad(to_hex({START_MS} + {number}::bigint * {self.step_ms}), 12, '0')"
        return f"({at} || '7{kind:03x}8' || lpad(to_hex({number}::bigint), 15, '0'))::uuid"

    def refund_id(self, number: int) -> UUID:
        """The same in Python, of a refund."""
        return UUID(f"{self.moment_ms(number):012x}70008{number:015x}")

    @staticmethod
    def payment(number: str = "n") -> str:
        """SQL: the number of the payment that refund ``number`` is of."""
        return f"(1 + ({number}::bigint / 2) % {LARGE} + ({number}::bigint % 2) * {LARGE})"


def merchant_of(payment: str) -> str:
    """SQL: the number of a payment's merchant, from 1, which is the large one."""
    return f"(CASE WHEN {payment} <= {LARGE} THEN 1 ELSE 2 + {payment} % {MERCHANTS - 1} END)"
