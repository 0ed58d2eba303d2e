"""The writes that bring a refund into the world, or write down why it was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, DateTime, Select, Text, func, or_, update

from refund_service import ids
from refund_service.clock import rfc3339
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.idempotency.keys import claim_key
from refund_service.jobs.enqueue import job_values
from refund_service.notes.tables import notes
from refund_service.payments.balance import available
from refund_service.payments.registration import add_registration
from refund_service.payments.tables import payments
from refund_service.policies.evaluate import Decision, Facts
from refund_service.policies.tables import decisions
from refund_service.refunds.ask import PaymentFacts, RefundAsked
from refund_service.refunds.states import RefundEvent, Status, move, outcome
from refund_service.refunds.tables import refund_transitions, refunds

QUEUED_IS_LATE_AFTER: Final = timedelta(minutes=15)

BALANCE: Final = ("captured", "held", "refunded", "disputed")
"""What of a payment its refunds show."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the key, and the person it acts for."""

    key_id: UUID
    actor: str


def add_decision(write: WriteSet, *, when: ColumnElement[bool] | None = None) -> None:
    """The decision, whatever it comes to."""
    write.insert(
        "decision",
        decisions,
        {
            "merchant_id": P("merchant_id"),
            "id": P("decision_id"),
            "payment_id": P("payment_id"),
            "refund_id": P("refund_id"),
            "outcome": P("decision_outcome"),
            "rule": P("decision_rule"),
            "policy_version": P("policy_version"),
            "code": P("decision_code"),
            "explanation": P("decision_explanation"),
            "facts": P("decision_facts"),
            "trace": P("decision_trace"),
            "decided_for": P("actor"),
            "decided_at": P("now"),
        },
        when=when,
    )


def _add_refund(write: WriteSet) -> None:
    add_decision(write)
    write.insert(
        "refund",
        refunds,
        {
            "merchant_id": P("merchant_id"),
            "id": P("refund_id"),
            "payment_id": P("payment_id"),
            "order_id": P("order_row"),
            "customer_id": P("customer_row"),
            "gateway_account_id": P("gateway_account_id"),
            "amount": P("amount"),
            "currency": P("currency"),
            "status": P("status"),
            "reason": P("reason"),
            "channel": P("channel"),
            "ticket": P("ticket"),
            "reference": P("reference"),
            "metadata": P("metadata"),
            "decision_id": P("decision_id"),
            "idempotency_key": P("claim_key"),
            "generation": 1,
            "replaces": P("replaces"),
            "requested_by": P("actor"),
            "requested_with": P("key_id"),
            "requested_at": P("requested_at"),
            "execute_after": P("execute_after"),
            "due_at": P("due_at"),
            "expected_by": P("expected_by"),
            "version": 1,
            "created_at": P("now"),
            "updated_at": P("now"),
        },
    )
    write.insert(
        "transition",
        refund_transitions,
        {
            "merchant_id": P("merchant_id"),
            "refund_id": P("refund_id"),
            "version": 1,
            "event": RefundEvent.REQUEST.value,
            "to_status": P("status"),
            "actor": P("actor"),
            "at": P("now"),
        },
    )
    write.insert("created", *event_values("created", sequence=1))
    write.insert(
        "job",
        *job_values(
            run_at=func.greatest(
                func.db_now(), func.coalesce(P("execute_after", DateTime(timezone=True)), func.db_now())
            )
        ),
    )
    write.insert(
        "note",
        notes,
        {
            "merchant_id": P("merchant_id"),
            "id": P("note_id"),
            "subject_kind": "refund",
            "subject_id": P("refund_id"),
            "text": P("note"),
            "author": P("actor"),
            "created_at": P("now"),
        },
        when=P("note", Text).is_not(None),
    )


def _create(*, inline: bool) -> Select[Any]:
    write = WriteSet("refunds.create")
    claim_key(write)
    if inline:
        # A row that is inserted here cannot be updated here: it is born with its hold.
        add_registration(write)
        balance = {}
    else:
        expected = P("expected_available", BigInteger)
        held = write.guard(
            "payment",
            update(payments)
            .where(
                payments.c.merchant_id == P("merchant_id"),
                payments.c.id == P("payment_id"),
                available(payments) >= P("amount", BigInteger),
                or_(expected.is_(None), available(payments) == expected),
            )
            .values(
                held=payments.c.held + P("amount", BigInteger),
                version=payments.c.version + 1,
                updated_at=P("now"),
            ),
            *(payments.c[part] for part in BALANCE),
        )
        balance = {part: held.c[part] for part in BALANCE}
    _add_refund(write)
    return write.done(**balance)


def _refuse(*, inline: bool, keyed: bool) -> Select[Any]:
    write = WriteSet("refunds.refuse")
    if keyed:
        claim_key(write)
    if inline:
        add_registration(write)
    add_decision(write)
    write.insert("refused", *event_values("refused", sequence=1))
    return write.done()


CREATE: Final = {inline: _create(inline=inline) for inline in (False, True)}
"""By whether the payment is registered in the same write."""

REFUSE: Final = {
    (inline, keyed): _refuse(inline=inline, keyed=keyed)
    for inline in (False, True)
    for keyed in (False, True)
}
"""The same, and by whether it is remembered under a key."""


def decision_binds(
    merchant_id: UUID,
    decision_id: UUID,
    payment_id: UUID,
    decision: Decision,
    facts: Facts,
    *,
    policy_version: int,
    refund_id: UUID | None,
    asker: Asker,
    now: datetime,
) -> dict[str, Any]:
    """The bind parameters of a decision, whatever it comes to."""
    return {
        "merchant_id": merchant_id,
        "decision_id": decision_id,
        "payment_id": payment_id,
        "refund_id": refund_id,
        "decision_outcome": decision.outcome,
        "decision_rule": decision.rule,
        "decision_code": None,
        "decision_explanation": decision.explanation,
        "decision_facts": facts.as_data(),
        "decision_trace": [check.as_data() for check in decision.trace],
        "policy_version": policy_version,
        "actor": asker.actor,
        "now": now,
    }


def refund_binds(
    refund_id: UUID,
    asked: RefundAsked,
    payment: PaymentFacts,
    amount: int,
    *,
    asker: Asker,
    due_at: datetime,
    expected_by: datetime,
) -> dict[str, Any]:
    """The bind parameters of a new refund, its first event and its job."""
    status = move(None, RefundEvent.REQUEST)
    return {
        "refund_id": refund_id,
        "order_row": payment.order_id,
        "customer_row": payment.customer_id,
        "gateway_account_id": payment.account_id,
        "amount": amount,
        "currency": payment.currency,
        "status": status,
        "reason": asked.reason,
        "channel": asked.channel,
        "ticket": asked.ticket,
        "reference": asked.reference,
        "metadata": dict(asked.metadata),
        "replaces": asked.replaces,
        "key_id": asker.key_id,
        "requested_at": asked.requested_at,
        "execute_after": asked.execute_after,
        "due_at": due_at,
        "expected_by": expected_by,
        "note": asked.note,
        "note_id": ids.new_id(),
        "job_id": ids.new_id(),
        "job_name": "refund",
        "job_key": f"refund:{refund_id}",
        "job_lane": payment.account_id,
        "job_subject_id": refund_id,
        "created_id": ids.new_id(),
        "created_type": "refund.created",
        "created_resource": "refund",
        "created_resource_id": refund_id,
        "created_data": event_data(
            refund_id,
            status,
            {
                "amount": amount,
                "currency": payment.currency,
                "payment_id": payment.id,
                "reference": asked.reference,
            },
            order_name=payment.order_name,
            reason=asked.reason,
            execute_after=asked.execute_after,
        ),
    }


def event_data(
    refund_id: UUID,
    status: Status,
    refund: Mapping[str, Any],
    *,
    order_name: str | None,
    execute_after: datetime | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What every event about a refund tells: ids and figures, never personal data."""
    told = {
        "refund_id": ids.show("refund", refund_id),
        "status": status,
        "outcome": outcome(status),
        "amount": refund["amount"],
        "currency": refund["currency"],
        "payment_id": ids.show("payment", refund["payment_id"]),
        "order_id": order_name,
        "reference": refund["reference"],
    }
    if execute_after is not None:
        told["execute_after"] = rfc3339(execute_after)
    return told | {name: value for name, value in more.items() if value is not None}
