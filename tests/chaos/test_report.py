"""When a run of chaos counts: one that was too gentle proves nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chaos.history import Outcome
from chaos.quiet import Calm
from chaos.report import FULL_LENGTH, OPERATIONS_AT_FULL_LENGTH, Report, Verdict
from chaos.script import Kind

ENOUGH = Report(
    seed=1,
    asked_for=FULL_LENGTH,
    seconds=FULL_LENGTH,
    to_open=1.0,
    operations=Counter(
        {
            (Kind.CREATE, Outcome.OK): OPERATIONS_AT_FULL_LENGTH - 1000,
            (Kind.CREATE, Outcome.INFO): 1000,
        }
    ),
    intents=5000,
    faults=Counter({"a worker is killed": 3}),
    cycles=1,
    cleared=50,
    calm=Calm(2.0, [], 0),
    sends=5000,
    look_ups=900,
    violations=[],
)


def test_a_run_that_did_enough_has_passed() -> None:
    assert ENOUGH.shortcomings() == []
    assert ENOUGH.verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("less", "says"),
    [
        (
            {"operations": ENOUGH.operations - Counter({(Kind.CREATE, Outcome.OK): 1})},
            "only 19999 operations in 600 s, not 20000",
        ),
        ({"operations": Counter()}, "only 0 operations in 600 s, not 20000"),
        ({"cycles": 0}, "not every kind of fault has had its turn"),
        ({"faults": Counter({"a worker is killed": 0})}, "no fault of this kind"),
        ({"cleared": 49}, "only 49 doubts"),
    ],
)
def test_a_run_that_did_less_is_void_and_says_why(less: dict[str, Any], says: str) -> None:
    gentle = replace(ENOUGH, **less)

    assert gentle.verdict is Verdict.VOID
    assert says in "; ".join(gentle.shortcomings())


def test_a_short_run_needs_as_much_less() -> None:
    half = Counter({what: count // 2 for what, count in ENOUGH.operations.items()})

    assert replace(ENOUGH, operations=half).verdict is Verdict.VOID
    assert replace(ENOUGH, operations=half, asked_for=FULL_LENGTH / 2).verdict is Verdict.PASSED


def test_what_is_violated_counts_however_gentle_the_run_was() -> None:
    assert replace(ENOUGH, cycles=0, violations=["paid twice"]).verdict is Verdict.VIOLATED
