"""The recurring verify: how often each check is made, and what may end one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest
from clockwork import Clock
from house import House, Shop
from sqlalchemy import text

from refund_service.db.engine import Database
from refund_service.db.errors import READ_ONLY, Busy, DatabaseUnavailable
from refund_service.jobs.hold import LeaseLost, while_held
from refund_service.jobs.lease import LEASE, Job
from refund_service.jobs.queue import claim_jobs, promise_once
from refund_service.jobs.worker import Worker
from refund_service.reports.rounds import go_round, rest
from refund_service.reports.verify import CHECKS, verify_one, verify_promises
from refund_service.tasks import CUT_SHORT

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

_SLEEPERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database()"
    " AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
)
SLEEP = "SELECT pg_sleep(600)"


async def sleepers(db: Database, number: int) -> None:
    """Return when so many checks sleep in the database."""
    async with asyncio.timeout(20):
        while await db.value(_SLEEPERS) != number:
            await asyncio.sleep(0.02)


# How often


@pytest.mark.parametrize(
    ("took", "rested"),
    [
        (timedelta(0), HOUR),
        (3 * MINUTE, HOUR),
        (3 * MINUTE + timedelta(seconds=1), HOUR + timedelta(seconds=20)),
        (72 * MINUTE, DAY),
        (73 * MINUTE, DAY),
    ],
)
def test_a_check_rests_twenty_times_as_long_as_it_took_an_hour_at_least_and_a_day_at_most(
    took: timedelta, rested: timedelta
) -> None:
    assert rest(took) == rested


async def looked_at(db: Database) -> dict[str, Any]:
    rows = await db.rows(text("SELECT * FROM verifications"))
    return {row["says"]: row["looked_at"] for row in rows}


async def test_a_round_makes_the_checks_whose_rest_is_over_and_no_other(own_house: House) -> None:
    db, clock = own_house.parts.db, Clock(own_house)
    await go_round(db)
    first = await looked_at(db)
    assert set(first) == {says for _, says, _ in CHECKS}

    slow = CHECKS[0][1]
    await db.rows(text("UPDATE verifications SET took_ms = 600000 WHERE says = :in_says"), says=slow)
    await clock.jump(minutes=59)
    await go_round(db)
    assert await looked_at(db) == first

    await clock.jump(minutes=1)
    await go_round(db)
    second = await looked_at(db)
    assert {says for says in second if second[says] == first[says]} == {slow}

    await clock.jump(minutes=140)
    await go_round(db)
    assert (await looked_at(db))[slow] > first[slow]


async def test_the_worker_makes_its_first_round_after_an_hour_and_looks_again_every_ten_minutes(
    own_house: House,
) -> None:
    db, clock = own_house.parts.db, Clock(own_house)
    await own_house.start_worker()
    await clock.turn(minutes=59)
    assert await looked_at(db) == {}

    await clock.turn(minutes=1)
    first = await looked_at(db)
    assert len(first) == len(CHECKS)

    await clock.turn(minutes=50)
    assert await looked_at(db) == first
    await clock.turn(minutes=20)
    assert min((await looked_at(db)).values()) > max(first.values())


async def test_while_refunds_go_their_way_no_check_sees_a_promise_broken(
    own_house: House, own_shop: Shop
) -> None:
    """Each looks at a moment of its own, in the middle of everything."""
    await own_house.start_worker()
    enough = asyncio.Event()

    async def give_back(behaviours: Iterator[str]) -> None:
        payment = await own_shop.pay()
        while not enough.is_set():
            behaviour = next(behaviours)
            reply = await own_shop.ask(payment, 1, wait=1, metadata={"sandbox": behaviour})
            assert reply.status_code == 201, reply.text
            await own_shop.client.post(f"/v1/refunds/{reply.json()['id']}/cancel")

    behaviours = cycle(("succeed", "decline", "pend", "lose_answer"))
    giving = [asyncio.create_task(give_back(behaviours)) for _ in range(6)]
    for _ in range(5):
        assert [one for one in await verify_promises(own_house.parts.db) if one.rows] == []
    enough.set()
    await asyncio.gather(*giving)
    assert await own_shop.count("refunds") > 5


# What may end a check


async def test_a_check_that_takes_too_long_is_stopped_in_the_database(own_house: House) -> None:
    db = own_house.parts.db
    with pytest.raises(Busy):
        await verify_one(db, "0", "it sleeps", SLEEP, patience=timedelta(milliseconds=50))
    await sleepers(db, 0)


async def test_a_check_cannot_write(own_house: House) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        await verify_one(own_house.parts.db, "0", "it writes", "SELECT lo_create(0)")
    assert READ_ONLY in sqlstates(refused.value)


def sqlstates(error: BaseException | None) -> set[str | None]:
    """Of an error and of all that it was raised from."""
    if error is None:
        return set()
    behind = [error.__cause__, error.__context__, getattr(error, "orig", None)]
    return {getattr(error, "sqlstate", None)}.union(*(sqlstates(one) for one in behind))


@pytest.fixture
async def job(own_house: House) -> Job:
    """The recurring verify's, held by this test."""
    db = own_house.parts.db
    await db.rows(text("DELETE FROM jobs"))
    await promise_once(db, "verify")
    (held,) = await claim_jobs(db, at_most=1, per_lane=1)
    return held


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_job_that_takes_long_is_held_until_it_is_done(own_house: House, job: Job) -> None:
    clock = Clock(own_house)
    done = asyncio.Event()
    working = asyncio.create_task(while_held(own_house.parts.db, job, _until(done), every=0.02))
    left = text("SELECT extract(epoch FROM run_at - db_now()) FROM jobs")
    for _ in range(2):
        await clock.jump(seconds=LEASE.total_seconds() - 15)
        async with asyncio.timeout(20):
            while await own_house.parts.db.value(left) < LEASE.total_seconds() - 5:
                await asyncio.sleep(0.02)
    done.set()
    await working


async def test_work_whose_lease_is_lost_is_stopped_in_the_database_too(own_house: House, job: Job) -> None:
    db, clock = own_house.parts.db, Clock(own_house)
    working = asyncio.create_task(while_held(db, job, verify_one(db, "0", "it sleeps", SLEEP), every=0.02))
    await sleepers(db, 1)

    await clock.jump(seconds=LEASE.total_seconds() + 1)
    with pytest.raises(LeaseLost):
        await working
    await sleepers(db, 0)


async def test_a_failure_of_the_work_is_the_job_s(own_house: House, job: Job) -> None:
    async def fail() -> None:
        raise ValueError("not to be swallowed")

    with pytest.raises(ValueError, match="not to be swallowed"):
        await while_held(own_house.parts.db, job, fail())


async def test_a_worker_that_is_asked_to_end_does_not_wait_for_a_check(own_house: House) -> None:
    db = own_house.parts.db
    await db.rows(text("DELETE FROM jobs"))
    await promise_once(db, "verify")

    async def sleep(_job: Job) -> None:
        await verify_one(db, "0", "it sleeps", SLEEP)

    worker = Worker(db, {"verify": sleep}, cut_short=CUT_SHORT)
    running = asyncio.create_task(worker.run())
    await sleepers(db, 1)

    worker.stop()
    async with asyncio.timeout(15):  # what is in flight is given 20 s
        await running
    await sleepers(db, 0)


# What is found


@pytest.mark.parametrize(
    ("damage", "mend", "says"),
    [
        (
            "UPDATE payments SET held = held + 1",
            "UPDATE payments SET held = held - 1",
            "what a payment holds is the sum of its refunds whose end is not known",
        ),
        (
            "UPDATE payments SET refunded = refunded + 1",
            "UPDATE payments SET refunded = refunded - 1",
            "what a payment has given back is the sum of its succeeded refunds and what was given back elsewhere",
        ),
        (
            "UPDATE payments SET disputed = captured, excess = refunded",
            "UPDATE payments SET disputed = 0, excess = 0",
            "excess calls a person",
        ),
    ],
)
async def test_a_payment_that_does_not_agree_with_its_refunds_is_found(  # INV-02
    own_house: House, own_shop: Shop, damage: str, mend: str, says: str
) -> None:
    db = own_house.parts.db
    await own_house.start_worker()
    payment = await own_shop.pay()
    await own_shop.refund(payment, 100)
    await own_shop.refund(payment, 200)

    await db.rows(text(damage))
    assert [(one.says, len(one.rows)) for one in await verify_promises(db) if one.rows] == [(says, 1)]

    await db.rows(text(mend))
    assert [one.says for one in await verify_promises(db) if one.rows] == []
