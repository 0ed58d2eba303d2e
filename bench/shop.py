"""A database with merchants and payments in it, and one real refund of each stage to copy others from."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from sqlalchemy import text

from bench.bare import Recorder, Sent
from bench.ledger import MERCHANTS, History
from bench.sql import Sql
from refund_service import ids
from refund_service.app import Parts, build_desk, build_sender, put_together
from refund_service.clock import utc_now
from refund_service.db.engine import Database, DatabaseOptions
from refund_service.db.migrations import migrate
from refund_service.gateways.accounts import NewAccount, add_account
from refund_service.idempotency.keys import Claim
from refund_service.jobs.lease import Job
from refund_service.jobs.queue import claim_jobs
from refund_service.jobs.worker import PER_LANE
from refund_service.merchants.create import create_merchant
from refund_service.merchants.roles import Role
from refund_service.money import Money
from refund_service.payments.new import NewOrder, NewPayment
from refund_service.payments.register import register_payment
from refund_service.refunds.advance import Desk, advance_refund
from refund_service.refunds.ask import By, RefundAsked
from refund_service.refunds.creation import Asker
from refund_service.refunds.request import Requested, request_refund
from refund_service.settings import Settings, read_settings
from refund_service.tasks import promise_recurring

TOKEN = "sk_sandbox_for_the_bench"  # noqa: S105 - the sandbox takes any that begins like this
SECRETS = {
    "REFUND_KEY_PEPPERS": "bench:pepper-of-the-bench-that-is-long-enough",
    "REFUND_SEALING_KEYS": f"bench:{base64.b64encode(b'b' * 32).decode()}",
    "REFUND_CURSOR_SECRET": "cursor-secret-of-the-bench-long-enough",
}
CREATED = ("refunds", "decisions", "refund_transitions", "events", "idempotency_keys")
SENT = ("attempts", "gateway_calls")
_NAMED_BY = {
    "refunds": "id",
    "events": "resource_id",
    "idempotency_keys": "resource_id",
    "jobs": "subject_id",
}
"""The column that names the refund, where it is not ``refund_id``."""


def environment(url: str) -> dict[str, str]:
    """For a process of the service on this database."""
    limits = {"REFUND_RATE_LIMIT": "1000000", "REFUND_RATE_BURST": "1000000"}
    ports = {"REFUND_PORT": "0", "REFUND_OPS_PORT": "-1"}
    return SECRETS | limits | ports | {"REFUND_DATABASE_URL": url}


def settings_of(url: str) -> Settings:
    given: dict[str, Any] = {
        name.removeprefix("REFUND_").lower(): value for name, value in environment(url).items()
    }
    return read_settings(**given)


SLOTS = Settings.model_fields["worker_slots"].default
FINGERPRINT = b"b" * 32
"""Of requests that are made here; the API makes its own from the request."""


@dataclass(frozen=True)
class Shop:
    """A database that is ready to be measured on."""

    sql: Sql
    history: History
    merchants: tuple[UUID, ...]
    accounts: tuple[UUID, ...]
    key: str
    """An API key of the large merchant, the first one."""

    @property
    def url(self) -> str:
        return self.sql.url

    @property
    def large(self) -> UUID:
        return self.merchants[0]


def open_shop(sql: Sql, sandbox: str, *, refunds: int) -> Shop:
    """Migrate the database, make its merchants, and set a refund of two stages aside in tables of their own.

    As it waits for a worker in ``queued_…``, and when it has succeeded in ``one_…``. The tables that are
    to be filled still hold it: ``fill`` empties them.
    """
    merchants, accounts, key = sql.wait(_found(sql.url, sandbox))
    shop = Shop(sql, History(refunds), merchants, accounts, key)
    refund = sql.wait(_ask(shop))
    _set_aside(sql, "queued", refund, ("jobs", *CREATED))
    sql.wait(_work(shop))
    _set_aside(sql, "one", refund, (*CREATED, *SENT))
    sql.run(*(f"CREATE TABLE one_{table} AS SELECT * FROM {table}" for table in ("payments", "orders")))
    return shop


async def _found(url: str, sandbox: str) -> tuple[tuple[UUID, ...], tuple[UUID, ...], str]:
    await migrate(url)
    merchants, accounts = [], []
    async with at_home(url) as (parts, _):
        now = utc_now()
        for number in range(MERCHANTS):
            merchant = await create_merchant(parts.db, f"Merchant {number + 1}", livemode=False, now=now)
            account = NewAccount("sandbox", "sandbox", f"acct_{number + 1}", sandbox, {"token": TOKEN}, {})
            merchants.append(merchant)
            accounts.append(await add_account(parts.db, parts.keyring, merchant, account, now=now))
        captured = NewPayment(
            gateway_payment_id="pi",
            captured=Money(10**11, "EUR"),
            captured_at=now,
            order=NewOrder("A"),
        )
        await register_payment(parts.db, merchants[0], captured, claim=None, actor="bench", now=now)
        key = await parts.cabinet.create(
            merchants[0], livemode=False, subject="bench", role=Role.ADMIN, now=now
        )
    return tuple(merchants), tuple(accounts), key


def _set_aside(sql: Sql, stage: str, refund: UUID, tables: Sequence[str]) -> None:
    for table in tables:
        named_by = _NAMED_BY.get(table, "refund_id")
        sql.run(f"CREATE TABLE {stage}_{table} AS SELECT * FROM {table} WHERE {named_by} = '{refund}'")


async def _ask(shop: Shop) -> UUID:
    async with at_home(shop.url) as (parts, _):
        payment = await parts.db.value(text("SELECT id FROM payments"))
        requested = await ask(parts.db, shop.large, payment, key="one")
        return requested.refund_id


async def _work(shop: Shop) -> None:
    async with at_home(shop.url) as (_, desk):
        (job,) = await claim_jobs(desk.db, at_most=1, per_lane=1)
        await advance_refund(desk, job)


async def ask(db: Database, merchant: UUID, payment: UUID, *, key: str | None = None) -> Requested:
    """One minor unit back, as the API asks for it."""
    claim = Claim(key or ids.base62(ids.new_id().int, 22), FINGERPRINT)
    asked = RefundAsked(By.PAYMENT, payment, 1, "customer_request", claim)
    return await request_refund(db, merchant, asked, asker=Asker(ids.NIL, "bench"), now=utc_now())


@asynccontextmanager
async def at_home(url: str) -> AsyncIterator[tuple[Parts, Desk]]:
    """The service's parts in this process, and a worker's desk."""
    parts, sender = put_together(settings_of(url), name="bench"), build_sender()
    try:
        yield parts, build_desk(parts, sender)
    finally:
        await sender.close()
        await parts.db.close()


async def promise_watch(url: str) -> None:
    """See that the recurring job is there, as each process does when it starts."""
    async with at_home(url) as (_, desk):
        await promise_recurring(desk)


async def recorded(url: str, verb: Callable[[Database], Awaitable[object]]) -> list[Sent]:
    """What ``verb`` sends."""
    recorder = cast("Recorder", Recorder.connect(DatabaseOptions(url)))
    recorder.sent = []
    try:
        await verb(recorder)
    finally:
        await recorder.close()
    return recorder.sent


async def recorded_work(url: str, merchant: UUID) -> tuple[list[Sent], Job]:
    """What a worker sends for one refund from the claim on, and the job that it had."""
    taken: list[Job] = []

    async def step(db: Database) -> None:
        async with at_home(url) as (_, desk):
            taken.extend(await claim_jobs(db, at_most=SLOTS, per_lane=PER_LANE))
            await advance_refund(replace(desk, db=db), taken[0])

    sent = await recorded(url, step)
    if taken[0].merchant_id != merchant:
        raise RuntimeError("another job was in the way")
    return sent, taken[0]
