"""Migrations: a database that was migrated is the one that the code declares, however often it is done."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from alembic.script import ScriptDirectory
from house import House, Shop, settings_for
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from refund_service.app import put_together
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database
from refund_service.db.errors import InvariantBroken
from refund_service.db.migrations import differences, migrate
from refund_service.db.schema_state import SchemaRefused, folder, head, schema_state
from refund_service.schema import metadata

# In a fresh database each row of these has a trigger that keeps it as it was written.
HISTORY = ("decisions", "events", "gateway_calls", "order_facts", "refund_transitions")


@pytest.fixture
def fresh(postgres: EmbeddedServer) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"fresh_{uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
async def db(fresh: str) -> AsyncIterator[Database]:
    parts = put_together(settings_for(fresh))
    yield parts.db
    await parts.db.close()


SHAPE = text(
    """
    SELECT 'column' AS kind, table_name || '.' || column_name AS name,
           concat_ws(' ', data_type, is_nullable, column_default) AS told
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgname || ' on ' || tgrelid::regclass, pg_get_triggerdef(oid) FROM pg_trigger
    WHERE NOT tgisinternal
    ORDER BY 1, 2
    """
)


async def shape_of(db: Database) -> list[tuple[str, str, str]]:
    return [(row["kind"], row["name"], row["told"]) for row in await db.rows(SHAPE)]


def test_there_is_one_line_of_migrations_and_each_has_its_number() -> None:
    scripts = ScriptDirectory(str(folder()))
    assert scripts.get_heads() == [head()]
    numbers = [script.revision for script in scripts.walk_revisions()][::-1]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
    for script in scripts.walk_revisions():
        assert re.fullmatch(rf"{script.revision}_[a-z0-9_]+\.py", script.path.rpartition("/")[2])


async def test_a_fresh_database_becomes_the_one_that_the_code_declares(fresh: str, db: Database) -> None:
    assert (await schema_state(db)).found is None

    assert await migrate(fresh) == head()

    assert await differences(fresh, metadata) == []
    state = await schema_state(db)
    assert (state.found, state.needed, state.borne) == (head(), head(), True)


async def test_a_difference_is_found(fresh: str, db: Database) -> None:
    await migrate(fresh)
    await db.rows(text("ALTER TABLE refunds ADD COLUMN surprise text"))
    await db.rows(text("DROP INDEX uq_refunds_reference"))
    assert len(await differences(fresh, metadata)) == 2


async def test_migrating_again_changes_nothing(fresh: str, db: Database) -> None:
    await migrate(fresh)
    once = await shape_of(db)
    assert await migrate(fresh) == head()
    assert await shape_of(db) == once


async def test_processes_that_start_at_once_migrate_once(fresh: str, db: Database) -> None:
    reached = await asyncio.gather(*(migrate(fresh) for _ in range(4)))
    assert set(reached) == {head()}
    assert await db.value(text("SELECT count(*) FROM alembic_version")) == 1
    assert await differences(fresh, metadata) == []


@pytest.mark.parametrize(
    ("ahead", "borne"), [(-1, False), (0, True), (1, True), (2, False)], ids=["older", "own", "next", "later"]
)
async def test_code_bears_its_own_schema_and_the_next(
    fresh: str, db: Database, ahead: int, borne: bool
) -> None:
    await migrate(fresh)
    await db.rows(text(f"UPDATE alembic_version SET version_num = '{int(head()) + ahead:04d}'"))
    assert (await schema_state(db)).borne is borne


async def test_a_schema_one_ahead_is_left_as_it_is_and_one_further_on_is_refused(
    fresh: str, db: Database
) -> None:
    await migrate(fresh)
    following, later = (f"{int(head()) + ahead:04d}" for ahead in (1, 2))
    await db.rows(text(f"UPDATE alembic_version SET version_num = '{following}'"))
    assert await migrate(fresh) == following
    await db.rows(text(f"UPDATE alembic_version SET version_num = '{later}'"))
    with pytest.raises(SchemaRefused, match=f"is {later}, this version needs {head()}: start a newer"):
        await migrate(fresh)
    assert (await schema_state(db)).found == later


async def test_names_follow_the_convention(fresh: str, db: Database) -> None:
    await migrate(fresh)
    begin = {"p": "pk", "u": "uq", "f": "fk", "c": "ck"}
    constraints = await db.rows(
        text(
            "SELECT conname, contype::text AS kind, conrelid::regclass::text AS table FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
        )
    )
    indexes = await db.rows(
        text(
            "SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS table, indisunique "
            "FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) "
            "AND indexrelid NOT IN (SELECT conindid FROM pg_constraint)"
        )
    )
    odd = [
        row["conname"]
        for row in constraints
        if row["table"] != "alembic_version"
        and not re.match(rf"{begin[row['kind']]}_{row['table']}(_|$)", row["conname"])
    ] + [
        row["name"]
        for row in indexes
        if not re.match(rf"{'uq' if row['indisunique'] else 'ix'}_{row['table']}_", row["name"])
    ]
    assert len(constraints) > 40
    assert odd == []


# History


async def said_to(db: Database, *statements: str) -> str:
    """What the database says to the statements, of which nothing is kept."""
    try:
        async with db.transaction() as tx:
            for statement in statements:
                await tx.execute(text(statement))
            await tx.rollback()
    except (DBAPIError, InvariantBroken) as error:
        return str(error)
    return "done"


async def test_history_is_added_to_and_only_retention_takes_from_it(  # INV-08
    own_house: House, own_shop: Shop
) -> None:
    await own_house.start_worker()
    payment = await own_shop.pay(5990, order={"id": "A-1"})
    await own_shop.client.patch("/v1/orders/A-1", json={"facts": {"delivered": True}})
    await own_shop.refund(payment, 100)
    db, retention = own_house.parts.db, "SET LOCAL refund.retention = 'on'"

    for table in HISTORY:
        assert await own_shop.count(table) > 0, table
        edit, delete = f"UPDATE {table} SET merchant_id = merchant_id", f"DELETE FROM {table}"
        kept = f"{table} is history"
        assert kept in await said_to(db, edit)
        assert kept in await said_to(db, delete)
        assert kept in await said_to(db, retention, edit)
        assert kept not in await said_to(db, retention, delete)
    assert await said_to(db, retention, "DELETE FROM events") == "done"
