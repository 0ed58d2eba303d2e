"""Reading decisions."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import select

from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.errors import NotFound
from refund_service.policies.tables import decisions


class DecisionNotFound(NotFound):
    code = "decision-not-found"
    title = "No such decision"
    help = "Check the id and the key's merchant and mode."


_ONE: Final = select(decisions).where(
    decisions.c.merchant_id == P("merchant_id"), decisions.c.id == P("decision_id")
)


async def get_decision(db: Database, merchant_id: UUID, decision_id: UUID) -> Row:
    """One decision; ``DecisionNotFound`` where it is not there or not this merchant's."""
    row = await db.row(_ONE, merchant_id=merchant_id, decision_id=decision_id)
    if row is None:
        raise DecisionNotFound("This merchant has no such decision.")
    return row
