"""Walk the promises over the whole database and name the rows that break one.

Each check is one statement that returns what should not be there. They read what is committed
and lock nothing. Each looks at a moment of its own: all that it compares, it reads in one
statement, and a snapshot over all of them would keep PostgreSQL from cleaning up for the whole
time (ADR 12).

Sums over the refunds of a payment are taken payment by payment, by its index: joined, they would
be planned by how many refunds were open when PostgreSQL last counted, which is none on the day
before a gateway goes away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from refund_service import clock
from refund_service.db.engine import Database
from refund_service.jobs.lease import LEASE
from refund_service.money import EXPONENTS, LARGEST_AMOUNT
from refund_service.refunds.states import COUNTED, HOLDING, TRANSITIONS

SHOWN: Final = 20
"""Rows per finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: nothing, or the rows that break the promise."""

    promise: str
    says: str
    rows: Sequence[Mapping[str, Any]]
    took: float
    """Seconds."""


def _listed(words: Any) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


_MOVES: Final = ", ".join(
    f"({'NULL' if before is None else repr(before.value)}, '{event.value}', '{after.value}')"
    for (before, event), after in TRANSITIONS.items()
)

CHECKS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "1",
        "what is held, given back and disputed of a payment is within its capture and its excess",
        """
        SELECT merchant_id, id, captured, held, refunded, disputed, excess FROM payments
        WHERE held + refunded + disputed > captured + excess
           OR least(held, refunded, disputed, excess) < 0
        """,
    ),
    (
        "1",
        "what a payment holds is the sum of its refunds whose end is not known",
        f"""
        SELECT p.merchant_id, p.id, p.held, r.of_refunds FROM payments p
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(amount) FILTER (WHERE status IN ({_listed(HOLDING)})), 0) AS of_refunds
            FROM refunds r WHERE r.merchant_id = p.merchant_id AND r.payment_id = p.id
        ) r WHERE p.held <> r.of_refunds
        """,
    ),
    (
        "1",
        "what a payment has given back is the sum of its succeeded refunds and what was given back elsewhere",
        f"""
        SELECT p.merchant_id, p.id, p.refunded, p.refunded_elsewhere, r.of_refunds FROM payments p
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(amount) FILTER (WHERE status IN ({_listed(COUNTED)})), 0) AS of_refunds
            FROM refunds r WHERE r.merchant_id = p.merchant_id AND r.payment_id = p.id
        ) r WHERE p.refunded <> p.refunded_elsewhere + r.of_refunds
        """,
    ),
    (
        "1",
        "excess calls a person",
        """
        SELECT p.merchant_id, p.id, p.excess FROM payments p
        WHERE p.excess > 0 AND p.held + p.refunded + p.disputed > p.captured
          AND NOT EXISTS (SELECT FROM refunds r
                          JOIN events e ON e.merchant_id = r.merchant_id AND e.resource_id = r.id
                          WHERE r.merchant_id = p.merchant_id AND r.payment_id = p.id
                            AND e.data ->> 'attention' IS NOT NULL)
        """,
    ),
    (
        "1",
        "a refund is in the currency of its payment",
        """
        SELECT r.merchant_id, r.id, r.currency, p.currency AS captured_in FROM refunds r
        JOIN payments p ON p.merchant_id = r.merchant_id AND p.id = r.payment_id
        WHERE r.currency <> p.currency
        """,
    ),
    (
        "1",
        "every amount is one that can be said exactly, in a currency that money is in",
        f"""
        SELECT * FROM (
            SELECT 'payments' AS "table", merchant_id, id, captured AS amount, currency FROM payments
            UNION ALL SELECT 'refunds', merchant_id, id, amount, currency FROM refunds
        ) told
        WHERE amount NOT BETWEEN 1 AND {LARGEST_AMOUNT} OR currency NOT IN ({_listed(EXPONENTS)})
        """,
    ),
    (
        "2",
        "a refund that was sent has the attempt that was sent, written before",
        """
        SELECT r.merchant_id, r.id, r.status FROM refunds r
        WHERE r.status IN ('processing', 'requires_action', 'unknown', 'succeeded', 'reversed')
          AND NOT EXISTS (SELECT FROM attempts a WHERE a.merchant_id = r.merchant_id AND a.refund_id = r.id
                          AND a.generation = r.generation)
        """,
    ),
    (
        "2",
        "a new generation follows only a definite refusal",
        """
        SELECT a.merchant_id, a.refund_id, a.generation, a.state FROM attempts a
        JOIN refunds r ON r.merchant_id = a.merchant_id AND r.id = a.refund_id
        WHERE a.generation < r.generation AND a.state <> 'refused'
        """,
    ),
    (
        "2",
        "of all attempts of a refund at most one moved the money",
        """
        SELECT merchant_id, refund_id, count(*) FROM attempts WHERE state = 'done'
        GROUP BY merchant_id, refund_id HAVING count(*) > 1
        """,
    ),
    (
        "2",
        "every succeeded refund has a reference at the gateway, each of one refund",
        """
        SELECT merchant_id, gateway_account_id, gateway_refund_id, array_agg(id) AS refunds FROM refunds
        WHERE status = 'succeeded' GROUP BY 1, 2, 3
        HAVING count(*) > 1 OR gateway_refund_id IS NULL
        """,
    ),
    (
        "2",
        "every succeeded refund has the attempt that moved the money, under the same reference",
        """
        SELECT r.merchant_id, r.id, r.gateway_refund_id FROM refunds r
        WHERE r.status = 'succeeded'
          AND NOT EXISTS (SELECT FROM attempts a WHERE a.merchant_id = r.merchant_id AND a.refund_id = r.id
                          AND a.state = 'done' AND a.gateway_refund_id = r.gateway_refund_id)
        """,
    ),
    (
        "3",
        "an unknown refund is looked up, or a person has been called",
        f"""
        SELECT r.merchant_id, r.id, r.status FROM refunds r
        WHERE r.status IN ({_listed(HOLDING)}) AND r.status <> 'awaiting_approval'
          AND r.attention IS NULL AND NOT EXISTS (SELECT FROM jobs j WHERE j.subject_id = r.id)
        """,
    ),
    (
        "3",
        "what is being sent is taken over when its worker's lease is over",
        # Two of them: a lease may have been taken after this statement began and before it looked.
        f"""
        SELECT r.merchant_id, r.id, a.generation, a.last_sent_at FROM refunds r
        JOIN attempts a ON a.merchant_id = r.merchant_id AND a.refund_id = r.id
             AND a.generation = r.generation
        WHERE r.status = 'processing' AND a.state = 'sending'
          AND NOT EXISTS (SELECT FROM jobs j WHERE j.subject_id = r.id
                          AND j.run_at <= db_now() + interval '{2 * LEASE.total_seconds()} seconds')
        """,
    ),
    (
        "5",
        "an idempotency key names a thing that is there",
        """
        SELECT k.merchant_id, k.key, k.kind, k.resource_id FROM idempotency_keys k
        WHERE NOT CASE k.kind
            WHEN 'refund' THEN EXISTS (SELECT FROM refunds x
                WHERE x.merchant_id = k.merchant_id AND x.id = k.resource_id)
            WHEN 'payment' THEN EXISTS (SELECT FROM payments x
                WHERE x.merchant_id = k.merchant_id AND x.id = k.resource_id)
            WHEN 'decision' THEN EXISTS (SELECT FROM decisions x
                WHERE x.merchant_id = k.merchant_id AND x.id = k.resource_id)
            WHEN 'policy' THEN k.resource_id = k.merchant_id
                AND EXISTS (SELECT FROM policies x WHERE x.merchant_id = k.merchant_id)
            ELSE false END
        """,
    ),
    (
        "5",
        "a refund and the key that made it name each other",
        """
        SELECT coalesce(r.merchant_id, k.merchant_id) AS merchant_id,
               coalesce(r.idempotency_key, k.key) AS key, k.resource_id, r.id
        FROM (SELECT * FROM idempotency_keys WHERE kind = 'refund' AND status_code = 201) k
        FULL JOIN refunds r ON r.merchant_id = k.merchant_id AND r.idempotency_key = k.key
        WHERE r.id IS DISTINCT FROM k.resource_id
        """,
    ),
    (
        "6",
        "every move of a refund is one that the table allows",
        f"""
        SELECT t.merchant_id, t.refund_id, t.version, t.from_status, t.event, t.to_status
        FROM refund_transitions t
        LEFT JOIN (VALUES {_MOVES}) AS allowed(before, event, after)
          ON allowed.before IS NOT DISTINCT FROM t.from_status AND allowed.event = t.event
         AND allowed.after = t.to_status
        WHERE allowed.event IS NULL
        """,
    ),
    (
        "6",
        "each move begins where the one before it ended, and the last one where the refund stands",
        """
        SELECT * FROM (
            SELECT t.merchant_id, t.refund_id, t.version, t.from_status, t.to_status,
                   lag(t.to_status) OVER w AS before,
                   lead(t.version) OVER w IS NULL AND r.status <> t.to_status AS stands_elsewhere
            FROM refund_transitions t
            JOIN refunds r ON r.merchant_id = t.merchant_id AND r.id = t.refund_id
            WINDOW w AS (PARTITION BY t.merchant_id, t.refund_id ORDER BY t.version)
        ) told WHERE from_status IS DISTINCT FROM before OR stands_elsewhere
        """,
    ),
    (
        "6",
        "every refund has its moves, and each move has its event",
        """
        SELECT r.merchant_id, r.id, t.version, t.to_status FROM refunds r
        LEFT JOIN refund_transitions t ON t.merchant_id = r.merchant_id AND t.refund_id = r.id
        LEFT JOIN events e ON e.merchant_id = r.merchant_id AND e.resource_id = r.id
              AND e.sequence = t.version AND e.data ->> 'status' = t.to_status
        WHERE t.version IS NULL OR e.id IS NULL
        """,
    ),
    (
        "6",
        "every event of a refund tells the status that its moves had reached by then",
        """
        SELECT e.merchant_id, e.resource_id, e.sequence, e.type, e.data ->> 'status' AS told, t.to_status
        FROM events e
        CROSS JOIN LATERAL (
            SELECT to_status FROM refund_transitions t
            WHERE t.merchant_id = e.merchant_id AND t.refund_id = e.resource_id AND t.version <= e.sequence
            ORDER BY t.version DESC LIMIT 1
        ) t
        WHERE e.resource = 'refund' AND e.data ->> 'status' IS DISTINCT FROM t.to_status
        """,
    ),
    (
        "6",
        "the events of a refund are numbered without gaps, up to its version",
        """
        SELECT r.merchant_id, r.id, r.version, count(e.id) AS events, max(e.sequence) AS last
        FROM refunds r LEFT JOIN events e ON e.merchant_id = r.merchant_id AND e.resource_id = r.id
        GROUP BY r.merchant_id, r.id HAVING count(e.id) <> r.version OR max(e.sequence) <> r.version
        """,
    ),
    (
        "9",
        "every row's merchant is there",
        """
        SELECT 'jobs' AS "table", j.id, j.merchant_id FROM jobs j
        WHERE j.merchant_id <> '00000000-0000-0000-0000-000000000000'
          AND NOT EXISTS (SELECT FROM merchants m WHERE m.id = j.merchant_id)
        """,
    ),
    (
        "10",
        "every refund was allowed by a decision of its own, for its amount and payment",
        """
        SELECT r.merchant_id, r.id, r.decision_id FROM refunds r
        LEFT JOIN decisions d ON d.merchant_id = r.merchant_id AND d.id = r.decision_id
        WHERE d.outcome IS DISTINCT FROM 'allowed' OR d.refund_id IS DISTINCT FROM r.id
           OR d.payment_id IS DISTINCT FROM r.payment_id
           OR (d.facts ->> 'amount')::bigint IS DISTINCT FROM r.amount
        """,
    ),
)


async def verify_promises(db: Database) -> list[Finding]:
    """Every check, with the first rows that break it. It writes nothing and may take its time."""
    return [await verify_one(db, *check) for check in CHECKS]


async def verify_one(
    db: Database, promise: str, says: str, statement: str, *, patience: timedelta = timedelta(0)
) -> Finding:
    """One check; raises ``Busy`` where it takes longer than ``patience``, which is endless where it is 0."""
    began = clock.seconds()
    async with db.transaction() as tx:
        await tx.execute(text("SET TRANSACTION READ ONLY"))
        await tx.execute(text(f"SET LOCAL statement_timeout = {patience // timedelta(milliseconds=1)}"))
        # One core at most: whoever gives money back has the others.
        await tx.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
        rows = await _broken(tx, statement)
    return Finding(promise, says, rows, clock.seconds() - began)


async def walk_promises(connection: AsyncConnection) -> list[Finding]:
    """Every check over what this connection sees, what it has not committed included."""
    return [
        Finding(promise, says, await _broken(connection, statement), 0.0)
        for promise, says, statement in CHECKS
    ]


async def _broken(connection: AsyncConnection, statement: str) -> list[dict[str, Any]]:
    found = await connection.execute(text(f"SELECT * FROM ({statement}) found LIMIT {SHOWN}"))
    return [dict(row) for row in found.mappings()]
