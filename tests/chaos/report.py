"""What a run came to: passed, violated, or void because it was too gentle to prove anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from chaos.history import Outcome
from chaos.quiet import Calm
from chaos.script import Kind

FULL_LENGTH: Final = 600.0
CLEARED_AT_FULL_LENGTH: Final = 50
OPERATIONS_AT_FULL_LENGTH: Final = 20_000
LEAST_CLEARED: Final = 5
LEAST_OK: Final = 0.30
LEAST_INFO: Final = 0.01
SHOWN: Final = 12


class Verdict(IntEnum):
    """How a run ends, and the exit code that says so."""

    PASSED = 0
    VIOLATED = 1
    VOID = 3


@dataclass(frozen=True)
class Report:
    """The figures of one run."""

    seed: int
    asked_for: float
    seconds: float
    to_open: float
    operations: Counter[tuple[Kind, Outcome]]
    intents: int
    faults: Counter[str]
    cycles: int
    cleared: int
    """Doubts that ended."""
    calm: Calm | None
    sends: int
    look_ups: int
    violations: list[str]

    @property
    def total(self) -> int:
        return self.operations.total()

    def outcomes(self) -> dict[str, int]:
        return {
            outcome.value: sum(count for (_, one), count in self.operations.items() if one is outcome)
            for outcome in Outcome
        }

    def shortcomings(self) -> list[str]:
        """Why the run proves nothing."""
        told, total = self.outcomes(), self.total
        wanted = max(
            LEAST_CLEARED,
            min(CLEARED_AT_FULL_LENGTH, int(CLEARED_AT_FULL_LENGTH * self.asked_for / FULL_LENGTH)),
        )
        short = [
            f"no fault of this kind has hit anything: {name}"
            for name, hits in self.faults.items()
            if not hits
        ]
        if not self.cycles:
            short.append("not every kind of fault has had its turn")
        if total < (enough := OPERATIONS_AT_FULL_LENGTH * self.asked_for / FULL_LENGTH):
            short.append(f"only {total} operations in {self.asked_for:.0f} s, not {enough:.0f}")
        if told["ok"] < LEAST_OK * total:
            short.append(f"only {told['ok']} of {total} operations were ok")
        if told["info"] < LEAST_INFO * total:
            short.append(f"only {told['info']} of {total} operations had an outcome that no one knows")
        if self.cleared < wanted:
            short.append(f"only {self.cleared} doubts were cleared up, not {wanted}")
        return short

    @property
    def verdict(self) -> Verdict:
        if self.violations:
            return Verdict.VIOLATED
        return Verdict.VOID if self.shortcomings() else Verdict.PASSED

    def as_data(self) -> dict[str, Any]:
        """For a file."""
        return {
            "seed": self.seed,
            "verdict": self.verdict.name.lower(),
            "seconds": self.seconds,
            "operations": self.total,
            "operations_by_outcome": self.outcomes(),
            "operations_by_kind": {
                kind.value: {
                    outcome.value: self.operations[kind, outcome]
                    for outcome in Outcome
                    if self.operations[kind, outcome]
                }
                for kind in Kind
            },
            "refunds_acknowledged": self.intents,
            "faults": dict(self.faults),
            "cycles_of_faults": self.cycles,
            "sends": self.sends,
            "look_ups": self.look_ups,
            "unknowns_resolved": self.cleared,
            "seconds_to_converge": round(self.calm.seconds, 1) if self.calm else None,
            "left_to_a_person": self.calm.for_a_person if self.calm else None,
            "violations": self.violations,
            "shortcomings": self.shortcomings(),
        }

    def as_text(self) -> str:
        """For a person."""
        told = self.outcomes()
        lines = [
            f"seed {self.seed}: {self.verdict.name}, {len(self.violations)} violations",
            f"  {self.total} operations in {self.seconds:.0f} s: "
            + ", ".join(f"{count} {outcome}" for outcome, count in told.items()),
            "  "
            + ", ".join(
                f"{kind} {sum(self.operations[kind, outcome] for outcome in Outcome)}" for kind in Kind
            ),
            f"  {self.intents} refunds acknowledged, {self.sends} sends, {self.look_ups} look-ups",
            f"  faults in {self.cycles} whole cycles: "
            + ", ".join(f"{name} {hits}" for name, hits in self.faults.items()),
        ]
        if self.calm:
            lines.append(
                f"  {self.cleared} unknowns resolved, {self.calm.for_a_person} left to a person; "
                f"quiet after {self.calm.seconds:.1f} s"
            )
        lines += [f"  VIOLATION {one[:600]}" for one in self.violations[:SHOWN]]
        lines += [f"  void: {one}" for one in self.shortcomings() if not self.violations]
        return "\n".join(lines)
