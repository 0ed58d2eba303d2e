"""Decide from plain values whether a refund is allowed, and say why. No input, no output."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from refund_service.money import Money
from refund_service.policies.rules import Rules
from refund_service.policies.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision leans on."""

    amount: Money
    captured_at: datetime
    asked_at: datetime
    reason: str

    @property
    def age_days(self) -> int:
        """Whole days since the capture; a capture in the future is of today."""
        return max(0, (self.asked_at - self.captured_at).days)

    def as_data(self) -> dict[str, Any]:
        """The facts as they are stored with the decision."""
        return {
            "amount": self.amount.minor,
            "currency": self.amount.currency,
            "age_days": self.age_days,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, tried."""

    rule: str
    limit: Any
    found: Any
    passed: bool
    sentence: str

    def as_data(self) -> dict[str, Any]:
        """The check as it stands in the trace."""
        return {
            "rule": self.rule,
            "limit": self.limit,
            "found": self.found,
            "passed": self.passed,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says, by which rule, and every rule that was tried on the way."""

    outcome: Verdict
    rule: str
    explanation: str
    trace: tuple[Check, ...]


def evaluate(rules: Rules, facts: Facts) -> Decision:
    """Try every rule, so that the trace is whole; the first that fails refuses."""
    trace = tuple(_checks(rules, facts))
    failed = next((check for check in trace if not check.passed), None)
    if failed is None:
        return Decision(Verdict.ALLOWED, "default", "No rule of the policy stands against it.", trace)
    return Decision(Verdict.REFUSED, failed.rule, failed.sentence, trace)


def _checks(rules: Rules, facts: Facts) -> list[Check]:
    checks = []
    if rules.max_age_days is not None:
        checks.append(
            Check(
                "max_age_days",
                rules.max_age_days,
                facts.age_days,
                facts.age_days <= rules.max_age_days,
                f"The payment was captured {facts.age_days} days ago; {rules.max_age_days} are allowed.",
            )
        )
    largest = (rules.max_amount or {}).get(facts.amount.currency)
    if largest is not None:
        limit = Money(largest, facts.amount.currency)
        checks.append(
            Check(
                "max_amount",
                largest,
                facts.amount.minor,
                facts.amount <= limit,
                f"{facts.amount.decimal} {limit.currency} is asked; {limit.decimal} is the largest allowed.",
            )
        )
    if rules.reasons is not None:
        checks.append(
            Check(
                "reasons",
                rules.reasons,
                facts.reason,
                facts.reason in rules.reasons,
                f"The reason is {facts.reason}; accepted are {', '.join(rules.reasons) or 'none'}.",
            )
        )
    return checks
