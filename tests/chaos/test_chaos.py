"""A slice of ``make prove``: a short run that finds nothing, and planted bugs that are found."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from chaos.mutants import MUTANTS, SOURCE, Mutant
from chaos.report import Verdict
from chaos.run import prove
from chaos.script import CLIENTS, Script

SECONDS = 30.0
"""Of load, and a whole cycle of faults at least."""


def named(mutant: Mutant) -> str:
    return mutant.name.replace(" ", "-")


async def test_whatever_breaks_nothing_is_paid_twice_and_nothing_is_lost(
    tmp_path: Path,
) -> None:  # GWP-01, GWP-02, GWP-05, INV-01, INV-02, INV-05, INV-08, INV-09, INV-17, INV-20, CON-09, FLT-01, FLT-03, FLT-13, FLT-21
    report = await prove(1, SECONDS, tmp_path)

    assert report.verdict is Verdict.PASSED, report.as_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
async def test_a_planted_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    report = await prove(1, SECONDS, tmp_path, mutant=mutant, at_first=True)

    assert report.verdict is Verdict.VIOLATED, f"{mutant.name} was not found\n{report.as_text()}"
    # One that only crashes would show that crashes are found.
    assert "answered 500" not in report.violations[0]


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_a_mutant_still_has_its_place_in_the_source(mutant: Mutant) -> None:
    for edit in mutant.edits:
        source = (SOURCE / "refund_service" / edit.file).read_text()
        assert source.count(edit.before) == 1, f"{edit.file}: {edit.before}"


def test_a_seed_asks_for_the_same_again_and_another_for_something_else() -> None:
    def asked(seed: int) -> list[object]:
        return [list(islice(Script(seed, client).operations(), 200)) for client in range(CLIENTS)]

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
