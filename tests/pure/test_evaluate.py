"""A policy on plain values: both sides and the edge of each rule, and a trace that is whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from refund_service.money import LARGEST_AMOUNT, Money
from refund_service.policies.evaluate import Decision, Facts, evaluate
from refund_service.policies.rules import BUILT_IN, Rules
from refund_service.policies.verdicts import Verdict

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
FREE = Rules(max_age_days=None)


def facts(
    minor: int = 1250, currency: str = "EUR", *, age: timedelta = DAY, reason: str = "damaged"
) -> Facts:
    return Facts(Money(minor, currency), captured_at=NOW - age, asked_at=NOW, reason=reason)


def verdict(rules: Rules, asked: Facts) -> tuple[str, str]:
    decision = evaluate(rules, asked)
    return decision.outcome.value, decision.rule


ALLOWED = ("allowed", "default")


@pytest.mark.parametrize(
    ("age", "days"),
    [
        (-DAY, 0),  # a capture in the future is of today
        (-TICK, 0),
        (timedelta(0), 0),
        (DAY - TICK, 0),
        (DAY, 1),
        (365 * DAY, 365),
        (366 * DAY - TICK, 365),
        (366 * DAY, 366),
    ],
)
def test_age_is_counted_in_whole_days(age: timedelta, days: int) -> None:
    assert facts(age=age).age_days == days


@pytest.mark.parametrize(
    ("age", "found"),
    [
        (30 * DAY, ALLOWED),
        (31 * DAY - TICK, ALLOWED),
        (31 * DAY, ("refused", "max_age_days")),
        (-DAY, ALLOWED),
    ],
)
def test_a_payment_may_be_as_old_as_the_policy_says(age: timedelta, found: tuple[str, str]) -> None:
    assert verdict(Rules(max_age_days=30), facts(age=age)) == found


def test_no_day_at_all_means_the_day_itself() -> None:
    assert verdict(Rules(max_age_days=0), facts(age=DAY - TICK)) == ALLOWED
    assert verdict(Rules(max_age_days=0), facts(age=DAY)) == ("refused", "max_age_days")


@pytest.mark.parametrize(
    ("minor", "currency", "found"),
    [
        (49_999, "EUR", ALLOWED),
        (50_000, "EUR", ALLOWED),
        (50_001, "EUR", ("refused", "max_amount")),
        (LARGEST_AMOUNT, "USD", ALLOWED),  # a currency that is not named has no limit
        (5_000, "JPY", ALLOWED),
        (5_001, "JPY", ("refused", "max_amount")),
    ],
)
def test_a_refund_may_be_as_large_as_its_currency_allows(
    minor: int, currency: str, found: tuple[str, str]
) -> None:
    rules = Rules(max_amount={"EUR": 50_000, "JPY": 5_000})
    assert verdict(rules, facts(minor, currency)) == found


@pytest.mark.parametrize(
    ("accepted", "reason", "found"),
    [
        (None, "anything", ALLOWED),
        (["damaged", "returned"], "returned", ALLOWED),
        (["damaged", "returned"], "Returned", ("refused", "reasons")),
        (["damaged", "returned"], "goodwill", ("refused", "reasons")),
        ([], "damaged", ("refused", "reasons")),
    ],
)
def test_only_the_reasons_that_are_named_are_accepted(
    accepted: list[str] | None, reason: str, found: tuple[str, str]
) -> None:
    assert verdict(Rules(reasons=accepted), facts(reason=reason)) == found


def test_the_built_in_policy_allows_any_amount_for_365_days() -> None:
    assert verdict(BUILT_IN, facts(LARGEST_AMOUNT, age=366 * DAY - TICK, reason="goodwill")) == ALLOWED
    assert verdict(BUILT_IN, facts(1, age=366 * DAY)) == ("refused", "max_age_days")


def test_a_policy_without_rules_allows_everything() -> None:
    decision = evaluate(FREE, facts(LARGEST_AMOUNT, age=20_000 * DAY))
    assert decision == Decision(Verdict.ALLOWED, "default", "No rule of the policy stands against it.", ())


def test_every_rule_is_tried_and_the_first_that_fails_is_named() -> None:
    strict = Rules(max_age_days=30, max_amount={"EUR": 1000}, reasons=["returned"])

    decision = evaluate(strict, facts(age=40 * DAY))

    assert (decision.outcome, decision.rule) == (Verdict.REFUSED, "max_age_days")
    assert decision.explanation == "The payment was captured 40 days ago; 30 are allowed."
    assert [check.as_data() for check in decision.trace] == [
        {
            "rule": "max_age_days",
            "limit": 30,
            "found": 40,
            "passed": False,
            "sentence": "The payment was captured 40 days ago; 30 are allowed.",
        },
        {
            "rule": "max_amount",
            "limit": 1000,
            "found": 1250,
            "passed": False,
            "sentence": "12.50 EUR is asked; 10.00 is the largest allowed.",
        },
        {
            "rule": "reasons",
            "limit": ["returned"],
            "found": "damaged",
            "passed": False,
            "sentence": "The reason is damaged; accepted are returned.",
        },
    ]


def test_the_facts_are_kept_as_they_were_weighed() -> None:
    assert facts(age=40 * DAY).as_data() == {
        "amount": 1250,
        "currency": "EUR",
        "age_days": 40,
        "reason": "damaged",
    }


rules_of_all_kinds = st.builds(
    Rules,
    max_age_days=st.none() | st.integers(0, 400),
    max_amount=st.none() | st.dictionaries(st.sampled_from(["EUR", "USD"]), st.integers(1, 2000)),
    reasons=st.none() | st.lists(st.sampled_from(["damaged", "returned"]), unique=True),
)
facts_of_all_kinds = st.builds(
    facts,
    st.integers(1, 3000),
    st.sampled_from(["EUR", "USD", "JPY"]),
    age=st.timedeltas(-DAY, 500 * DAY),
    reason=st.sampled_from(["damaged", "returned", "goodwill"]),
)


@given(rules_of_all_kinds, facts_of_all_kinds)
def test_a_decision_says_no_more_and_no_less_than_its_trace(rules: Rules, asked: Facts) -> None:
    decision = evaluate(rules, asked)
    failed = [check for check in decision.trace if not check.passed]
    assert (decision.outcome is Verdict.ALLOWED) is (failed == [])
    assert decision.rule == (failed[0].rule if failed else "default")
    assert evaluate(rules, asked) == decision


@pytest.mark.parametrize(
    "given_rules",
    [
        {"max_age_day": 30},
        {"max_age_days": -1},
        {"max_age_days": 36_501},
        {"max_age_days": True},
        {"max_age_days": "30"},
        {"max_amount": {"EUR": 0}},
        {"max_amount": {"EUR": LARGEST_AMOUNT + 1}},
        {"max_amount": {"eur": 100}},
        {"max_amount": {"XXX": 100}},
        {"max_amount": {"EUR": 10.0}},
        {"reasons": ["a"] * 101},
        {"reasons": "damaged"},
    ],
)
def test_a_policy_that_could_be_misread_is_refused(given_rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(given_rules)
