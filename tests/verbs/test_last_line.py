"""The last line: what the tables themselves refuse when every guard above them is bypassed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from house import House, Shop
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Duplicate, InvariantBroken
from refund_service.schema import metadata

HISTORY = ("decisions", "events", "gateway_calls", "order_facts", "refund_transitions")


@pytest.fixture
async def db(quiet_house: House) -> Database:
    return quiet_house.parts.db


@pytest.fixture
async def lived(quiet_shop: Shop, step: Callable[..., Any]) -> dict[str, Any]:
    """A refund that has left a line in every history there is."""
    payment = await quiet_shop.pay(1000, order={"id": "A-1"})
    refund = (await quiet_shop.ask(payment, 600)).json()
    await step(quiet_shop)
    reply = await quiet_shop.client.patch("/v1/orders/A-1", json={"facts": {"delivered": "yes"}})
    assert reply.status_code == 200, reply.text
    return await quiet_shop.see(refund)


class Undone(Exception):
    """Rolls back what was only tried."""


@asynccontextmanager
async def undone(db: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction behind the service's back, of which nothing stays."""
    with suppress(Undone):
        async with db.transaction() as tx:
            yield tx
            raise Undone


async def changed(db: Database, shop: Shop, statement: str, **binds: Any) -> None:
    """Run a statement that is to hit something."""
    async with undone(db) as tx:
        done = await tx.execute(text(statement), binds | {"merchant_id": shop.merchant_id})
        assert done.rowcount > 0


def any_column(table: str) -> str:
    return next(
        column.name for column in metadata.tables[table].c if column.name not in {"merchant_id", "id"}
    )


@pytest.mark.parametrize("table", HISTORY)
async def test_history_refuses_to_be_edited_or_deleted(  # INV-08
    db: Database, quiet_shop: Shop, lived: dict[str, Any], table: str
) -> None:
    column = any_column(table)
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        with pytest.raises(DBAPIError, match=f"{table} is history"):
            await changed(db, quiet_shop, f"{statement} WHERE merchant_id = :merchant_id")


@pytest.mark.parametrize("table", HISTORY)
async def test_retention_alone_may_delete_history_and_not_even_it_may_edit(
    db: Database, quiet_shop: Shop, lived: dict[str, Any], table: str
) -> None:
    where, column = f"WHERE merchant_id = '{quiet_shop.merchant_id}'", any_column(table)

    async with undone(db) as tx:
        await tx.execute(text("SET LOCAL refund.retention = 'on'"))
        if table == "decisions":  # what points at them goes first, as retention would have it
            await tx.execute(text("ALTER TABLE refunds DROP CONSTRAINT fk_refunds_merchant_id_decision_id"))
        async with tx.begin_nested() as attempt:
            with pytest.raises(DBAPIError, match="is history"):
                await tx.execute(text(f"UPDATE {table} SET {column} = {column} {where}"))
            await attempt.rollback()
        assert (await tx.execute(text(f"DELETE FROM {table} {where}"))).rowcount > 0


async def test_every_history_table_is_named_here(db: Database) -> None:
    found = await db.rows(
        text("SELECT DISTINCT tgrelid::regclass::text AS name FROM pg_trigger WHERE NOT tgisinternal")
    )
    assert sorted(row["name"] for row in found) == sorted(HISTORY)


@pytest.mark.parametrize(
    "values",
    [
        "held = 401",  # 600 of 1000 are refunded
        "held = captured",
        "refunded = 1001",
        "disputed = 401",
        "captured = 599",
        "captured = 0",
        "captured = 1000000000000",
        "held = -1",
        "refunded = -1",
        "refunded_elsewhere = 601",
        "disputed = -1",
        "excess = -1",
        "currency = 'eur'",
        "currency = 'EURO'",
    ],
)
async def test_no_payment_is_ever_beyond_its_capture(
    db: Database, quiet_shop: Shop, lived: dict[str, Any], values: str
) -> None:  # INV-01, hyperswitch#11491
    with pytest.raises(InvariantBroken):
        await changed(db, quiet_shop, f"UPDATE payments SET {values} WHERE merchant_id = :merchant_id")


async def test_up_to_the_edge_of_the_capture_the_tables_say_nothing(  # INV-01
    db: Database, quiet_shop: Shop, lived: dict[str, Any]
) -> None:
    for values in ("held = 400", "disputed = 400", "held = 401, excess = 1", "refunded_elsewhere = 600"):
        await changed(db, quiet_shop, f"UPDATE payments SET {values} WHERE merchant_id = :merchant_id")


@pytest.mark.parametrize(
    "values",
    [
        "amount = 0",
        "amount = -1",
        "amount = 1000000000000",
        "status = 'refunded'",
        "attention = 'why', attention_since = NULL",
        "payment_id = gen_random_uuid()",
        "gateway_account_id = gen_random_uuid()",
        "decision_id = gen_random_uuid()",
        "replaces = gen_random_uuid()",
    ],
)
async def test_no_refund_is_ever_what_it_cannot_be(  # INV-13, NUM-07, hyperswitch#11491
    db: Database, quiet_shop: Shop, lived: dict[str, Any], values: str
) -> None:
    with pytest.raises(InvariantBroken):
        await changed(db, quiet_shop, f"UPDATE refunds SET {values} WHERE merchant_id = :merchant_id")


async def test_no_row_points_into_another_merchants(
    db: Database, quiet_shop: Shop, quiet_house: House, lived: dict[str, Any]
) -> None:  # INV-18
    async with quiet_house.new_shop(quiet_shop.sandbox) as other:
        theirs = await other.pay()
        with pytest.raises(InvariantBroken):
            await changed(
                db,
                quiet_shop,
                "UPDATE refunds SET payment_id = :theirs WHERE merchant_id = :merchant_id",
                theirs=ids.read("payment", theirs["id"]),
            )


async def copied(db: Database, shop: Shop, table: str, **other: str) -> None:
    """Insert a row once more with other values for some columns."""
    names = [column.name for column in metadata.tables[table].c if column.name not in {"epoch", "xid"}]
    values = ", ".join(other.get(name, name) for name in names)
    await changed(
        db,
        shop,
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE merchant_id = :merchant_id LIMIT 1",
    )


@pytest.mark.parametrize(
    ("table", "other", "constraint"),
    [
        ("refunds", {"id": "gen_random_uuid()", "gateway_refund_id": "NULL"}, "uq_refunds_idempotency_key"),
        ("refunds", {"id": "gen_random_uuid()", "idempotency_key": "'other'"}, "uq_refunds_gateway_refund"),
        ("payments", {"id": "gen_random_uuid()"}, "uq_payments_gateway_payment"),
        ("attempts", {"generation": "2"}, "uq_attempts_key"),
        ("events", {"id": "gen_random_uuid()"}, "uq_events_sequence"),
        ("idempotency_keys", {}, "pk_idempotency_keys"),
    ],
)
@pytest.mark.usefixtures("lived")
async def test_what_is_there_once_cannot_be_there_twice(  # INV-05
    db: Database, quiet_shop: Shop, table: str, other: dict[str, str], constraint: str
) -> None:
    with pytest.raises(Duplicate) as taken:
        await copied(db, quiet_shop, table, **other)
    assert taken.value.constraint == constraint
