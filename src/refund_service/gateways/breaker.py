"""Keeps a gateway that does not answer from being asked again and again.

One circuit per account, in the memory of one worker. Times are seconds of a clock that never
goes back (``clock.seconds()``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

FAILURES_TO_OPEN: Final = 5
"""In a row."""

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 60.0

TRIAL_LASTS: Final = 60.0
"""After so long a trial call that never reported back is given up, and another may try."""


TOLD_FOR: Final = 120.0
"""After its pause an open circuit is told so long: a worker with nothing to send learns of no recovery."""


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    pause: float = 0.0
    """The last one; none while the circuit has never opened."""
    open_until: float = 0.0
    trial_until: float = 0.0


class Breaker:
    """Which accounts may be called now.

    Five failures in a row open a circuit for five seconds. Then one call at a time may try: a
    success closes it, a failure opens it for twice as long, up to a minute.
    """

    def __init__(self) -> None:
        # Only accounts whose last call failed.
        self._ill: dict[UUID, _Circuit] = {}

    def allows(self, account_id: UUID, now: float) -> bool:
        """Whether a call may go out now. A yes must be recorded or given back."""
        circuit = self._ill.get(account_id)
        if circuit is None or not circuit.pause:
            return True
        if self._shut(circuit, now):
            return False
        circuit.trial_until = now + TRIAL_LASTS
        return True

    def give_back(self, account_id: UUID) -> None:
        """The call that was allowed was not made after all: another may have its turn."""
        if circuit := self._ill.get(account_id):
            circuit.trial_until = 0.0

    def record(self, account_id: UUID, ok: bool, now: float) -> None:  # noqa: FBT001 - the one thing told
        """Tell how a call ended: ``ok`` when the gateway answered, whatever it said."""
        if ok:
            self._ill.pop(account_id, None)
            return
        circuit = self._ill.setdefault(account_id, _Circuit())
        circuit.failures += 1
        # Calls that were out when it opened fail one after the other: they are old news.
        if circuit.failures >= FAILURES_TO_OPEN and now >= circuit.open_until:
            circuit.pause = min(circuit.pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
            circuit.open_until = now + circuit.pause
            circuit.trial_until = 0.0

    def closed_to(self, now: float) -> set[UUID]:
        """The accounts that may not be called now; asking takes no one's turn."""
        return {account_id for account_id, circuit in self._ill.items() if self._shut(circuit, now)}

    def open(self, now: float) -> list[UUID]:
        """The accounts whose circuit has opened and that no call has reached since, the worst first."""
        found = {
            account_id: circuit
            for account_id, circuit in self._ill.items()
            if circuit.pause and now < circuit.open_until + TOLD_FOR
        }
        return sorted(found, key=lambda account_id: -found[account_id].failures)

    @staticmethod
    def _shut(circuit: _Circuit, now: float) -> bool:
        return bool(circuit.pause) and (now < circuit.open_until or now < circuit.trial_until)
