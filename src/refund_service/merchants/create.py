"""Make a merchant, once for test and once for live, under one organization."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import insert, select

from refund_service import ids
from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.merchants.tables import merchants

_INSERT: Final = insert(merchants).values(
    id=P("id"),
    organization_id=P("organization_id"),
    name=P("name"),
    livemode=P("livemode"),
    created_at=P("now"),
)


async def create_merchant(
    db: Database, name: str, *, livemode: bool, now: datetime, organization_id: UUID | None = None
) -> UUID:
    """A merchant in one mode; name the organization to make it the other mode of one that is there."""
    merchant_id = ids.new_id()
    await db.rows(
        _INSERT,
        id=merchant_id,
        organization_id=organization_id or ids.new_id(),
        name=name,
        livemode=livemode,
        now=now,
    )
    return merchant_id


_ALL: Final = select(merchants).order_by(merchants.c.created_at)


async def all_merchants(db: Database) -> Sequence[Row]:
    """Every merchant, oldest first; for the operator."""
    return await db.rows(_ALL)
