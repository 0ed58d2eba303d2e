"""What verify costs as the database grows: counted in rows that PostgreSQL visits, not in seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from house import House, Shop
from many import multiply
from sqlalchemy import text

from refund_service.clock import utc_now
from refund_service.db.engine import Database
from refund_service.refunds.watch import watch_refunds
from refund_service.reports.verify import CHECKS, verify_promises

FEW, MANY = 50, 400
BEING_SENT = "what is being sent is taken over when its worker's lease is over"


async def visited(db: Database, statement: str) -> int:
    """How many rows PostgreSQL looks at to answer."""
    async with db.transaction() as tx:
        answer = await tx.execute(text(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"))
        (plan,) = answer.scalar_one()
    return rows_of(plan["Plan"])


def rows_of(node: dict[str, Any]) -> int:
    looked_at = node["Actual Rows"] + sum(
        node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Join Filter", "Index Recheck")
    )
    below = sum(rows_of(child) for child in node.get("Plans", []))
    return int(looked_at * node["Actual Loops"]) + below


async def fill(house: House, shop: Shop) -> None:
    """Refunds that are done, lost and queued, and a payment of which more has gone than came in."""
    db = house.parts.db
    await house.start_worker()
    await shop.refund(await shop.pay(), 100)
    await shop.refund(await shop.pay(), 100, metadata={"sandbox": "lose_answer"})
    later = (utc_now() + timedelta(hours=4)).isoformat()
    await shop.ask(await shop.pay(), 100, execute_after=later)
    await house.stop_workers()
    # A person is called to the one that is lost; its payment is disputed besides.
    await watch_refunds(db, now=utc_now() + timedelta(hours=2))
    called = "SELECT payment_id FROM refunds WHERE attention IS NOT NULL"
    await db.rows(text(f"UPDATE payments SET disputed = captured, excess = held WHERE id IN ({called})"))


async def nothing(_db: Database) -> None:
    """No statistics at all."""


async def analyse(db: Database) -> None:
    """Statistics of the database as it is."""
    await db.rows(text("ANALYZE"))


async def analyse_before_the_trouble(db: Database) -> None:
    """Statistics of a time when every refund was done, as before a gateway goes away."""
    await db.rows(text("CREATE TABLE stood AS SELECT id, status FROM refunds"))
    await db.rows(text("UPDATE refunds SET status = 'succeeded'"))
    await db.rows(text("ANALYZE"))
    await db.rows(text("UPDATE refunds r SET status = stood.status FROM stood WHERE stood.id = r.id"))


@pytest.mark.parametrize("learn", [nothing, analyse, analyse_before_the_trouble])
async def test_no_check_costs_more_than_in_proportion_to_the_database(
    own_house: House, own_shop: Shop, learn: Callable[[Database], Awaitable[None]]
) -> None:
    db = own_house.parts.db
    await fill(own_house, own_shop)
    await multiply(db, 1, FEW)
    await learn(db)
    few = {says: await visited(db, statement) for _, says, statement in CHECKS}

    # Not analysed anew: a database that has grown is planned for as it was.
    await multiply(db, FEW + 1, MANY)
    many = {says: await visited(db, statement) for _, says, statement in CHECKS}

    growth = MANY / FEW
    out_of_proportion = {
        says: (few[says], many[says]) for says in many if many[says] > few[says] * growth * 1.5 + 500
    }
    assert out_of_proportion == {}
    # And every check has looked at something, but for the one about what is just being sent.
    assert [says for says in many if many[says] < MANY] == [BEING_SENT]
    assert [one for one in await verify_promises(db) if one.rows] == []
