"""The parts of the bench that a wrong figure could hide in."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import UUID

import pytest
from bench.__main__ import main
from bench.aims import grown
from bench.bare import ANY, EACH_ONCE, bare_of
from bench.report import FIGURES, PAGE
from bench.rounds import Cost, Pair, median_of
from bench.spent import read_stacks
from sqlalchemy import select

from refund_service.db.writeset import P
from refund_service.refunds.tables import refunds

STATEMENT = select(refunds.c.id).where(
    refunds.c.merchant_id == P("merchant_id"),
    refunds.c.id == P("refund_id"),
    refunds.c.payment_id == P("payment_id"),
    refunds.c.reference == P("reference"),
    refunds.c.status.in_(["failed", "unknown"]),
)
MERCHANT, PAYMENT = UUID(int=1), UUID(int=2)


def test_what_differs_is_drawn_what_is_chosen_is_computed_and_the_rest_stays() -> None:
    once, again = (
        (
            STATEMENT,
            {"merchant_id": MERCHANT, "refund_id": UUID(int=n), "payment_id": PAYMENT, "reference": None},
        )
        for n in (8, 9)
    )

    bare = bare_of([once], [again], chosen={PAYMENT: "payment(:n)"})

    (statement,) = bare.statements
    assert "refunds.id = ('0000000000000' || :d0)::UUID" in statement
    assert "refunds.payment_id = (payment(:n))::UUID" in statement
    assert "refunds.reference = nullif(:none, 'none')::VARCHAR" in statement
    assert sorted(bare.constants.values()) == sorted(["none", str(MERCHANT), "failed", "unknown"])
    assert "$" not in statement


def test_a_script_takes_any_number_or_each_once() -> None:
    bare = bare_of([(STATEMENT, BINDS)], [(STATEMENT, BINDS)])

    assert bare.script().startswith(ANY)
    assert bare.script(EACH_ONCE).startswith(EACH_ONCE)


def test_an_example_has_no_variable_left() -> None:
    bare = bare_of([(STATEMENT, BINDS)], [(STATEMENT, BINDS)], chosen={PAYMENT: "payment(:n)"})

    (example,) = bare.examples(41)

    assert "(payment(41))::UUID" in example
    assert f"'{MERCHANT}'::UUID" in example
    assert " :" not in example


BINDS = {"merchant_id": MERCHANT, "refund_id": UUID(int=8), "payment_id": PAYMENT, "reference": "it's"}


def test_a_stack_counts_for_its_innermost_place_and_for_each_module_of_ours_once() -> None:
    own = "call (/x/src/refund_service/api/edge.py:1);inner (/x/src/refund_service/api/edge.py:9)"
    raw = f"{own};fetch (/x/site-packages/asyncpg/connection.py:7) 3\n{own} 1\n"

    spent = read_stacks(raw)

    assert spent.samples == 4
    assert spent.own == {"asyncpg": 0.75, "refund_service.api": 0.25}
    assert spent.under == {"refund_service.api.edge": 1.0}


def cost(cpu: float) -> Cost:
    return Cost(per_second=1 / cpu, ms=cpu, client_cpu=cpu / 2, database_cpu=cpu / 2)


def test_the_median_round_counts_not_the_unlucky_one() -> None:
    assert median_of([cost(1), cost(9), cost(1.5)]).cpu == pytest.approx(1.5)


def test_growth_is_beside_what_the_bare_statements_grow() -> None:
    small, large = (Pair("read", 1, cost(1), cost(4)), Pair("read", 1, cost(1.5), cost(9)))

    assert large.times == pytest.approx(6)
    assert grown(small, large) == pytest.approx(2.25 / 1.5)


@pytest.mark.parametrize("out", ["docs/reference", "docs/../docs/reference/"])
def test_a_quick_run_does_not_write_into_the_docs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--again", "--out", out])

    with pytest.raises(SystemExit):
        main()

    assert "not the place" in capsys.readouterr().err


def test_a_quick_run_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = (Path(__file__).parents[2] / "docs/reference" / FIGURES).read_bytes()
    aside = tmp_path / "build/bench"
    (aside / FIGURES).parent.mkdir(parents=True)
    (aside / FIGURES).write_bytes(figures)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--again"])

    assert main() == 0

    assert (aside / PAGE).exists()
    assert not (tmp_path / "docs").exists()
