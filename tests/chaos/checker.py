"""What must hold at every moment, looked at as answers and executions come in.

It knows what the clients were told and what the gateway has executed; of the service's inside only
what ``verify`` says of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from chaos.history import Exchange, Outcome
from chaos.script import Intent, Kind
from chaos.truth import Execution, Truth
from refund_service.reports.verify import Finding

ENDED_UNDONE: Final = {"failed", "canceled"}

SHOW_A_REFUND: Final = frozenset(Kind) - {Kind.LIST, Kind.FEED}


@dataclass(slots=True)
class Known:
    """What was told of one refund."""

    intent: Intent
    undone_at: float | None = None
    """When it was first said of its present generation that the money did not move: no earlier than this."""
    generation: int = 1
    canceled: bool = False


@dataclass
class Checker:
    """Collects what is wrong. The first thing sets ``found``."""

    truth: Truth
    violations: list[str] = field(default_factory=list)
    found: asyncio.Event = field(default_factory=asyncio.Event)
    ids: dict[str, str] = field(default_factory=dict)
    """The refund of each key that was acknowledged."""
    refunds: dict[str, Known] = field(default_factory=dict)
    captured: dict[str, int] = field(default_factory=dict)
    """What came in, by payment."""
    _alone_on: dict[str, str] = field(default_factory=dict)
    """The refund of each solo payment."""
    _seen: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        """Something that must not be."""
        self.violations.append(what)
        self.found.set()

    def promises(self, findings: Iterable[Finding]) -> None:
        """What the service says of itself."""
        for finding in findings:
            if finding.rows:
                self.wrong(f"promise {finding.promise}: {finding.says}: {finding.rows}")

    def answered(self, exchange: Exchange) -> None:
        """A client has got an answer, or none."""
        where = f"{exchange.kind} {exchange.intent and exchange.intent.key} (line {exchange.number})"
        if exchange.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.wrong(f"{where}: answered 500: {exchange.told}")
        if exchange.status == HTTPStatus.SERVICE_UNAVAILABLE and exchange.retry_after is None:
            self.wrong(f"{where}: 503 without Retry-After")
        if exchange.outcome is not Outcome.OK:
            self._refused(exchange, where)
        elif exchange.kind is Kind.OTHER_BODY:
            self.wrong(f"{where}: another body was accepted under a key that was used: {exchange.told['id']}")
        elif exchange.kind is Kind.LIST:
            for told in exchange.told["data"]:
                self._within_capture(told, where)
                self._ended_undone(told, exchange.asked_at)
        elif exchange.kind in SHOW_A_REFUND and exchange.intent is not None:
            self._told(exchange, exchange.intent, where)

    def executed(self, execution: Execution) -> None:
        """The gateway has paid, or has begun to."""
        now, payment = time.time(), execution.payment
        paid = self.truth.by_payment[payment]
        if len(self.truth.by_reference[execution.reference]) > 1:
            self.wrong(f"{payment}: executed twice under one gateway key: {paid}")
        if (captured := self.captured.get(payment)) and self.truth.moved(payment, now) > captured:
            self.wrong(f"{payment}: more was paid than the {captured} that came in: {paid}")
        if payment.startswith("solo"):
            if sum(one.moved(now) for one in paid) > 1:
                self.wrong(f"{payment}: paid twice: {paid}")
            if id_ := self._alone_on.get(payment):
                self._not_undone_and_paid(id_)

    def _refused(self, exchange: Exchange, where: str) -> None:
        asked = exchange.kind in {Kind.CREATE, Kind.REPLAY} and exchange.intent is not None
        certain = exchange.status is not None and exchange.outcome is Outcome.FAIL
        # A payment that bears it a thousand times, and a request that is as it should be.
        if asked and certain and exchange.intent.solo and not exchange.told.get("retryable"):
            self.wrong(f"{where}: refused for no reason: {exchange.status} {exchange.told}")

    def _told(self, exchange: Exchange, intent: Intent, where: str) -> None:
        told, id_ = exchange.told, exchange.told["id"]
        if (first := self.ids.setdefault(intent.key, id_)) != id_:
            self.wrong(f"{where}: one key made {first} and {id_}")
        known = self.refunds.setdefault(id_, Known(intent))
        self._as_asked(told, intent, where)
        if exchange.alone:
            self._never_back(exchange, id_, told, where)
        if exchange.kind is Kind.CANCEL:
            known.canceled = True
            if told["status"] != "canceled":
                self.wrong(f"{where}: the cancel was accepted, and it is {told['status']}")
        self._ended_undone(told, exchange.asked_at)

    def _ended_undone(self, told: dict[str, Any], asked_at: float) -> None:
        """It may be said that no money moved: no earlier than ``asked_at``."""
        if (known := self.refunds.get(told["id"])) is None:
            return
        if told["generation"] > known.generation:
            known.generation, known.undone_at = told["generation"], None
        if told["status"] in ENDED_UNDONE and told["generation"] == known.generation:
            known.undone_at = known.undone_at or asked_at
            self._not_undone_and_paid(told["id"])

    def _as_asked(self, told: dict[str, Any], intent: Intent, where: str) -> None:
        payment = told["payment"]
        self.captured[intent.payment] = intent.captured
        if payment["gateway_payment_id"] != intent.payment or intent.amount not in {None, told["amount"]}:
            self.wrong(f"{where}: shows another refund than was asked for: {told}")
        self._within_capture(told, where)
        if intent.solo:
            self._alone_on[intent.payment] = told["id"]
            if payment["held"] + payment["refunded"] > told["amount"]:
                self.wrong(f"{where}: more is promised of its payment than this one refund: {payment}")

    def _within_capture(self, told: dict[str, Any], where: str) -> None:
        payment = told["payment"]
        if payment["held"] + payment["refunded"] + payment["disputed"] > payment["captured"]:
            self.wrong(f"{where}: more is promised of a payment than came in: {payment}")

    def _never_back(self, exchange: Exchange, id_: str, told: dict[str, Any], where: str) -> None:
        """Who has seen an end sees no status before it, unless it was tried again or turned."""
        now = told["generation"], told["status"]
        before = self._seen.get((exchange.client, id_))
        self._seen[exchange.client, id_] = now
        if before is None or before == now:
            return
        may_follow = {
            "succeeded": {"reversed"},
            "failed": {"succeeded"},
            "canceled": set(),
            "reversed": set(),
        }
        if now[0] < before[0] or (now[0] == before[0] and now[1] not in may_follow.get(before[1], {now[1]})):
            self.wrong(f"{where}: {id_} was {before} and then {now}")

    def _not_undone_and_paid(self, id_: str) -> None:
        """What is said not to have moved had not moved, when it was said."""
        known = self.refunds[id_]
        if not known.intent.solo:
            return
        for one in self.truth.by_payment[known.intent.payment]:
            before = known.undone_at is not None and one.at < known.undone_at and one.moved(known.undone_at)
            if before or (known.canceled and one.moved(time.time())):
                self.wrong(f"{known.intent.payment}: {id_} is said not to be paid, and {one} had paid it")
