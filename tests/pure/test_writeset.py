"""The write set: the SQL it makes, what it refuses to be built from, and the order in which ours lock."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    Uuid,
    column,
    delete,
    update,
    values,
)
from sqlalchemy import case as sql_case
from sqlalchemy.dialects.postgresql.asyncpg import dialect

import refund_service
from refund_service.db.writeset import P, WriteSet, marked

tables = MetaData()
keys = Table("keys", tables, Column("key", Text, primary_key=True))
payments = Table(
    "payments",
    tables,
    Column("id", Uuid, primary_key=True),
    Column("held", BigInteger),
    Column("version", Integer),
)
refunds = Table(
    "refunds",
    tables,
    Column("id", Uuid, primary_key=True),
    Column("amount", BigInteger),
    Column("seen", Integer),
)
notes = Table("notes", tables, Column("id", Uuid, primary_key=True), Column("text", Text))


def flat(told: str) -> str:
    return " ".join(told.split())


def sql(statement: Select[Any]) -> str:
    return flat(str(statement.compile(dialect=dialect())))


def hold() -> Any:
    return (
        update(payments)
        .where(payments.c.id == P("payment_id"))
        .values(held=payments.c.held + P("amount", BigInteger))
    )


def test_claim_hold_and_insert_become_one_statement_of_all_or_nothing() -> None:
    write = WriteSet("refunds.create")
    write.insert("key", keys, {"key": P("key")}, on_conflict_nothing=True)
    held = write.guard("payment", hold(), payments.c.version)
    write.insert("refund", refunds, {"id": P("refund_id"), "amount": P("amount"), "seen": held.c.version})
    write.insert("note", notes, {"id": P("refund_id"), "text": P("note")}, when=P("note", Text).is_not(None))

    assert sql(write.done(version=held.c.version)) == flat(
        """
        WITH key AS
        (INSERT INTO keys (key) SELECT $1::VARCHAR AS key
            ON CONFLICT DO NOTHING RETURNING keys.key),
        payment AS
        (UPDATE payments SET held=(payments.held + $2::BIGINT)
            WHERE payments.id = $3::UUID
            AND (EXISTS (SELECT 1 FROM key)) RETURNING payments.version),
        refund AS
        (INSERT INTO refunds (id, amount, seen)
            SELECT $4::UUID AS id, $2::BIGINT AS amount, payment.version AS seen FROM payment
            WHERE EXISTS (SELECT 1 FROM payment) RETURNING refunds.id),
        note AS
        (INSERT INTO notes (id, text) SELECT $4::UUID AS id, $5::VARCHAR AS text
            WHERE (EXISTS (SELECT 1 FROM refund)) AND $5::VARCHAR IS NOT NULL RETURNING notes.id)
        SELECT CASE
            WHEN ((SELECT count(*) AS count_1 FROM key) != 1) THEN write_refused('key')
            WHEN ((SELECT count(*) AS count_2 FROM payment) != 1) THEN write_refused('payment')
            WHEN ((SELECT count(*) AS count_3 FROM refund) != 1) THEN write_refused('refund')
            WHEN ((SELECT count(*) AS count_4 FROM note) !=
                CASE WHEN ($5::VARCHAR IS NOT NULL) THEN 1 ELSE 0 END) THEN write_refused('note')
            ELSE 0 END AS refused,
            (SELECT payment.version FROM payment) AS version
        """
    )


def test_a_guard_may_have_to_hit_none_or_several() -> None:
    touched = P("touched", Integer)
    write = WriteSet("refunds.record")
    write.guard("job", delete(refunds).where(refunds.c.id == P("job_id")))
    write.guard("payment", hold(), times=sql_case((touched == 1, 1), else_=0))
    write.guard("others", update(refunds).values(amount=1), times=2)

    told = sql(write.done())

    # What may touch nothing is no link of the chain: the part after it hangs on the one before it.
    assert "UPDATE refunds SET amount=$8::BIGINT WHERE EXISTS (SELECT 1 FROM job)" in told
    assert "FROM others) != 2) THEN write_refused('others')" in told
    assert "FROM payment) != CASE WHEN ($4::INTEGER = $5::INTEGER)" in told


def test_a_set_of_rows_is_inserted_at_once() -> None:
    lines = values(column("amount", BigInteger), name="line").data([(1,), (2,)])
    write = WriteSet("orders.lines")
    write.insert("refunds", refunds, {"id": P("id"), "amount": lines.c.amount}, rows=lines, times=2)
    assert "SELECT $1::UUID AS id, line.amount AS amount FROM (VALUES" in sql(write.done())


def test_the_first_part_must_always_touch_a_row() -> None:
    write = WriteSet("refunds.broken")
    write.guard("payment", hold(), times=sql_case((P("touched", Integer) == 1, 1), else_=0))
    with pytest.raises(ValueError, match=r"refunds\.broken"):
        write.insert("refund", refunds, {"id": P("id")})


@pytest.mark.parametrize("name", ["it's", "a b", "x'); DROP TABLE refunds; --", ""])
def test_a_name_is_a_plain_word(name: str) -> None:
    write = WriteSet("refunds.create")
    write.guard(name, hold())
    with pytest.raises(ValueError, match=f"^{re.escape(name)}$"):
        write.done()


def test_placeholders_are_marked_so_that_none_is_taken_for_a_column() -> None:
    assert P("amount").key == "in_amount"
    assert marked({"amount": 1}) == {"in_amount": 1}


def test_a_statement_is_built_once_and_sent_as_it_is() -> None:
    write = WriteSet("refunds.hold")
    write.guard("payment", hold())
    assert sql(write.done()) == sql(write.done())


# The statements of the service

LOCKED_IN_ORDER = ("idempotency_keys", "jobs", "refunds", "payments", "attempts", "customers", "orders")
"""A table that two statements lock in two orders lets each wait for what the other holds."""


def statements_of_ours() -> Iterator[tuple[str, str]]:
    """Every write set that is a constant of a module, as SQL."""
    seen: set[int] = set()
    for found in pkgutil.walk_packages(refund_service.__path__, "refund_service."):
        if found.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            for statement in value.values() if isinstance(value, dict) else (value,):
                if isinstance(statement, Select) and id(statement) not in seen:
                    seen.add(id(statement))
                    told = sql(statement)
                    if "write_refused" in told:
                        yield f"{found.name}.{name}", told


OURS = list(statements_of_ours())


def test_there_are_statements_to_look_at() -> None:
    assert len(OURS) > 10
    assert {"refund_service.refunds.creation.CREATE", "refund_service.refunds.submit._SUBMIT"} <= dict(
        OURS
    ).keys()


@pytest.mark.parametrize("told", [told for _, told in OURS], ids=[name for name, _ in OURS])
def test_every_write_locks_rows_in_one_order(told: str) -> None:
    locked = [
        table
        for kind, table in re.findall(r"\((INSERT INTO|UPDATE|DELETE FROM) (\w+)", told)
        if kind != "INSERT INTO" or table == "idempotency_keys"
    ]
    places = [LOCKED_IN_ORDER.index(table) for table in locked if table in LOCKED_IN_ORDER]
    assert places == sorted(places), locked


@pytest.mark.parametrize("told", [told for _, told in OURS], ids=[name for name, _ in OURS])
def test_every_write_names_the_merchant_or_the_lease(told: str) -> None:
    for part in re.findall(r"\((?:UPDATE|DELETE FROM) (\w+) .*?RETURNING", told):
        condition = re.search(rf"\((?:UPDATE|DELETE FROM) {part} .*?RETURNING", told)
        assert condition is not None
        if part != "jobs":
            assert f"{part}.merchant_id = " in condition[0], condition[0]
