"""The write set: one statement, all of it or nothing, its locks in the order in which it is written."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from house import Shop
from sqlalchemy import (
    Column,
    Executable,
    Integer,
    MetaData,
    Table,
    Text,
    case,
    column,
    func,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, asyncpg

from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database, DatabaseOptions
from refund_service.db.errors import Busy, Duplicate, InvariantBroken, WriteRefused
from refund_service.db.ready import ReadyStatement, Shelf
from refund_service.db.writeset import P, WriteSet

metadata = MetaData()
claims = Table("claims", metadata, Column("key", Text, primary_key=True))
tills = Table(
    "tills", metadata, Column("name", Text, primary_key=True), Column("coins", Integer, nullable=False)
)
slips = Table(
    "slips", metadata, Column("till", Text, primary_key=True), Column("number", Integer, primary_key=True)
)

TABLES = (
    "CREATE TABLE claims (key text PRIMARY KEY)",
    "CREATE TABLE tills (name text PRIMARY KEY, coins integer NOT NULL CHECK (coins >= 0))",
    "CREATE TABLE slips (till text, number integer, PRIMARY KEY (till, number))",
    "CREATE SEQUENCE tries",
    # A deadlock on the first so many calls: a sequence is not rolled back.
    """
    CREATE FUNCTION deadlocked_until(number bigint) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        IF nextval('tries') <= number THEN
            RAISE EXCEPTION USING ERRCODE = '40P01';
        END IF;
        RETURN 1;
    END
    $$
    """,
)


@pytest.fixture(scope="module")
async def db(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[Database]:
    name = f"writeset_{os.urandom(6).hex()}"
    opened = Database.connect(DatabaseOptions(postgres.create_database(name, migrated)))
    for statement in (*TABLES, f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'"):
        await opened.rows(text(statement))
    await opened.close()  # what is set for the database holds for new connections
    yield opened
    await opened.close()
    postgres.drop_database(name)


@pytest.fixture(autouse=True)
async def empty(db: Database) -> None:
    await db.rows(text("TRUNCATE claims, tills, slips"))
    await db.rows(text("ALTER SEQUENCE tries RESTART"))
    await db.rows(text("INSERT INTO tills VALUES ('a', 100), ('b', 100), ('m', 100)"))


async def coins(db: Database) -> dict[str, int]:
    return {row["name"]: row["coins"] for row in await db.rows(text("SELECT * FROM tills"))}


async def count(db: Database, table: str) -> int:
    number: int = await db.value(text(f"SELECT count(*) FROM {table}"))
    return number


def taken(name: str, coins_: Any = None) -> Any:
    """Take coins from a till that has them."""
    amount = P("coins", Integer) if coins_ is None else coins_
    return (
        update(tills)
        .where(tills.c.name == name, tills.c.coins >= amount)
        .values(coins=tills.c.coins - amount)
    )


def _pay() -> Any:
    write = WriteSet("tests.pay")
    write.insert("claim", claims, {"key": P("key")}, on_conflict_nothing=True)
    till = write.guard("till", taken("a"), tills.c.coins)
    write.insert("slip", slips, {"till": "a", "number": till.c.coins})
    return write.done(left=till.c.coins)


PAY = _pay()

PAY_AS_SQL = """
    WITH claim AS (
        INSERT INTO claims (key) SELECT $1::VARCHAR AS key ON CONFLICT DO NOTHING RETURNING claims.key),
    till AS (
        UPDATE tills SET coins=(tills.coins - $2::INTEGER)
        WHERE tills.name = $3::VARCHAR AND tills.coins >= $2::INTEGER
        AND (EXISTS (SELECT 1 FROM claim))
        RETURNING tills.coins),
    slip AS (
        INSERT INTO slips (till, number) SELECT $4::VARCHAR AS till, till.coins AS number FROM till
        WHERE EXISTS (SELECT 1 FROM till)
        RETURNING slips.till, slips.number)
    SELECT CASE
        WHEN ((SELECT count(*) AS count_1 FROM claim) != 1) THEN write_refused('claim')
        WHEN ((SELECT count(*) AS count_2 FROM till) != 1) THEN write_refused('till')
        WHEN ((SELECT count(*) AS count_3 FROM slip) != 1) THEN write_refused('slip')
        ELSE 0 END AS refused,
        (SELECT till.coins FROM till) AS "left"
"""


def test_this_is_the_sql_it_makes() -> None:
    def plain(sql: str) -> str:
        return "".join(sql.split())

    assert plain(str(PAY.compile(dialect=asyncpg.dialect()))) == plain(PAY_AS_SQL)


async def test_it_writes_everything_and_tells_what_the_guards_returned(db: Database) -> None:
    told = await db.write(PAY, key="k", coins=30)

    assert told["left"] == 70
    assert (await coins(db))["a"] == 70
    assert [dict(row) for row in await db.rows(text("SELECT * FROM slips"))] == [{"till": "a", "number": 70}]
    assert await count(db, "claims") == 1


async def test_a_refused_guard_leaves_nothing_not_even_the_key(db: Database) -> None:
    with pytest.raises(WriteRefused) as refused:
        await db.write(PAY, key="k", coins=101)

    assert refused.value.guard == "till"
    assert (await coins(db))["a"] == 100
    assert (await count(db, "claims"), await count(db, "slips")) == (0, 0)
    await db.write(PAY, key="k", coins=100)  # the edge: all of it, under the same key


async def test_a_key_that_is_taken_refuses_the_rest(db: Database) -> None:
    await db.write(PAY, key="k", coins=1)

    with pytest.raises(WriteRefused) as refused:
        await db.write(PAY, key="k", coins=1)

    assert refused.value.guard == "claim"
    assert ((await coins(db))["a"], await count(db, "slips")) == (99, 1)


@pytest.mark.parametrize(("meant", "hit"), [(1, 2), (2, 1), (1, 0)])
async def test_a_guard_that_hits_more_or_fewer_rows_than_meant_is_refused(
    db: Database, meant: int, hit: int
) -> None:
    write = WriteSet("tests.several")
    write.insert("claim", claims, {"key": P("key")})
    several = update(tills).where(tills.c.name.in_(["a", "b"][:hit])).values(coins=0)
    write.guard("tills", several, times=meant)

    with pytest.raises(WriteRefused) as refused:
        await db.write(write.done(), key="k")

    assert refused.value.guard == "tills"
    assert await coins(db) == {"a": 100, "b": 100, "m": 100}
    assert await count(db, "claims") == 0


async def test_a_guard_may_be_meant_to_hit_several_rows(db: Database) -> None:
    write = WriteSet("tests.several")
    write.guard("tills", update(tills).where(tills.c.name.in_(["a", "b"])).values(coins=0), times=2)

    await db.write(write.done())

    assert await coins(db) == {"a": 0, "b": 0, "m": 100}


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_part_may_depend_on_a_bind_and_its_count_does_too(db: Database, wanted: bool) -> None:
    write = WriteSet("tests.maybe")
    write.guard("a", taken("a", 1))
    wants = P("wanted", Integer) == 1
    write.guard("b", taken("b", 1).where(wants), times=case((wants, 1), else_=0))
    write.insert("slip", slips, {"till": "a", "number": 1}, when=wants)
    # Behind parts that may touch nothing, the chain holds on to the one that must.
    write.insert("claim", claims, {"key": P("key")})

    await db.write(write.done(), key="k", wanted=int(wanted))

    assert await coins(db) == {"a": 99, "b": 99 if wanted else 100, "m": 100}
    assert (await count(db, "slips"), await count(db, "claims")) == (int(wanted), 1)


async def test_many_rows_may_be_inserted_at_once_and_are_counted(db: Database) -> None:
    listed = func.jsonb_to_recordset(P("slips", JSONB)).table_valued(column("number", Integer))
    rows = listed.render_derived(name="listed", with_types=True)

    def statement(times: int) -> Any:
        write = WriteSet("tests.many")
        write.guard("a", taken("a", 1))
        write.insert("slips", slips, {"till": "a", "number": rows.c.number}, rows=rows, times=times)
        return write.done()

    told = [{"number": number} for number in (1, 2, 3)]
    with pytest.raises(WriteRefused) as refused:
        await db.write(statement(2), slips=told)
    assert refused.value.guard == "slips"
    assert (await coins(db))["a"] == 100
    await db.write(statement(3), slips=told)
    assert await count(db, "slips") == 3


async def test_what_the_database_refuses_is_told_in_our_words(db: Database) -> None:
    write = WriteSet("tests.unguarded")
    write.insert("claim", claims, {"key": P("key")})
    write.guard("a", update(tills).where(tills.c.name == "a").values(coins=P("coins", Integer)))
    unguarded = write.done()

    with pytest.raises(InvariantBroken):
        await db.write(unguarded, key="k", coins=-1)
    assert await count(db, "claims") == 0
    await db.write(unguarded, key="k", coins=1)
    with pytest.raises(Duplicate) as taken_:
        await db.write(unguarded, key="k", coins=2)
    assert taken_.value.constraint == "claims_pkey"
    assert (await coins(db))["a"] == 1


def test_the_first_part_must_always_touch_a_row() -> None:
    write = WriteSet("tests.loose")
    write.insert("slip", slips, {"till": "a", "number": 1}, when=P("wanted", Integer) == 1)

    with pytest.raises(ValueError, match=r"tests\.loose: the first part"):
        write.guard("a", taken("a", 1))


# --- waiting ---------------------------------------------------------------------------------


async def waiting(db: Database, number: int) -> None:
    statement = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(10):
        while await db.value(statement) < number:
            await asyncio.sleep(0.005)


def _chain(*names: str) -> Any:
    write = WriteSet("tests.chain")
    for name in names:
        write.guard(name, taken(name, 1))
    return write.done()


async def test_parts_take_their_locks_in_the_order_in_which_they_are_written(db: Database) -> None:
    one_line = _chain("a", "m", "b")
    deadlocks = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")

    async with db.transaction() as holding:
        await holding.execute(text("SELECT 1 FROM tills WHERE name = 'm' FOR UPDATE"))
        running = [asyncio.create_task(db.write(one_line)) for _ in range(3)]
        await waiting(db, 3)
        assert await db.value(text("SELECT 1 FROM tills WHERE name = 'b' FOR UPDATE NOWAIT")) == 1, (
            "b not yet"
        )
    await asyncio.gather(*running)

    assert await coins(db) == {"a": 97, "b": 97, "m": 97}
    assert await db.value(deadlocks) == 0


async def test_of_two_that_wait_for_each_other_the_one_rolled_back_is_tried_once_more(db: Database) -> None:
    one_way, the_other = _chain("a", "m", "b"), _chain("b", "a")

    async with db.transaction() as holding:
        await holding.execute(text("SELECT 1 FROM tills WHERE name = 'm' FOR UPDATE"))
        first = asyncio.create_task(db.write(one_way))
        await waiting(db, 1)
        second = asyncio.create_task(db.write(the_other))
        await waiting(db, 2)
    await asyncio.gather(first, second)

    assert await coins(db) == {"a": 98, "b": 98, "m": 99}


@pytest.mark.parametrize("deadlocks", [1, 2])
async def test_a_deadlock_is_tried_again_once_and_then_told_as_busy(db: Database, deadlocks: int) -> None:
    write = WriteSet("tests.deadlocked")
    write.guard("a", taken("a", func.deadlocked_until(deadlocks)))
    statement = write.done()

    if deadlocks == 1:
        await db.write(statement)
    else:
        with pytest.raises(Busy):
            await db.write(statement)

    assert (await coins(db))["a"] == (99 if deadlocks == 1 else 100)


async def test_a_row_that_others_hold_is_not_waited_for_without_end(db: Database) -> None:
    async with db.transaction() as holding:
        await holding.execute(text("SELECT 1 FROM tills WHERE name = 'a' FOR UPDATE"))
        with pytest.raises(Busy) as busy:
            await db.write(PAY, key="k", coins=1)
    assert (busy.value.status, busy.value.retryable) == (503, True)
    assert await count(db, "claims") == 0


# --- built once ------------------------------------------------------------------------------


def constants() -> set[int]:
    """The statements that stand in our modules."""
    known: set[int] = set()
    for name, module in list(sys.modules.items()):
        if name.startswith("refund_service"):
            for value in vars(module).values():
                held = (
                    value.values()
                    if isinstance(value, dict)
                    else value
                    if isinstance(value, tuple)
                    else (value,)
                )
                known |= {id(one) for one in held if isinstance(one, Executable)}
    return known


class NotingShelf(Shelf):
    """Remembers every statement that was asked for."""

    def __init__(self, dialect: Any) -> None:
        super().__init__(dialect)
        self.taken: list[Executable] = []

    def take(self, statement: Executable) -> ReadyStatement | None:
        self.taken.append(statement)
        return super().take(statement)


async def test_no_statement_is_built_for_a_request(quiet_shop: Shop, step: Any, clock: Any) -> None:
    """Built anew, the same expression would cost eight times the client's CPU."""
    shop, db = quiet_shop, quiet_shop.house.parts.db
    shelf = db._shelf = NotingShelf(db._engine.dialect)
    payment = await shop.pay()
    key = uuid4().hex
    for _ in range(2):
        await shop.ask(payment, 100, key=key)
    await step(shop)
    failed = (await shop.ask(payment, 100, metadata={"sandbox": "decline"})).json()
    await step(shop)
    await shop.client.post(f"/v1/refunds/{failed['id']}/retry", headers={"Idempotency-Key": key + "r"})
    await step(shop)
    stopped = (await shop.ask(payment, 100)).json()
    await shop.client.post(f"/v1/refunds/{stopped['id']}/cancel")
    await shop.ask(payment, 100, metadata={"sandbox": "lose_answer"})
    await step(shop)
    await clock.jump(seconds=20)
    await step(shop)
    assert len(shelf.taken) > 25
    known = constants()
    assert [str(one)[:100] for one in shelf.taken if id(one) not in known] == []
