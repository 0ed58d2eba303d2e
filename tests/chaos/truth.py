"""What really moved: the sandbox's own record, read as it grows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

OPEN = {"pending", "requires_action"}
UNDONE = {"failed", "canceled"}


@dataclass(slots=True)
class Execution:
    """One time that the gateway was moved to pay."""

    refund: str
    payment: str
    amount: int
    reference: str
    at: float
    steps: list[tuple[float, str]]

    def status(self, moment: float) -> str:
        """Where it stood then."""
        return next((status for at, status in reversed(self.steps) if at <= moment), self.steps[0][1])

    def moved(self, moment: float) -> bool:
        """Whether the money was on its way then, or might still have been."""
        return self.status(moment) not in UNDONE

    @property
    def waits(self) -> bool:
        """Whether it will never end by itself."""
        return self.steps[-1][1] in OPEN


@dataclass
class Truth:
    """The executions, by payment and by the reference that we planted."""

    path: Path
    by_payment: defaultdict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    by_reference: defaultdict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[str, Execution] = field(default_factory=dict)
    """Those that wait for someone to settle them, by the gateway's id."""
    sends: int = 0
    look_ups: int = 0
    _by_id: dict[str, Execution] = field(default_factory=dict)
    _read: int = 0

    def read_on(self) -> Iterator[Execution]:
        """The executions that were added since."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            told = file.read()
        whole = told.rfind(b"\n") + 1
        self._read += whole
        for line in told[:whole].splitlines():
            if (execution := self._take_in(json.loads(line))) is not None:
                yield execution

    def moved(self, payment: str, moment: float) -> int:
        """Minor units of a payment that were on their way then."""
        return sum(one.amount for one in self.by_payment[payment] if one.moved(moment))

    def _take_in(self, fact: dict[str, Any]) -> Execution | None:
        match fact["fact"]:
            case "request":
                self.sends += fact["action"] == "refund"
                self.look_ups += fact["action"] != "refund"
            case "settlement":
                one = self._by_id[fact["refund"]]
                one.steps.append((_seconds(fact["at"]), fact["status"]))
                self.waiting.pop(one.refund, None)
            case "execution":
                steps = [(_seconds(at), status) for at, status, _ in fact["steps"]]
                told = (fact[name] for name in ("refund", "payment", "amount", "reference"))
                one = Execution(*told, _seconds(fact["at"]), steps)
                self._by_id[one.refund] = one
                self.by_payment[one.payment].append(one)
                self.by_reference[one.reference].append(one)
                if one.waits:
                    self.waiting[one.refund] = one
                return one
            case _:
                pass
        return None


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
