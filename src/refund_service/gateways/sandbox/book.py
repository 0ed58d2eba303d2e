"""What the sandbox knows. All of it is made from the facts of its record, live as after a restart."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from refund_service.clock import rfc3339, utc_now
from refund_service.gateways.sandbox.record import Fact, Record

KEYS_KEPT: Final = timedelta(hours=48)
"""Well beyond the 24 hours that the adapter relies on; after it the same key executes again."""

OPEN: Final = ("pending", "requires_action")
UNDONE: Final = ("failed", "canceled")


@dataclass(slots=True)
class Refund:
    """An execution, and what becomes of it."""

    id: str
    account: str
    payment: str
    amount: int
    currency: str
    key: str
    reference: str
    at: str
    steps: list[tuple[datetime, str, str | None]]
    """From when on it has which status, and with which failure."""
    hidden_for: int
    """So many look-ups do not see it yet."""

    def status(self, now: datetime) -> tuple[str, str | None]:
        """Where it stands, and why it failed."""
        # The first step holds even where the machine's clock was put back behind it.
        _, status, failure = next((step for step in reversed(self.steps) if step[0] <= now), self.steps[0])
        return status, failure


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a deduplicating account answers to the same key."""

    fingerprint: str
    status: int
    body: dict[str, Any]
    at: datetime


@dataclass(slots=True)
class Book:
    """Payments, refunds, kept answers and everything that was asked."""

    record: Record
    refunds: dict[str, Refund] = field(default_factory=dict)
    captured: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    requests: list[Fact] = field(default_factory=list)
    _by_reference: dict[tuple[str, str], list[Refund]] = field(default_factory=lambda: defaultdict(list))
    _by_payment: dict[tuple[str, str], list[Refund]] = field(default_factory=lambda: defaultdict(list))
    _answers: dict[tuple[str, str], KeptAnswer] = field(default_factory=dict)
    _asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    ahead: float = 0.0
    """Seconds that a test has put the sandbox's clock ahead by."""

    def __post_init__(self) -> None:
        for fact in self.record.facts:
            self._take_in(fact)

    def now(self) -> datetime:
        """The sandbox's time: the wall's, and what a test has put it ahead by."""
        return utc_now() + timedelta(seconds=self.ahead)

    def note(self, fact: str, **told: Any) -> None:
        """Write a fact down, then know it."""
        entry = {"fact": fact, **told, "at": rfc3339(self.now())}
        self.record.write(entry)
        self._take_in(entry)

    def times_asked(self, account: str, key: str) -> int:
        """How many refunds were asked for under this key, the present one included."""
        return self._asked[account, key]

    def kept_answer(self, account: str, key: str) -> KeptAnswer | None:
        """What was answered to this key, as long as it is remembered."""
        kept = self._answers.get((account, key))
        return kept if kept and self.now() - kept.at < KEYS_KEPT else None

    def left(self, account: str, payment: str) -> int | None:
        """What may still be refunded; nothing where the sandbox was not told of the payment."""
        told = self.captured.get((account, payment))
        if told is None:
            return None
        now = self.now()
        given = (r.amount for r in self._by_payment[account, payment] if r.status(now)[0] not in UNDONE)
        return told[0] - sum(given)

    def look_up(self, account: str, payment: str | None, reference: str | None) -> list[Refund]:
        """The refunds that match and are not hidden from this look-up."""
        if reference is not None:
            near = self._by_reference.get((account, reference), [])
        elif payment is not None:
            near = self._by_payment.get((account, payment), [])
        else:
            near = []
        return [r for r in near if payment in {None, r.payment} and r.hidden_for <= 0]

    def show(self, refund: Refund) -> dict[str, Any]:
        """The refund as the gateway's API tells it."""
        return _told(refund, *refund.status(self.now()))

    def _take_in(self, fact: Fact) -> None:
        match fact["fact"]:
            case "request":
                self.requests.append(fact)
                account, reference = fact["account"], fact["reference"]
                if fact["action"] == "refund":
                    self._asked[account, fact["key"]] += 1
                elif fact["action"] == "look_up":
                    for refund in self._by_reference.get((account, reference), []):
                        refund.hidden_for -= 1
            case "execution":
                self._execute(fact)
            case "answer":
                self._keep(fact, fact["answer"])
            case "payment":
                self.captured[fact["account"], fact["payment"]] = (fact["amount"], fact["currency"])
            case "settlement":
                step = (datetime.fromisoformat(fact["at"]), fact["status"], fact["failure"])
                self.refunds[fact["refund"]].steps.append(step)
            case "clock":
                self.ahead = fact["ahead"]
            case other:
                raise ValueError(f"the record holds a fact that no one knows: {other}")

    def _execute(self, fact: Fact) -> None:
        refund = Refund(
            id=fact["refund"],
            account=fact["account"],
            payment=fact["payment"],
            amount=fact["amount"],
            currency=fact["currency"],
            key=fact["key"],
            reference=fact["reference"],
            at=fact["at"],
            steps=[(datetime.fromisoformat(at), status, failure) for at, status, failure in fact["steps"]],
            hidden_for=fact["hidden_for"],
        )
        self.refunds[refund.id] = refund
        self._by_reference[refund.account, refund.reference].append(refund)
        self._by_payment[refund.account, refund.payment].append(refund)
        if fact["fingerprint"] is not None:
            _, status, failure = refund.steps[0]
            self._keep(fact, {"status": 201, "body": _told(refund, status, failure)})

    def _keep(self, fact: Fact, answer: dict[str, Any]) -> None:
        self._answers[fact["account"], fact["key"]] = KeptAnswer(
            fact["fingerprint"], answer["status"], answer["body"], datetime.fromisoformat(fact["at"])
        )


def _told(refund: Refund, status: str, failure: str | None) -> dict[str, Any]:
    arn = {"type": "arn", "value": f"arn_{refund.id}", "status": "available"}
    return {
        "id": refund.id,
        "object": "refund",
        "status": status,
        "payment": refund.payment,
        "amount": refund.amount,
        "currency": refund.currency,
        "reference": refund.reference,
        "failure_code": failure,
        "bank_reference": arn if status == "succeeded" else None,
        "created_at": refund.at,
    }
