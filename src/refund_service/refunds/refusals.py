"""A policy's refusal: written down with its decision, told again from it on a replay."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.writeset import P
from refund_service.policies.tables import decisions
from refund_service.refunds.errors import RefundRefused

_DECISION: Final = select(decisions).where(
    decisions.c.merchant_id == P("merchant_id"), decisions.c.id == P("decision_id")
)


def refusal_of(decision_id: UUID, rule: str, explanation: str) -> RefundRefused:
    """The error that tells a refusal."""
    shown = ids.show("decision", decision_id)
    return RefundRefused(
        explanation,
        decision_id=shown,
        rule=rule,
        explanation=explanation,
        links={"decision": f"/v1/decisions/{shown}"},
    )


async def refusal_again(db: Database, merchant_id: UUID, decision_id: UUID) -> RefundRefused:
    """The same refusal, from the decision that was kept."""
    row = await db.row(_DECISION, merchant_id=merchant_id, decision_id=decision_id)
    if row is None:
        raise LookupError(f"decision {decision_id} is kept by a key and not there")
    refusal = refusal_of(decision_id, row["rule"], row["explanation"])
    refusal.replayed = True
    return refusal


def refused_binds(decision_id: UUID, payment_id: UUID, order_name: str | None, rule: str) -> dict[str, Any]:
    """The bind parameters of the event that tells a refusal."""
    return {
        "refused_id": ids.new_id(),
        "refused_type": "refund.refused",
        "refused_resource": "decision",
        "refused_resource_id": decision_id,
        "refused_data": {
            "decision_id": ids.show("decision", decision_id),
            "payment_id": ids.show("payment", payment_id),
            "order_id": order_name,
            "rule": rule,
        },
    }
