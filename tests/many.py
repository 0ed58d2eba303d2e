"""Many refunds fast: the rows of those that are there, again and again under other ids."""

from __future__ import annotations

from sqlalchemy import text

from refund_service.db.engine import Database

ID = "CAST(md5(concat(g.n, t.{0})) AS uuid)"
NAME = "g.n || '-' || t.{0}"

# Of each table, the columns in which one copy differs from another.
COPIED = {
    "payments": {"id": ID, "gateway_payment_id": NAME},
    "decisions": {"id": ID, "refund_id": ID, "payment_id": ID},
    "refunds": {
        "id": ID,
        "payment_id": ID,
        "decision_id": ID,
        "idempotency_key": NAME,
        "gateway_refund_id": NAME,
    },
    "attempts": {"refund_id": ID, "key": ID, "gateway_refund_id": NAME},
    "refund_transitions": {"refund_id": ID},
    "events": {"id": ID, "resource_id": ID},
    "idempotency_keys": {"key": NAME, "resource_id": ID},
    "gateway_calls": {"id": ID, "refund_id": ID},
    "jobs": {"id": ID, "key": NAME, "subject_id": ID},
}


async def multiply(db: Database, first: int, last: int) -> None:
    """Copies ``first`` to ``last`` of every payment and refund with all that belongs to it.

    What is copied is what was there at the first call.
    """
    async with db.transaction() as tx:
        await tx.execute(text("SET LOCAL statement_timeout = 0"))
        for name, changed in COPIED.items():
            recurring = "WHERE name = 'refund'" if name == "jobs" else ""
            await tx.execute(
                text(f"CREATE TABLE IF NOT EXISTS {name}_copied AS SELECT * FROM {name} {recurring}")
            )
            members = ", ".join(f"'{column}', {made.format(column)}" for column, made in changed.items())
            await tx.execute(
                text(
                    f"INSERT INTO {name} SELECT made.* FROM {name}_copied t"
                    f" CROSS JOIN generate_series({first}, {last}) g(n)"
                    f" CROSS JOIN LATERAL jsonb_populate_record("
                    f"CAST(NULL AS {name}), to_jsonb(t) || jsonb_build_object({members})) made"
                )
            )
