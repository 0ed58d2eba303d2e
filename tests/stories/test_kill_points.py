"""Every named point at which a process can die: nothing is lost, nothing happens twice, nothing half.

A point inside the one statement that creates a refund is a trigger that stands still there. At the
other points the processes of ``doomed.py`` end themselves, or freeze for twice the lease and go on.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from clockwork import Clock
from doomed import Point
from four_kinds import ACCOUNTS, ALWAYS_PAID, NEVER_SENT, SENT, assert_ends, until_settled
from house import House, Shop
from nursery import Child
from sandbox_fixture import Sandbox
from sqlalchemy import text

from refund_service.jobs.lease import LEASE

KILL, FREEZE = signal.SIGKILL, signal.SIGSTOP
HOW = pytest.mark.parametrize("how", [KILL, FREEZE], ids=["killed", "frozen"])
OVER = LEASE.total_seconds() + 2

# --- inside the statement that creates ---------------------------------------------------------

STAND_STILL = """
CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0
AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END $$
"""
# Triggers that fire AFTER a row wait for the end of the whole statement. The one BEFORE the next
# row is written is the point where only the parts ahead of it are done.
AFTER_KEY = "CREATE TRIGGER here BEFORE UPDATE ON payments"
AFTER_HOLD = "CREATE TRIGGER here BEFORE INSERT ON decisions"
AFTER_REFUND = "CREATE TRIGGER here BEFORE INSERT ON refund_transitions"
AT_COMMIT = "CREATE CONSTRAINT TRIGGER here AFTER INSERT ON refunds DEFERRABLE INITIALLY DEFERRED"

STANDS = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
)
GOES_ON = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state <> 'idle' AND pid <> pg_backend_pid()"
)
LEFT_BEHIND = ("idempotency_keys", "decisions", "refunds", "refund_transitions", "jobs")


@asynccontextmanager
async def standing_still(house: House, where: str) -> AsyncIterator[Callable[[], Any]]:
    """Who creates a refund stands still at ``where``; what is given waits for one and says which backend."""
    db = house.parts.db
    async with db.transaction() as tx:
        await tx.execute(text(STAND_STILL))
        await tx.execute(text(f"{where} FOR EACH ROW EXECUTE FUNCTION stand_still()"))

    async def one_stands() -> int:
        async with asyncio.timeout(20):
            while not (pid := await db.value(STANDS)):
                await asyncio.sleep(0.01)
        return int(pid)

    async with db.transaction() as holding:
        await holding.execute(text("SELECT pg_advisory_xact_lock(1)"))
        yield one_stands
    # Off it goes: what it came to can be seen once it has committed, and not when it has the lock.
    async with asyncio.timeout(20):
        while await db.value(GOES_ON):
            await asyncio.sleep(0.01)


async def traces(shop: Shop) -> dict[str, int]:
    return {table: await shop.count(table) for table in LEFT_BEHIND}


@pytest.mark.parametrize("backend_ends", [True, False], ids=["and its backend", "and its backend goes on"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(AFTER_KEY, id="after the key"),
        pytest.param(AFTER_HOLD, id="after the hold"),
        pytest.param(AFTER_REFUND, id="after the refund"),
        pytest.param(AT_COMMIT, id="at the commit"),
    ],
)
async def test_an_api_killed_inside_the_statement_leaves_all_of_it_or_nothing(  # KILL-01, KILL-02, KILL-03, KILL-04, INC-27, INC-28
    own_house: House, own_shop: Shop, bear: Callable[..., Child], where: str, backend_ends: bool
) -> None:
    api = bear(own_house, "serve", "--no-worker")
    payment, key, db = await own_shop.pay(), uuid4().hex, own_house.parts.db
    before = await traces(own_shop)

    async with own_shop.at(await api.url()) as client, standing_still(own_house, where) as one_stands:
        asking = asyncio.create_task(own_shop.ask(payment, 1250, key=key, client=client))
        pid = await one_stands()
        await api.kill()
        with pytest.raises(httpx.TransportError):
            await asking
        assert await traces(own_shop) == before, "nothing shows before the commit"
        if backend_ends:
            # As PostgreSQL does by itself when it notices that no one is there to be answered.
            await db.rows(text("SELECT pg_terminate_backend(:in_pid)"), pid=pid)
    written = [count - before[table] for table, count in (await traces(own_shop)).items()]
    held = (await own_shop.payment(payment))["held"]
    assert (set(written), held) == (({0}, 0) if backend_ends else ({1}, 1250))

    again = await own_shop.ask(payment, 1250, key=key)

    assert (again.status_code, "idempotency-replayed" in again.headers) == (201, not backend_ends)
    await own_house.start_worker()
    seen = await own_shop.until(again.json(), "succeeded")
    assert (seen["payment"]["held"], seen["payment"]["refunded"]) == (0, 1250)
    assert (await own_shop.count("refunds"), len(own_shop.executions())) == (1, 1)


@HOW
async def test_an_api_that_ends_before_it_answers_has_made_the_refund(  # KILL-05, IDM-11, INC-27, INC-51
    own_house: House, own_shop: Shop, bear: Callable[..., Child], how: signal.Signals
) -> None:
    api = bear(own_house, doom={"point": Point.CREATED, "number": how, "wanted": 1})
    payment, key = await own_shop.pay(), uuid4().hex
    async with own_shop.at(await api.url()) as client:
        asking = asyncio.create_task(own_shop.ask(payment, 1250, key=key, client=client))
        await api.until_event("doomed")
        if how is KILL:
            with pytest.raises(httpx.TransportError):
                await asking

        again = await own_shop.ask(payment, 1250, key=key)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
        # What was promised is a row, not a task of the process that promised it.
        await own_house.start_worker()
        await own_shop.until(again.json(), "succeeded")

        if how is FREEZE:
            api.signal(signal.SIGCONT)
            first = await asking
            assert (first.status_code, first.json()["id"]) == (201, again.json()["id"])
    assert (await own_shop.count("refunds"), len(own_shop.executions())) == (1, 1)


# --- in the worker -----------------------------------------------------------------------------


# What becomes of it when the worker is killed there, and when it is frozen and goes on too late.
ENDS = {
    Point.CLAIMED: (ALWAYS_PAID, ALWAYS_PAID),
    Point.MARKED: (NEVER_SENT, SENT),
    Point.BEFORE_CONNECT: (NEVER_SENT, SENT),
    Point.WRITTEN: (SENT, SENT),
    Point.ANSWER_READ: (SENT, SENT),
    Point.BEFORE_RESULT: (SENT, SENT),
    Point.RESULT_WRITTEN: (ALWAYS_PAID, ALWAYS_PAID),
    Point.LOOKING_UP: (SENT, SENT),
}


@HOW
@pytest.mark.parametrize("point", ENDS)
async def test_a_worker_that_ends_at_any_point_pays_once_or_calls_a_person(  # KILL-08, KILL-09, KILL-10, KILL-13, KILL-14, KILL-15, KILL-16, KILL-18, FLT-02, FLT-03, INC-10, IDM-13
    own_house: House, sandbox: Sandbox, bear: Callable[..., Child], point: Point, how: signal.Signals
) -> None:
    expected = ENDS[point][how is FREEZE]
    clock = Clock(own_house)
    async with AsyncExitStack() as stack:
        shops = {
            name: await stack.enter_async_context(own_house.new_shop(sandbox, **traits))
            for name, traits in ACCOUNTS.items()
        }
        refunds = {name: await first_asked(shop, point) for name, shop in shops.items()}
        wanted = len(shops)
        if point is Point.LOOKING_UP:
            await lose_track(clock)
            wanted = 2  # of these accounts can be asked

        worker = bear(own_house, doom={"point": point, "number": how, "wanted": wanted})
        if point is Point.WRITTEN:
            await all_executed(shops)
            worker.signal(how)
        else:
            await worker.until_event("doomed")
        await own_house.start_worker()
        await clock.jump(seconds=2 * OVER)
        await clock.work()
        if how is FREEZE:
            # It goes on where it was, and ends when it has done what it had in hand.
            worker.signal(signal.SIGCONT)
            worker.signal(signal.SIGTERM)
            assert await worker.wait() == 0
        await until_settled(clock, shops, refunds, expected)

        await assert_ends(shops, refunds, expected)


async def first_asked(shop: Shop, point: Point) -> dict[str, Any]:
    plays = {Point.WRITTEN: "slow:1", Point.LOOKING_UP: "lose_answer"}
    more = {"metadata": {"sandbox": plays[point]}} if point in plays else {}
    told: dict[str, Any] = (await shop.ask(await shop.pay(), 1250, **more)).json()
    return told


async def lose_track(clock: Clock) -> None:
    """Until each refund is sent and its answer lost; the look-ups are due, and no worker is there."""
    await clock.house.start_worker()
    await clock.work()
    await clock.house.stop_workers()
    await clock.jump(seconds=17)


async def all_executed(shops: dict[str, Shop]) -> None:
    async with asyncio.timeout(20):
        while not all(shop.executions() for shop in shops.values()):
            await asyncio.sleep(0.01)
