"""``verify`` finds what should not be there: each promise is broken by hand, behind the back of every guard.

Where the database itself refuses the break, that is shown too: such a promise is kept twice.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from house import House, Shop, open_house, settings_for
from sandbox_fixture import Sandbox
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from refund_service import ids
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.engine import Database
from refund_service.reports.verify import CHECKS, verify_promises, walk_promises

WITHIN = "what is held, given back and disputed of a payment is within its capture and its excess"
HELD = "what a payment holds is the sum of its refunds whose end is not known"
GIVEN_BACK = (
    "what a payment has given back is the sum of its succeeded refunds and what was given back elsewhere"
)
EXCESS = "excess calls a person"
CURRENCY = "a refund is in the currency of its payment"
AMOUNTS = "every amount is one that can be said exactly, in a currency that money is in"
ATTEMPT = "a refund that was sent has the attempt that was sent, written before"
GENERATION = "a new generation follows only a definite refusal"
MOVED_ONCE = "of all attempts of a refund at most one moved the money"
REFERENCE = "every succeeded refund has a reference at the gateway, each of one refund"
MOVED = "every succeeded refund has the attempt that moved the money, under the same reference"
LOOKED_UP = "an unknown refund is looked up, or a person has been called"
TAKEN_OVER = "what is being sent is taken over when its worker's lease is over"
KEY = "an idempotency key names a thing that is there"
OWN_KEY = "a refund and the key that made it name each other"
ALLOWED = "every move of a refund is one that the table allows"
CHAIN = "each move begins where the one before it ended, and the last one where the refund stands"
MOVES = "every refund has its moves, and each move has its event"
TOLD = "every event of a refund tells the status that its moves had reached by then"
NUMBERED = "the events of a refund are numbered without gaps, up to its version"
MERCHANT = "every row's merchant is there"
DECISION = "every refund was allowed by a decision of its own, for its amount and payment"


@dataclass(frozen=True)
class Lived:
    """A database with refunds at every stage that a break needs, nothing in it moving any more."""

    db: Database
    binds: dict[str, Any]


@pytest.fixture(scope="module")
async def lived(postgres: EmbeddedServer, migrated: str, sandbox: Sandbox) -> AsyncIterator[Lived]:
    name = f"verify_{os.urandom(6).hex()}"
    async with open_house(settings_for(postgres.create_database(name, migrated))) as house:
        async with house.new_shop(sandbox) as shop:
            yield Lived(house.parts.db, await live(house, shop))
        broken = [finding for finding in await verify_promises(house.parts.db) if finding.rows]
        assert not broken, broken
    postgres.drop_database(name)


async def live(house: House, shop: Shop) -> dict[str, Any]:
    """Some lives, and the ids by which the breaks below name them."""
    paid, elsewhere = await shop.pay(1000), await shop.pay(1000)
    refunds = {
        "done": await shop.refund(paid, 600, key="key-of-done"),
        "other": await shop.refund(elsewhere, 500),
        "unknown": await shop.refund(elsewhere, 100, metadata={"sandbox": "lose_answer"}),
        "pending": (await shop.ask(elsewhere, 200, metadata={"sandbox": "pend"})).json(),
        "retried": await shop.refund(elsewhere, 50, metadata={"sandbox": "decline"}),
    }
    await shop.until(refunds["pending"], "processing")
    await shop.client.patch(f"/v1/refunds/{refunds['retried']['id']}", json={"metadata": {}})
    retried = await shop.client.post(refunds["retried"]["links"]["retry"], headers={"Prefer": "wait=10"})
    assert retried.json()["status"] == "succeeded", retried.text
    await house.stop_workers()
    refunds["queued"] = (await shop.ask(elsewhere, 30)).json()
    empty = await shop.client.post(
        "/v1/payments",
        json={"gateway_payment_id": "pi_empty", "captured": 100, "currency": "EUR"},
        headers={"Idempotency-Key": "registered"},
    )
    policy = await shop.client.post(
        "/v1/policies", json={"rules": {"max_amount": {"EUR": 9}}}, headers={"Idempotency-Key": "published"}
    )
    assert (empty.status_code, policy.status_code) == (201, 201)
    assert (await shop.ask(elsewhere, 10, key="refused")).status_code == 422
    payments = {"paid": paid, "elsewhere": elsewhere, "empty": empty.json()}
    return {
        **{name: ids.read("refund", refund["id"]) for name, refund in refunds.items()},
        **{name: ids.read("payment", payment["id"]) for name, payment in payments.items()},
        "nothing": ids.new_id(),
        "merchant": shop.merchant_id,
    }


@dataclass(frozen=True)
class Break:
    """A statement that breaks promises, the row that it breaks, and who refuses it where no one looks away."""

    statement: str
    row: str
    breaks: set[str]
    refused_by: str | None = None


def refund(values: str, which: str, *breaks: str, refused_by: str | None = None) -> Break:
    return Break(f"UPDATE refunds SET {values} WHERE id = :{which}", which, set(breaks), refused_by)


def payment(values: str, which: str, *breaks: str, refused_by: str | None = None) -> Break:
    return Break(f"UPDATE payments SET {values} WHERE id = :{which}", which, set(breaks), refused_by)


def attempt(values: str, which: str, *breaks: str, generation: int = 1) -> Break:
    statement = f"UPDATE attempts SET {values} WHERE refund_id = :{which} AND generation = {generation}"
    return Break(statement, which, set(breaks))


def history(statement: str, which: str, *breaks: str) -> Break:
    return Break(statement, which, set(breaks), refused_by="is history")


def key(values: str, which: str, *breaks: str) -> Break:
    return Break(f"UPDATE idempotency_keys SET {values} WHERE key = '{which}'", which, set(breaks))


BREAKS = [
    # What is promised of a payment: of 1000, 600 are given back; of the other, 550 are, and 330 are held.
    payment("disputed = 401", "paid", WITHIN, refused_by="within_capture"),
    payment("excess = -1", "paid", WITHIN, refused_by="not_negative"),
    payment("disputed = 401, excess = 1", "paid", EXCESS),
    payment("held = 331", "elsewhere", HELD),
    payment("held = 329", "elsewhere", HELD),
    payment("held = 1", "paid", HELD),
    payment("refunded = 601", "paid", GIVEN_BACK),
    payment("refunded_elsewhere = 1", "paid", GIVEN_BACK),
    payment("refunded_elsewhere = 601", "paid", GIVEN_BACK, refused_by="elsewhere"),
    refund("amount = 599", "done", GIVEN_BACK, DECISION),
    refund("amount = 29", "queued", HELD, DECISION),
    refund("currency = 'USD'", "done", CURRENCY),
    refund("amount = 0", "queued", AMOUNTS, HELD, DECISION, refused_by="ck_refunds_amount"),
    payment("captured = 1000000000000", "empty", AMOUNTS, refused_by="ck_payments_captured"),
    payment("currency = 'XXX'", "empty", AMOUNTS),
    payment("currency = 'eur'", "empty", AMOUNTS, refused_by="ck_payments_currency"),
    # Sent at most once.
    Break("DELETE FROM attempts WHERE refund_id = :pending", "pending", {ATTEMPT}, "fk_gateway_calls"),
    attempt("state = 'lost'", "retried", GENERATION),
    attempt("state = 'done'", "retried", GENERATION, MOVED_ONCE),
    attempt("state = 'lost'", "done", MOVED),
    attempt("gateway_refund_id = 'sbr_another'", "done", MOVED),
    refund("gateway_refund_id = NULL", "done", REFERENCE, MOVED),
    refund(
        "gateway_refund_id = (SELECT gateway_refund_id FROM refunds WHERE id = :other)",
        "done",
        *(REFERENCE, MOVED),
        refused_by="uq_refunds_gateway_refund",
    ),
    # Looked after until it is known.
    *(
        Break(f"DELETE FROM jobs WHERE subject_id = :{which}", which, {LOOKED_UP})
        for which in ("unknown", "pending", "queued")
    ),
    Break(
        "WITH late AS (UPDATE jobs SET run_at = db_now() + interval '1 hour' WHERE subject_id = :pending)"
        " UPDATE attempts SET state = 'sending' WHERE refund_id = :pending",
        "pending",
        {TAKEN_OVER},
    ),
    # One key, one thing.
    *(key("resource_id = :nothing", which, KEY) for which in ("registered", "published", "refused")),
    key("resource_id = :nothing", "key-of-done", KEY, OWN_KEY),
    key("resource_id = :other", "key-of-done", OWN_KEY),
    key("kind = 'rebate'", "refused", KEY),
    Break("DELETE FROM idempotency_keys WHERE key = 'key-of-done'", "done", {OWN_KEY}),
    key("kind = 'refund', status_code = 201, resource_id = :done", "registered", OWN_KEY),
    # The moves are those of the table, and the events tell them.
    history(
        "UPDATE refund_transitions SET event = 'fail' WHERE refund_id = :done AND to_status = 'succeeded'",
        "done",
        ALLOWED,
    ),
    history(
        "UPDATE refund_transitions SET from_status = 'unknown' WHERE refund_id = :done AND event = 'succeed'",
        "done",
        CHAIN,
    ),
    history("DELETE FROM refund_transitions WHERE refund_id = :queued", "queued", MOVES),
    history("DELETE FROM events WHERE resource_id = :done AND sequence = 2", "done", MOVES, NUMBERED),
    history(
        """UPDATE events SET data = data || '{"status": "failed"}' WHERE resource_id = :done AND sequence = 3""",
        "done",
        *(MOVES, TOLD),
    ),
    refund("status = 'unknown'", "pending", CHAIN),
    refund("status = 'canceled'", "queued", CHAIN, HELD),
    refund("version = version + 1", "done", NUMBERED),
    # A refund has its merchant, and a decision of its own.
    Break("UPDATE jobs SET merchant_id = :nothing WHERE subject_id = :queued", "nothing", {MERCHANT}),
    refund("decision_id = (SELECT decision_id FROM refunds WHERE id = :other)", "done", DECISION),
    refund("decision_id = :nothing", "done", DECISION, refused_by="decision_id"),
    history("UPDATE decisions SET outcome = 'refused' WHERE refund_id = :done", "done", DECISION),
    history("UPDATE decisions SET payment_id = :empty WHERE refund_id = :done", "done", DECISION),
]


class Undone(Exception):
    """Rolls back what was only tried."""


@asynccontextmanager
async def undone(db: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction behind the service's back, of which nothing stays."""
    with suppress(Undone):
        async with db.transaction() as tx:
            yield tx
            raise Undone


async def look_away(tx: AsyncConnection, refused_by: str) -> None:
    """Take away what refuses: triggers and foreign keys, a unique index, or a check."""
    await tx.execute(text("SET LOCAL session_replication_role = replica"))
    checks = await tx.execute(
        text(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conname ~ :it"
        ),
        {"it": refused_by},
    )
    for table, name in checks.all():
        await tx.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
    if refused_by.startswith("uq_"):
        await tx.execute(text(f"DROP INDEX {refused_by}"))


def named(one: Break) -> str:
    return f"{one.row}: {' '.join(one.statement.split())[:60]}"


@pytest.mark.parametrize("one", BREAKS, ids=named)
async def test_a_promise_that_is_broken_by_hand_is_named_with_its_row(  # INV-01, INV-02, INV-05, INV-08, INV-09, INV-12, INV-13, INV-17
    lived: Lived, one: Break
) -> None:
    async with undone(lived.db) as tx:
        if one.refused_by is not None:
            await look_away(tx, one.refused_by)
        done = await tx.execute(text(one.statement), bound(one.statement, lived.binds))
        assert done.rowcount > 0

        found = {finding.says: finding.rows for finding in await walk_promises(tx) if finding.rows}

    assert set(found) == one.breaks
    # A refund's row, or its payment's where the sums are wrong.
    names = {
        str(lived.binds.get(row, row)) for row in (one.row, "paid" if one.row == "done" else "elsewhere")
    }
    for rows in found.values():
        assert any(name in str(each) for name in names for each in rows), rows


def bound(statement: str, binds: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in binds.items() if f":{name}" in statement}


@pytest.mark.parametrize("one", [one for one in BREAKS if one.refused_by], ids=named)
async def test_the_database_itself_refuses_what_it_can(  # INV-01, INV-05, INV-08, INV-13, INV-18
    lived: Lived, one: Break
) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011 - which one is looked at below, by its cause too
        await tried(lived, one.statement)
    assert one.refused_by in f"{refused.value} {refused.value.__cause__}"


async def tried(lived: Lived, statement: str) -> None:
    async with undone(lived.db) as tx:
        await tx.execute(text(statement), bound(statement, lived.binds))


@pytest.mark.parametrize("values", ["disputed = 400", "held = 0, disputed = 0", "excess = 1"])
async def test_up_to_the_edge_nothing_is_found(lived: Lived, values: str) -> None:  # INV-01
    async with undone(lived.db) as tx:
        await tx.execute(
            text(f"UPDATE payments SET {values} WHERE id = :paid"), {"paid": lived.binds["paid"]}
        )
        assert [finding for finding in await walk_promises(tx) if finding.rows] == []


async def test_the_rows_that_break_a_promise_are_shown_but_not_without_end(lived: Lived) -> None:
    async with undone(lived.db) as tx:
        await tx.execute(
            text(
                "INSERT INTO jobs SELECT gen_random_uuid(), name, gen_random_uuid()::text, gen_random_uuid(),"
                " lane, subject_id, priority, run_at, lease, tries FROM jobs, generate_series(1, 30) LIMIT 30"
            )
        )
        (found,) = [finding for finding in await walk_promises(tx) if finding.rows]
    assert (found.promise, found.says, len(found.rows)) == ("9", MERCHANT, 20)


def test_every_check_is_broken_by_something_above() -> None:
    assert set().union(*(one.breaks for one in BREAKS)) == {says for _, says, _ in CHECKS}
