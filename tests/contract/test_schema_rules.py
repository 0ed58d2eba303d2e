"""Rules that every table keeps: led by the merchant, whole numbers for money, an index for each filter."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from explained import Explained, by_index, nodes_of, scans_of
from house import settings_for
from sqlalchemy import BigInteger, Float, Numeric, Table, text

from refund_service.app import put_together
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database
from refund_service.merchants.roles import Role
from refund_service.orders.tables import LineKind
from refund_service.payments.listing import PaymentFilters, list_payments
from refund_service.policies.verdicts import Verdict
from refund_service.refunds.listing import RefundFilters, list_refunds
from refund_service.refunds.states import AttemptState, Outcome, RefundEvent, Status
from refund_service.schema import TABLES

NO_MERCHANTS = {"merchants", "jobs", "heartbeats", "stop_switches", "feed_epochs", "verifications"}
"""The merchants themselves, and what is the operator's own."""

UNLED = {"uq_api_keys_prefix"}
"""Unique values that are looked up before a merchant is known."""

MONEY = {
    "amount",
    "captured",
    "disputed",
    "excess",
    "held",
    "refunded",
    "refunded_elsewhere",
    "tax",
    "total",
    "unit_price",
}
OF_MERCHANTS = [table for table in TABLES if table.name not in NO_MERCHANTS]
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
every_merchants_table = pytest.mark.parametrize("table", OF_MERCHANTS, ids=lambda table: table.name)


@pytest.fixture(scope="module")
async def db(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[Database]:
    """A migrated database of this file's own, in which no plan may read a whole table."""
    url = postgres.create_database("schema_rules", migrated)
    parts = put_together(settings_for(url))
    await parts.db.rows(text("ALTER DATABASE schema_rules SET enable_seqscan = off"))
    await parts.db.close()
    parts = put_together(settings_for(url))
    yield parts.db
    await parts.db.close()
    postgres.drop_database("schema_rules")


# Led by the merchant


def test_the_tables_without_a_merchant_are_the_named_ones() -> None:
    without = {table.name for table in TABLES if "merchant_id" not in table.primary_key.columns}
    assert without == NO_MERCHANTS


@every_merchants_table
def test_the_merchant_leads_every_key(table: Table) -> None:  # INV-18
    assert next(iter(table.primary_key.columns)).name == "merchant_id"
    led = [
        (index.name, next(iter(index.columns)).name)
        for index in (*table.indexes, *table.constraints)
        if getattr(index, "unique", False) or type(index).__name__ == "UniqueConstraint"
    ]
    assert [name for name, first in led if first != "merchant_id" and name not in UNLED] == []


@every_merchants_table
def test_no_row_can_point_into_another_merchants(table: Table) -> None:  # INV-18
    assert table.foreign_key_constraints
    for key in table.foreign_key_constraints:
        columns = [column.name for column in key.columns]
        targets = [element.column.name for element in key.elements]
        assert columns[0] == "merchant_id"
        whose = key.referred_table
        assert targets[0] == ("id" if whose.name == "merchants" else "merchant_id")
        assert whose.name == "merchants" or len(columns) == len(whose.primary_key.columns)
    # Whether by way of another row or by itself, the merchant is there.
    assert {key.referred_table.name for key in table.foreign_key_constraints} <= {
        "merchants",
        *(other.name for other in OF_MERCHANTS),
    }


@every_merchants_table
def test_every_index_is_led_by_the_merchant_or_swept_over_all(table: Table) -> None:
    swept = {"ix_refunds_due", "ix_refunds_open"}
    others = [
        index.name
        for index in table.indexes
        if next(iter(index.columns)).name != "merchant_id" and not index.unique
    ]
    assert set(others) <= swept


async def test_the_database_says_the_same(db: Database) -> None:
    rows = await db.rows(
        text(
            "SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS table, a.attname AS first "
            "FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            "WHERE i.indisunique AND t.relnamespace = 'public'::regnamespace"
        )
    )
    odd = {
        row["name"]
        for row in rows
        if row["first"] != "merchant_id" and row["table"] not in NO_MERCHANTS | {"alembic_version"}
    }
    assert odd == UNLED


# What columns hold


@every_table
def test_money_is_whole_numbers_of_64_bits(table: Table) -> None:
    for column in table.columns:
        assert not isinstance(column.type, Float | Numeric), column
        if column.name in MONEY:
            assert isinstance(column.type, BigInteger), column


async def test_there_are_no_types_but_plain_ones(db: Database) -> None:
    rows = await db.rows(
        text(
            "SELECT table_name, column_name, udt_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
        )
    )
    plain = {"_text", "bool", "bytea", "int2", "int4", "int8", "jsonb", "text", "timestamptz", "uuid", "xid8"}
    assert {row["udt_name"] for row in rows} == plain
    for row in rows:
        if row["column_name"].endswith("_at") or row["column_name"] == "at":
            assert row["udt_name"] == "timestamptz", row
        if row["column_name"] == "id" or row["column_name"].endswith("_id"):
            named_by_others = {
                "order_id",
                "line_id",
                "customer_id",
                "gateway_payment_id",
                "gateway_refund_id",
            }
            of_ours = {"pepper_id", "sealing_key_id"}
            assert row["udt_name"] == "uuid" or row["column_name"] in named_by_others | of_ours, row
    enums = await db.value(
        text("SELECT count(*) FROM pg_type WHERE typtype = 'e' AND typnamespace = 'public'::regnamespace")
    )
    assert enums == 0


WORDS: Mapping[tuple[str, str], Sequence[str]] = {
    ("api_keys", "role"): list(Role),
    ("attempts", "state"): list(AttemptState),
    ("decisions", "outcome"): list(Verdict),
    ("gateway_accounts", "status"): ["active", "paused"],
    ("gateway_calls", "kind"): ["send", "look_up"],
    ("notes", "subject_kind"): ["order", "payment", "refund"],
    ("order_lines", "kind"): list(LineKind),
    ("refund_transitions", "event"): list(RefundEvent),
    ("refund_transitions", "to_status"): list(Status),
    ("refunds", "status"): list(Status),
}


async def test_the_words_of_the_checks_are_those_of_the_code(db: Database) -> None:
    rows = await db.rows(
        text(
            "SELECT conrelid::regclass::text AS table, pg_get_constraintdef(oid) AS told FROM pg_constraint "
            "WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        )
    )
    found = {}
    for row in rows:
        column = re.match(r"CHECK \(\((\w+) = ANY \(ARRAY\[", row["told"])
        if column:
            found[row["table"], column[1]] = sorted(re.findall(r"'(\w+)'::text", row["told"]))
    assert found == {place: sorted(str(word) for word in words) for place, words in WORDS.items()}


def test_personal_data_stand_in_rows_of_their_own() -> None:
    personal = {"email", "locale", "phone", "address", "birthday", "text"}
    where = {table.name for table in TABLES for column in table.columns if column.name in personal}
    assert where == {"customers", "notes"}


# Every filter has an index


# Ids as of the summer of 2024: lists by time look for them in the order of ids.


def numbered(number: int) -> UUID:
    return UUID(int=(0x0190 << 112) + number)


SHOP, ONE, LONG_AGO = UUID(int=1), numbered(77), datetime(2020, 1, 1, tzinfo=UTC)

# Three thousand refunds of one merchant, each of its own payment, order and customer, and as many of others.
SEED = """
SET LOCAL session_replication_role = replica;
INSERT INTO merchants (id, organization_id, name, livemode, created_at)
SELECT lpad(m::text, 32, '0')::uuid, gen_random_uuid(), 'shop', false, now() FROM generate_series(1, 2) m;
INSERT INTO gateway_accounts (merchant_id, id, name, gateway, remote_account, base_url, settings,
    sealed_credentials, sealing_key_id, status, version, created_at, updated_at)
SELECT lpad(m::text, 32, '0')::uuid, lpad(n::text, 32, '0')::uuid, 'account-' || n, 'sandbox', 'a', 'http://x',
    '{}', '', 'k', 'active', 1, now(), now()
FROM generate_series(1, 2) m, generate_series(1, 300) n;
INSERT INTO customers (merchant_id, id, customer_id, created_at)
SELECT lpad(m::text, 32, '0')::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, 'C-' || n, now()
FROM generate_series(1, 2) m, generate_series(1, 3000) n;
INSERT INTO orders (merchant_id, id, order_id, currency, customer_id, tags, facts, lines, version, created_at,
    updated_at)
SELECT lpad(m::text, 32, '0')::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, 'O-' || n, 'EUR',
    ('0190' || lpad(to_hex(n), 28, '0'))::uuid, '[]', '{}', 0, 1, now(), now()
FROM generate_series(1, 2) m, generate_series(1, 3000) n;
INSERT INTO payments (merchant_id, id, gateway_account_id, gateway, remote_account, gateway_payment_id, order_id,
    customer_id, currency, captured, held, refunded, refunded_elsewhere, disputed, excess, captured_at, reference,
    metadata, version, created_at, updated_at)
SELECT lpad(m::text, 32, '0')::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid,
    lpad((n % 300 + 1)::text, 32, '0')::uuid, 'sandbox', 'a', 'pi_' || n, ('0190' || lpad(to_hex(n), 28, '0'))::uuid,
    ('0190' || lpad(to_hex(n), 28, '0'))::uuid, 'EUR', 1000, 0, 0, 0, 0, 0, now(), 'P-' || n, '{}', 1,
    now() - make_interval(mins => n), now()
FROM generate_series(1, 2) m, generate_series(1, 3000) n;
INSERT INTO refunds (merchant_id, id, payment_id, order_id, customer_id, gateway_account_id, amount, currency,
    status, reason, reference, metadata, decision_id, idempotency_key, generation, requested_by, requested_with,
    gateway_refund_id, bank_reference_value, attention, attention_since, version, created_at, updated_at)
SELECT lpad(m::text, 32, '0')::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid,
    ('0190' || lpad(to_hex(n), 28, '0'))::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, lpad((n % 300 + 1)::text, 32, '0')::uuid,
    n, 'EUR', CASE WHEN n = 77 THEN 'unknown' ELSE 'succeeded' END, 'reason-' || n % 1000, 'R-' || n, '{}',
    gen_random_uuid(), 'k-' || n, 1, 'person-' || n % 1000, gen_random_uuid(), 're_' || n, 'arn-' || n,
    CASE WHEN n = 77 THEN 'unknown_for_long' END, CASE WHEN n = 77 THEN now() END, 1,
    now() - make_interval(mins => n), now() - make_interval(mins => n)
FROM generate_series(1, 2) m, generate_series(1, 3000) n
"""


DECIDED = """
INSERT INTO decisions (merchant_id, id, payment_id, refund_id, outcome, rule, policy_version, explanation, facts,
    trace, decided_for, decided_at)
SELECT merchant_id, decision_id, payment_id, id, 'allowed', 'all', 0, 'It is within the policy.', '{}', '[]',
    requested_by, created_at
FROM refunds WHERE merchant_id = '00000000-0000-0000-0000-000000000001'
"""

MORE = """
INSERT INTO refunds (merchant_id, id, payment_id, gateway_account_id, amount, currency, status, reason, metadata,
    decision_id, idempotency_key, generation, requested_by, requested_with, version, created_at, updated_at)
SELECT merchant_id, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, payment_id, gateway_account_id, amount, currency, status, reason,
    metadata, decision_id, 'k-' || n, generation, requested_by, requested_with, version, now(), now()
FROM refunds, generate_series(CAST(:first AS int), CAST(:last AS int)) n
WHERE merchant_id = '00000000-0000-0000-0000-000000000001' AND id = '01900000-0000-0000-0000-000000000001'
"""


@pytest.fixture(scope="module")
async def crowded(db: Database) -> Database:
    async with db.transaction() as tx:
        for statement in SEED.split(";\n"):
            await tx.execute(text(statement.replace("\n    ", " ")))
    async with db.transaction() as tx:
        await tx.execute(text("ANALYZE"))
    return db


REFUNDS: dict[str, tuple[Any, str]] = {
    "status": ([Status.UNKNOWN], "status"),
    "outcome": (Outcome.FAILED, "status"),
    "payment_id": (ONE, "payment_id"),
    "order_id": ("O-77", "order_id"),
    "customer_id": ("C-77", "customer_id"),
    "reference": ("R-77", "reference"),
    "gateway_refund_id": ("re_77", "gateway_refund_id"),
    "bank_reference": ("arn-77", "bank_reference_value"),
    "reason": ("reason-77", "reason"),
    "requested_by": ("person-77", "requested_by"),
    "gateway_account": ("account-77", "gateway_account_id"),
    "amount": (77, "amount"),
    "created_from": (datetime(2999, 1, 1, tzinfo=UTC), "id"),
    "created_to": (LONG_AGO, "id"),
    "updated_from": (datetime(2999, 1, 1, tzinfo=UTC), "updated_at"),
    # What was changed before a moment was made before it, and the list is in the order of ids.
    "updated_to": (LONG_AGO, "id"),
    "attention": (True, "ix_refunds_attention"),
}
PAYMENTS: dict[str, tuple[Any, str]] = {
    "order_id": ("O-77", "order_id"),
    "customer_id": ("C-77", "customer_id"),
    "reference": ("P-77", "reference"),
    "gateway_payment_id": ("pi_77", "gateway_payment_id"),
    "created_from": (datetime(2999, 1, 1, tzinfo=UTC), "id"),
    "created_to": (LONG_AGO, "id"),
}


def test_every_filter_is_tried() -> None:
    assert list(REFUNDS) == [field.name for field in fields(RefundFilters)]
    assert list(PAYMENTS) == [field.name for field in fields(PaymentFilters)]


@pytest.mark.parametrize("name", REFUNDS)
async def test_a_filter_of_refunds_is_answered_by_an_index(crowded: Database, name: str) -> None:
    value, column = REFUNDS[name]
    asked = Explained(crowded)
    await list_refunds(cast("Any", asked), SHOP, RefundFilters(**{name: value}), before=None, limit=21)
    assert by_index(asked.plan, "refunds", column), asked.plan


@pytest.mark.parametrize("name", PAYMENTS)
async def test_a_filter_of_payments_is_answered_by_an_index(crowded: Database, name: str) -> None:
    value, column = PAYMENTS[name]
    asked = Explained(crowded)
    await list_payments(cast("Any", asked), SHOP, PaymentFilters(**{name: value}), before=None, limit=21)
    assert by_index(asked.plan, "payments", column), asked.plan


async def test_a_list_stays_as_it_was_while_a_thousand_are_inserted(crowded: Database) -> None:  # CON-17
    async with crowded.transaction() as tx:
        await tx.execute(text(DECIDED))
    found: list[UUID] = []
    for page in range(10):
        before = found[-1] if found else numbered(3001)
        found += [
            row["id"] for row in await list_refunds(crowded, SHOP, RefundFilters(), before=before, limit=300)
        ]
        async with crowded.transaction() as tx:
            await tx.execute(text("SET LOCAL session_replication_role = replica"))
            await tx.execute(text(MORE), {"first": 5001 + 100 * page, "last": 5100 + 100 * page})

    assert found == [numbered(number) for number in range(3000, 0, -1)]
    newest = await list_refunds(crowded, SHOP, RefundFilters(), before=None, limit=1001)
    assert [row["id"] for row in newest] == [numbered(number) for number in (*range(6000, 5000, -1), 3000)]


async def test_a_list_without_filters_reads_no_more_than_its_page(crowded: Database) -> None:  # SEC-26
    asked = Explained(crowded)
    await list_refunds(cast("Any", asked), SHOP, RefundFilters(), before=ONE, limit=21)
    (scan,) = (one for one in scans_of(asked.plan) if one.get("Relation Name") == "refunds")
    assert (scan["Index Name"], scan["Scan Direction"]) == ("pk_refunds", "Backward")
    # The page may be put in order once more after the joins; the refunds may not.
    assert {key for node in nodes_of(asked.plan) for key in node.get("Sort Key", ())} <= {"page.id DESC"}
