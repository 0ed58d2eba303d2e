"""Fill a database by copying one real refund: each column as the service wrote it, but for those named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.ledger import LARGE, PAYMENTS, History, merchant_of, short_id
from bench.shop import CREATED, SENT, Shop
from bench.sql import Sql

FILLED = ("payments", "orders", *CREATED, *SENT)
_SESSION = "SET maintenance_work_mem = '512MB'; SET jit = off; SET synchronous_commit = off"

# Of 1,000 refunds 960 succeeded, 38 failed, and 2 are unknown and wait for a person.
_CHANCE = "((hashint8(n) & 2147483647) % 1000)"
_STATUS = f"CASE WHEN {_CHANCE} < 960 THEN 'succeeded' WHEN {_CHANCE} < 998 THEN 'failed' ELSE 'unknown' END"
_AMOUNT = "1 + (hashint8(n * 7) & 2147483647) % 20000"
QUEUED_REFUND, QUEUED_JOB = 0xA, 0xC


def fill(shop: Shop, *, lanes: int) -> None:
    """Empty the tables, fill them, and put back what was taken from them, read from the catalogue."""
    sql, history = shop.sql, shop.history
    put_back = strip(sql, FILLED)
    belongs = _belongs(shop, history.payment())
    # order_facts and jobs hold rows of the two refunds that are copied.
    sql.run(*(_emptied(table) for table in ("order_facts", "jobs")))
    for table, values in _PAYMENTS.items():
        sql.run(
            _emptied(table), copy(sql, table, f"one_{table}", (1, PAYMENTS), values | _belongs(shop, "n"))
        )
    # Emptied and filled in one transaction, so that nothing goes into the log (wal_level = minimal).
    filled = [
        f"{_emptied(table)}; {copy(sql, table, f'one_{table}', (1, history.refunds), values | belongs)}"
        for table, values in _history(history).items()
    ]
    sql.side_by_side(filled, lanes=lanes, session=_SESSION)
    sql.run(_BALANCES)
    for together in put_back:
        sql.side_by_side(together, lanes=lanes, session=_SESSION)
    if strip(sql, FILLED, only_look=True) != put_back:
        raise RuntimeError("what was put back is not what was taken away")
    vacuum = [f"VACUUM (FREEZE, ANALYZE) {table}" for table in FILLED]
    sql.side_by_side(vacuum, lanes=lanes, session=_SESSION)
    sql.run("VACUUM (ANALYZE)")


def _emptied(table: str) -> str:
    # History may not be emptied: a trigger guards it.
    return (
        f"ALTER TABLE {table} DISABLE TRIGGER USER; TRUNCATE {table}; ALTER TABLE {table} ENABLE TRIGGER USER"
    )


def strip(sql: Sql, tables: Sequence[str], *, only_look: bool = False) -> list[list[str]]:
    """Take foreign keys and indexes away; what puts them back, in steps that may each run side by side."""
    keys = sql.rows(
        "SELECT conrelid::regclass::text AS table, conname AS name, "
        "pg_get_constraintdef(oid) AS definition "
        "FROM pg_constraint WHERE contype = 'f' "
        "AND (conrelid = ANY($1::text[]::regclass[]) OR confrelid = ANY($1::text[]::regclass[])) "
        "ORDER BY 1, 2",
        list(tables),
    )
    indexes = sql.rows(
        "SELECT indrelid::regclass::text AS table, indexrelid::regclass::text AS name, "
        "pg_get_indexdef(indexrelid) AS definition, "
        "CASE contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' END AS constraint "
        "FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u') "
        "WHERE indrelid = ANY($1::text[]::regclass[]) ORDER BY 1, 2",
        list(tables),
    )
    for row in () if only_look else keys:
        sql.run(f"ALTER TABLE {row['table']} DROP CONSTRAINT {row['name']}")
    for row in () if only_look else indexes:
        owned = f"ALTER TABLE {row['table']} DROP CONSTRAINT {row['name']}"
        sql.run(owned if row["constraint"] else f"DROP INDEX {row['name']}")
    return [
        [row["definition"] for row in indexes],
        # Each takes a lock on its table alone, and only for a moment.
        [
            f"ALTER TABLE {row['table']} ADD CONSTRAINT {row['name']} {row['constraint']} "
            f"USING INDEX {row['name']}"
            for row in indexes
            if row["constraint"]
        ],
        # One after the other: each locks two tables.
        [
            "; ".join(
                f"ALTER TABLE {row['table']} ADD CONSTRAINT {row['name']} {row['definition']} NOT VALID"
                for row in keys
            )
        ],
        [f"ALTER TABLE {row['table']} VALIDATE CONSTRAINT {row['name']}" for row in keys],
    ]


def copy(sql: Sql, table: str, source: str, numbers: tuple[int, int], values: Mapping[str, str]) -> str:
    """``INSERT`` a copy of ``source`` for each number ``n``, with ``values`` in place of its own."""
    columns = [
        row["column_name"]
        for row in sql.rows(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' "
            "ORDER BY ordinal_position",
            table,
        )
    ]
    chosen = ", ".join(values.get(column, f"source.{column}") for column in columns)
    first, last = numbers
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {chosen} FROM generate_series({first}, {last}) AS n, {source} AS source"
    )


def queue_refunds(shop: Shop, first: int, last: int) -> None:
    """Refunds that wait for a worker, with jobs that are not due yet (``run_at`` is infinity)."""
    payment = f"(1 + n % {LARGE})"
    refund, job, decision = (short_id("n", kind) for kind in (QUEUED_REFUND, QUEUED_JOB, 0xB))
    own: dict[str, dict[str, str]] = {
        "decisions": {"id": decision, "refund_id": refund, "payment_id": short_id(payment)},
        "refunds": {
            "id": refund,
            "payment_id": short_id(payment),
            "order_id": short_id(payment, 1),
            "decision_id": decision,
            "idempotency_key": "'queued-' || n",
            "created_at": "now()",
            "updated_at": "now()",
            "due_at": "now() + interval '15 minutes'",
        },
        "refund_transitions": {"refund_id": refund, "at": "now()"},
        "events": {"id": short_id("n", 0xD), "resource_id": refund, "occurred_at": "now()"},
        "idempotency_keys": {"key": "'queued-' || n", "resource_id": refund},
        "jobs": {"id": job, "key": f"'refund:' || {refund}", "subject_id": refund, "run_at": "'infinity'"},
    }
    belongs = _belongs(shop, payment) | {"lane": f"'{shop.accounts[0]}'::uuid"}
    shop.sql.run(
        *(
            copy(shop.sql, table, f"queued_{table}", (first, last), values | belongs)
            for table, values in own.items()
        ),
        f"UPDATE payments SET held = held + times FROM (SELECT {short_id(payment)} AS id, count(*) AS times "
        f"FROM generate_series({first}, {last}) AS n GROUP BY 1) AS queued "
        "WHERE payments.id = queued.id",
    )


def _belongs(shop: Shop, payment: str) -> dict[str, str]:
    """Whose the copy is: the merchant of its payment, and that one's account."""
    owned = {"merchant_id": shop.merchants, "gateway_account_id": shop.accounts}
    number = merchant_of(payment)
    return {column: f"('{{{','.join(map(str, ids))}}}'::uuid[])[{number}]" for column, ids in owned.items()}


_PAYMENTS: Mapping[str, dict[str, str]] = {
    "orders": {"id": short_id("n", 1), "order_id": "'A-' || n"},
    "payments": {
        "id": short_id("n"),
        "gateway_payment_id": "'pi_' || n",
        "order_id": short_id("n", 1),
        "remote_account": f"'acct_' || {merchant_of('n')}",
        "held": "0",
        "refunded": "0",
    },
}


def _history(history: History) -> Mapping[str, dict[str, str]]:
    """What differs from refund to refund, by table and column."""
    at, refund, decision = history.moment(), history.id(0), history.id(1)
    payment = short_id(history.payment())
    last = f"CASE {_STATUS} WHEN 'succeeded' THEN {{}} WHEN 'failed' THEN '{{}}' ELSE '{{}}' END"
    of_gateway = f"CASE WHEN {_CHANCE} < 960 THEN '{{}}' || n END"
    return {
        "events": {
            "id": history.id(2).replace("'70028'", "'7' || lpad(to_hex(2 + source.sequence), 3, '0') || '8'"),
            "resource_id": refund,
            "type": f"CASE source.sequence WHEN 3 THEN 'refund.' || {_STATUS} ELSE source.type END",
            "data": f"CASE WHEN source.sequence = 3 AND {_CHANCE} >= 960 "
            f"THEN source.data || jsonb_build_object('status', {_STATUS}) ELSE source.data END",
            "occurred_at": at,
        },
        "refunds": {
            "id": refund,
            "payment_id": payment,
            "order_id": short_id(history.payment(), 1),
            "decision_id": decision,
            "amount": _AMOUNT,
            "status": _STATUS,
            "reason": "(ARRAY['customer_request', 'damaged', 'duplicate'])[1 + n % 3]",
            "idempotency_key": "'one-' || n",
            "requested_by": "'agent-' || n % 50",
            "gateway_refund_id": of_gateway.format("re_"),
            "bank_reference_value": of_gateway.format("arn_"),
            "failure_code": f"CASE WHEN {_STATUS} = 'failed' THEN 'issuer_declined' END",
            "attention": f"CASE WHEN {_STATUS} = 'unknown' THEN 'not_found_at_gateway' END",
            "attention_since": f"CASE WHEN {_STATUS} = 'unknown' THEN {at} END",
            "due_at": f"CASE WHEN {_STATUS} = 'unknown' THEN {at} END",
            "created_at": at,
            "updated_at": at,
            "finished_at": f"CASE WHEN {_STATUS} <> 'unknown' THEN {at} END",
        },
        "refund_transitions": {
            "refund_id": refund,
            "at": at,
            "to_status": f"CASE source.version WHEN 3 THEN {_STATUS} ELSE source.to_status END",
            "event": "CASE source.version WHEN 3 THEN "
            + last.format("source.event", "fail", "lose_track")
            + " ELSE source.event END",
        },
        "attempts": {
            "refund_id": refund,
            "key": history.id(6),
            "gateway_refund_id": of_gateway.format("re_"),
            "state": last.format("source.state", "refused", "lost"),
        },
        "decisions": {
            "id": decision,
            "refund_id": refund,
            "payment_id": payment,
            "facts": f"source.facts || jsonb_build_object('amount', {_AMOUNT})",
            "decided_at": at,
        },
        "gateway_calls": {"id": history.id(7), "refund_id": refund, "called_at": at, "answered_at": at},
        "idempotency_keys": {"key": "'one-' || n", "resource_id": refund, "created_at": at},
    }


_BALANCES = """
    UPDATE payments SET refunded = counted.refunded, held = counted.held
    FROM (
        SELECT payment_id,
            coalesce(sum(amount) FILTER (WHERE status = 'succeeded'), 0) AS refunded,
            coalesce(sum(amount) FILTER (WHERE status = 'unknown'), 0) AS held
        FROM refunds GROUP BY payment_id
    ) AS counted
    WHERE counted.payment_id = payments.id
"""
