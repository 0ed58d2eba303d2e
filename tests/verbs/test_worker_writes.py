"""What a worker writes is guarded by its lease and by what it had read: who comes too late changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from clockwork import Clock
from house import House, Shop
from sqlalchemy import text

from refund_service import ids
from refund_service.clock import rfc3339, utc_now
from refund_service.db.engine import Database
from refund_service.db.errors import WriteRefused
from refund_service.gateways.accounts import pause_account, resume_account
from refund_service.gateways.answers import BankReference, PreparedRequest
from refund_service.gateways.switches import resume_sends, stop_sends
from refund_service.jobs.lease import LEASE, Job
from refund_service.jobs.queue import claim_jobs, finish_job, postpone_job, promise_once, wake_job
from refund_service.refunds.advance import advance_refund
from refund_service.refunds.case import Case
from refund_service.refunds.conclude import Conclusion
from refund_service.refunds.read_case import read_case
from refund_service.refunds.record import record
from refund_service.refunds.states import AttemptState, RefundEvent
from refund_service.refunds.submit import submit
from refund_service.refunds.watch import AT_ONCE, watch_refunds

BYTES = PreparedRequest("POST", "/v1/refunds", {}, b"{}")
DONE = Conclusion(event=RefundEvent.SUCCEED, attempt_state=AttemptState.DONE, gateway_refund_id="sbr_done")
WAITS = Conclusion(
    event=RefundEvent.LOSE_TRACK, attempt_state=AttemptState.LOST, ambiguous=True, wait=timedelta(seconds=15)
)
ALMOST = LEASE.total_seconds() - 2
OVER = LEASE.total_seconds() + 1
EVERYTHING = ("refunds", "refund_transitions", "attempts", "gateway_calls", "payments", "events", "jobs")


@pytest.fixture
async def db(quiet_house: House) -> Database:
    return quiet_house.parts.db


async def rows_of(db: Database, shop: Shop) -> dict[str, list[dict[str, Any]]]:
    """Every row that the merchant has."""
    read = "SELECT to_jsonb(t) AS row FROM {} t WHERE merchant_id = :in_merchant_id ORDER BY 1"
    return {
        table: [row["row"] for row in await db.rows(text(read.format(table)), merchant_id=shop.merchant_id)]
        for table in EVERYTHING
    }


async def case_of(shop: Shop, refund: dict[str, Any]) -> Case:
    parts = shop.house.parts
    case = await read_case(parts.db, parts.keyring, shop.merchant_id, ids.read("refund", refund["id"]))
    assert case is not None
    return case


@pytest.fixture
def queued(quiet_shop: Shop, take: Callable[..., Any]) -> Callable[..., Any]:
    """A refund of 600 of 1000 that is queued, and its job, leased."""

    async def make() -> tuple[dict[str, Any], Job]:
        refund = (await quiet_shop.ask(await quiet_shop.pay(1000), 600)).json()
        (job,) = await take(quiet_shop)
        return refund, job

    return make


@pytest.fixture
def sending(quiet_shop: Shop, queued: Callable[..., Any]) -> Callable[..., Any]:
    """The same, marked as being sent."""

    async def make() -> tuple[dict[str, Any], Job]:
        refund, job = await queued()
        case = await case_of(quiet_shop, refund)
        await submit(quiet_shop.house.parts.db, job, case, BYTES, due_at=utc_now(), now=utc_now())
        return refund, job

    return make


async def refused(db: Database, shop: Shop, writing: Any, guard: str) -> None:
    """The write is refused at this guard, and not a single row is another."""
    before = await rows_of(db, shop)
    with pytest.raises(WriteRefused) as no:
        await writing
    assert no.value.guard == guard
    assert await rows_of(db, shop) == before


# --- marking as being sent -------------------------------------------------------------------


async def test_the_attempt_with_its_key_and_bytes_is_written_before_anything_leaves(  # killbill#1007
    db: Database, quiet_shop: Shop, sending: Callable[..., Any]
) -> None:
    refund, _ = await sending()

    case = await case_of(quiet_shop, refund)
    assert case.request == BYTES
    assert case.attempt is not None
    assert (case.attempt.state, case.attempt.sends, case.attempt.ambiguous) == (
        AttemptState.SENDING,
        1,
        False,
    )
    (attempt,) = (await rows_of(db, quiet_shop))["attempts"]
    assert UUID(attempt["key"]) == ids.gateway_key(quiet_shop.merchant_id, case.idempotency_key, 1)
    assert quiet_shop.sandbox.record(account=quiet_shop.remote)["requests"] == []


@pytest.mark.parametrize("scope", ["all", "merchant", "account"])
async def test_a_switch_thrown_right_before_the_send_still_stops_it(
    db: Database, quiet_shop: Shop, queued: Callable[..., Any], scope: str
) -> None:
    refund, job = await queued()
    case = await case_of(quiet_shop, refund)
    at = {"all": ids.NIL, "merchant": quiet_shop.merchant_id, "account": quiet_shop.account_id}[scope]
    await stop_sends(db, at, "a test", stopped_by="tester")
    try:
        await refused(db, quiet_shop, submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now()), "lease")
    finally:
        await resume_sends(db, at)
    await submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now())


async def test_an_account_paused_right_before_the_send_still_stops_it(
    db: Database, quiet_shop: Shop, queued: Callable[..., Any]
) -> None:
    refund, job = await queued()
    case, shop = await case_of(quiet_shop, refund), quiet_shop
    assert await pause_account(db, shop.merchant_id, shop.account_id, "why", actor="tester", now=utc_now())
    assert not await pause_account(
        db, shop.merchant_id, shop.account_id, "why", actor="tester", now=utc_now()
    )

    await refused(db, shop, submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now()), "lease")

    assert await resume_account(db, shop.merchant_id, shop.account_id, actor="tester", now=utc_now())
    await submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now())


async def test_a_lease_that_is_over_marks_nothing(
    db: Database, clock: Clock, quiet_shop: Shop, queued: Callable[..., Any]
) -> None:  # FLT-03
    refund, job = await queued()
    case = await case_of(quiet_shop, refund)
    await clock.jump(seconds=ALMOST)
    await submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now())  # the edge, and it is renewed

    await clock.jump(seconds=ALMOST)
    again = await case_of(quiet_shop, refund)
    await submit(db, job, again, BYTES, due_at=utc_now(), now=utc_now())
    await clock.jump(seconds=OVER)
    again = await case_of(quiet_shop, refund)
    await refused(db, quiet_shop, submit(db, job, again, BYTES, due_at=utc_now(), now=utc_now()), "lease")


async def test_what_was_canceled_meanwhile_is_not_marked(
    db: Database, quiet_shop: Shop, queued: Callable[..., Any]
) -> None:  # CON-09
    refund, job = await queued()
    case = await case_of(quiet_shop, refund)
    assert (await quiet_shop.client.post(refund["links"]["cancel"])).status_code == 200

    await refused(db, quiet_shop, submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now()), "lease")


async def test_what_was_marked_meanwhile_is_not_marked_again_and_not_canceled(
    db: Database, quiet_shop: Shop, queued: Callable[..., Any]
) -> None:  # CON-09
    refund, job = await queued()
    case = await case_of(quiet_shop, refund)
    await submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now())

    await refused(db, quiet_shop, submit(db, job, case, BYTES, due_at=utc_now(), now=utc_now()), "refund")
    assert (await quiet_shop.client.post(refund["links"]["cancel"])).status_code == 409


# --- writing down what came of it ------------------------------------------------------------


async def test_a_record_moves_status_hold_history_event_and_job_in_one(
    db: Database, quiet_shop: Shop, sending: Callable[..., Any]
) -> None:
    refund, job = await sending()

    await record(db, job, await case_of(quiet_shop, refund), DONE, now=utc_now())

    rows = await rows_of(db, quiet_shop)
    assert [(row["status"], row["version"], row["gateway_refund_id"]) for row in rows["refunds"]] == [
        ("succeeded", 3, "sbr_done")
    ]
    assert [(row["held"], row["refunded"]) for row in rows["payments"]] == [(0, 600)]
    assert [
        row["to_status"] for row in sorted(rows["refund_transitions"], key=lambda row: row["version"])
    ] == [
        "queued",
        "processing",
        "succeeded",
    ]
    told = sorted((row["sequence"], row["type"]) for row in rows["events"] if row["resource"] == "refund")
    assert told == [(1, "refund.created"), (2, "refund.processing"), (3, "refund.succeeded")]
    assert (rows["attempts"][0]["state"], rows["jobs"]) == ("done", [])


@pytest.mark.parametrize("said", [DONE, WAITS], ids=["and ends", "and waits"])
async def test_a_worker_whose_lease_is_over_records_nothing(
    db: Database, clock: Clock, quiet_shop: Shop, sending: Callable[..., Any], said: Conclusion
) -> None:  # FLT-03
    refund, job = await sending()
    case = await case_of(quiet_shop, refund)
    await clock.jump(seconds=OVER)

    await refused(db, quiet_shop, record(db, job, case, said, now=utc_now()), "lease")


async def test_a_worker_whose_job_was_taken_over_records_nothing(
    db: Database, clock: Clock, quiet_shop: Shop, sending: Callable[..., Any], take: Callable[..., Any]
) -> None:  # FLT-03
    refund, late = await sending()
    case = await case_of(quiet_shop, refund)
    await clock.jump(seconds=OVER)
    (taken,) = await take(quiet_shop)
    assert (taken.id, taken.lease == late.lease) == (late.id, False)

    await refused(db, quiet_shop, record(db, late, case, DONE, now=utc_now()), "lease")
    before = await rows_of(db, quiet_shop)
    await postpone_job(db, late, timedelta(0))
    await finish_job(db, late)
    assert await rows_of(db, quiet_shop) == before

    await record(db, taken, case, DONE, now=utc_now())


async def test_what_someone_else_has_settled_is_not_settled_again(
    db: Database, quiet_shop: Shop, sending: Callable[..., Any]
) -> None:  # CON-10
    refund, job = await sending()
    case = await case_of(quiet_shop, refund)
    failed = Conclusion(
        event=RefundEvent.FAIL, attempt_state=AttemptState.REFUSED, failure=("other", "x"), wait=timedelta(0)
    )
    await record(db, job, case, failed, now=utc_now(), goes_on=True)

    await refused(db, quiet_shop, record(db, job, case, DONE, now=utc_now(), goes_on=True), "refund")

    assert (await quiet_shop.payment(refund["payment"]))["available"] == 1000
    await finish_job(db, job)


async def test_one_gateway_refund_is_never_two_of_ours(  # INV-05, woocommerce-gateway-stripe#838
    quiet_shop: Shop, sending: Callable[..., Any], db: Database
) -> None:
    first, job = await sending()
    await record(db, job, await case_of(quiet_shop, first), DONE, now=utc_now())
    second, job = await sending()
    case = await case_of(quiet_shop, second)
    before = await rows_of(db, quiet_shop)

    with pytest.raises(Exception, match="uq_refunds_gateway_refund"):
        await record(db, job, case, DONE, now=utc_now())

    assert await rows_of(db, quiet_shop) == before
    other = Conclusion(
        event=RefundEvent.SUCCEED, attempt_state=AttemptState.DONE, gateway_refund_id="sbr_other"
    )
    await record(db, job, case, other, now=utc_now())


# --- jobs ------------------------------------------------------------------------------------


async def test_workers_that_look_at_once_never_take_the_same_job(db: Database, quiet_shop: Shop) -> None:
    payment = await quiet_shop.pay()
    for _ in range(40):
        await quiet_shop.ask(payment, 1)

    taken = await asyncio.gather(*(claim_jobs(db, at_most=20, per_lane=20) for _ in range(6)))

    ours = [job.id for jobs in taken for job in jobs if job.merchant_id == quiet_shop.merchant_id]
    assert len(ours) == len(set(ours)) == 40
    for jobs in taken:
        for job in jobs:
            await postpone_job(db, job, timedelta(days=900))


async def test_a_job_that_is_taken_is_due_again_when_its_lease_is_over(
    clock: Clock, quiet_shop: Shop, queued: Callable[..., Any], take: Callable[..., Any]
) -> None:  # FLT-02
    _, job = await queued()
    await clock.jump(seconds=ALMOST)
    assert await take(quiet_shop) == []

    await clock.jump(seconds=3)
    (again,) = await take(quiet_shop)
    assert again.id == job.id


async def test_a_long_lane_hides_no_other(db: Database, quiet_shop: Shop, quiet_house: House) -> None:
    payment = await quiet_shop.pay()
    for _ in range(30):
        await quiet_shop.ask(payment, 1)
    async with quiet_house.new_shop(quiet_shop.sandbox) as other:
        await other.ask(await other.pay(), 1)

        jobs = await claim_jobs(db, at_most=10, per_lane=5)

        lanes = [job.lane for job in jobs if job.name == "refund"]
        assert other.account_id in lanes
        assert lanes.count(quiet_shop.account_id) <= 5
        assert other.account_id not in {
            job.lane for job in await claim_jobs(db, at_most=50, per_lane=50, closed_lanes=[other.account_id])
        }


async def test_a_recurring_job_is_there_once_whoever_promises_it(db: Database) -> None:
    await asyncio.gather(*(promise_once(db, "watch") for _ in range(8)))

    assert await db.value(text("SELECT count(*) FROM jobs WHERE name = 'watch'")) == 1


async def test_waking_a_job_leaves_it_to_the_worker_that_has_it(
    db: Database, clock: Clock, quiet_shop: Shop, queued: Callable[..., Any], take: Callable[..., Any]
) -> None:
    _, job = await queued()

    async def wake() -> None:
        told = {"merchant_id": job.merchant_id, "lane": job.lane, "subject_id": job.subject_id}
        await wake_job(db, job.name, job.key, **told)

    await wake()
    assert await take(quiet_shop) == []
    await postpone_job(db, job, timedelta(days=1))
    assert await take(quiet_shop) == []
    await wake()
    (woken,) = await take(quiet_shop)
    assert woken.id == job.id


async def test_a_job_about_nothing_is_let_go(
    db: Database, quiet_shop: Shop, take: Callable[..., Any]
) -> None:
    told = {"merchant_id": quiet_shop.merchant_id, "lane": quiet_shop.account_id, "subject_id": ids.new_id()}
    await wake_job(db, "refund", f"refund:{told['subject_id']}", **told)
    (job,) = await take(quiet_shop)

    await advance_refund(quiet_shop.house.desk, job)

    assert (await rows_of(db, quiet_shop))["jobs"] == []


# --- when it last changed ---------------------------------------------------------------------


async def test_only_what_a_reader_can_see_moves_when_it_last_changed(
    db: Database, quiet_shop: Shop, sending: Callable[..., Any]
) -> None:
    refund, job = await sending()
    began = utc_now()

    async def moved_by(said: Conclusion, hours: int) -> bool:
        case, before = await case_of(quiet_shop, refund), await quiet_shop.see(refund)
        at = began + timedelta(hours=hours)
        await record(db, job, case, said, goes_on=True, now=at)
        after = await quiet_shop.see(refund)
        assert after["updated_at"] in {before["updated_at"], rfc3339(at)}
        assert (after == before) == (after["updated_at"] == before["updated_at"])
        return bool(after["updated_at"] != before["updated_at"])

    late, missed = timedelta(hours=1), Conclusion(look_ups=1, missed=True, due_in=timedelta(hours=1))
    called = Conclusion(look_ups=1, attention="answer_differs", due_in=late)
    banked = Conclusion(look_ups=1, bank_reference=BankReference("arn", "1234", "pending"))
    named = replace(banked, gateway_refund_id="re_seen")
    for hours, (said, moves) in enumerate(
        [
            (WAITS, True),
            (missed, True),  # from now on it can be late
            (missed, False),
            (called, True),
            (called, False),
            (missed, False),
            (banked, True),
            (banked, False),
            (named, True),
            (named, False),
            (replace(banked, bank_reference=BankReference("arn", "1234", "available")), True),
            (Conclusion(calm=True), True),
            (Conclusion(calm=True), False),
            (replace(DONE, gateway_refund_id="re_seen"), True),
        ],
        start=1,
    ):
        assert await moved_by(said, hours) is moves, said


async def test_asking_once_more_what_is_in_progress_makes_a_refund_no_younger_and_no_later(
    db: Database, quiet_shop: Shop, sending: Callable[..., Any]
) -> None:
    refund, job = await sending()
    busy = Conclusion(
        attempt_state=AttemptState.WAITING, ambiguous=True, due_in=timedelta(hours=1), wait=timedelta(0)
    )
    await record(db, job, await case_of(quiet_shop, refund), busy, goes_on=True, now=utc_now())
    before = await quiet_shop.see(refund)
    assert before["status"] == "processing"

    later = utc_now() + timedelta(minutes=30)
    case = await case_of(quiet_shop, refund)
    await submit(db, job, case, BYTES, due_at=later + timedelta(hours=1), now=later)
    await record(db, job, await case_of(quiet_shop, refund), busy, goes_on=True, now=later)

    assert await quiet_shop.see(refund) == before
    assert (await case_of(quiet_shop, refund)).attempt.sends == 2  # type: ignore[union-attr] # it was sent


# --- looking after what jobs cannot say themselves -------------------------------------------


async def test_a_person_is_called_to_what_is_late_and_only_once(
    db: Database, clock: Clock, quiet_shop: Shop, queued: Callable[..., Any]
) -> None:  # UNK-10
    refund, job = await queued()
    due = datetime.fromisoformat(refund["due_at"])

    await watch_refunds(db, now=due)
    assert (await quiet_shop.see(refund))["attention"] is None, "the edge: due is not late"
    for _ in range(2):
        await watch_refunds(db, now=due + timedelta(seconds=1))

    seen = await quiet_shop.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("queued", "queued_for_long")
    told = (await quiet_shop.get(f"/v1/refunds/{refund['id']}/events"))["data"]
    assert [event["type"] for event in told] == ["refund.created", "refund.needs_attention"]
    await advance_refund(quiet_shop.house.desk, job)
    seen = await quiet_shop.see(refund)
    assert (seen["status"], seen["attention"], seen["due_at"]) == ("succeeded", None, None)


async def test_a_live_refund_whose_job_was_lost_is_promised_anew(
    db: Database, quiet_shop: Shop, queued: Callable[..., Any], take: Callable[..., Any]
) -> None:  # INC-10
    refund, job = await queued()
    await finish_job(db, job)  # as a restored or repaired database may have it
    done = (await quiet_shop.ask(await quiet_shop.pay(), 1)).json()
    await advance_refund(quiet_shop.house.desk, (await take(quiet_shop))[0])
    assert (await quiet_shop.see(done))["status"] == "succeeded"

    for _ in range(2):
        await watch_refunds(db, now=utc_now())

    (again,) = await take(quiet_shop)
    assert again.subject_id == ids.read("refund", refund["id"])
    await advance_refund(quiet_shop.house.desk, again)
    assert (await quiet_shop.see(refund))["status"] == "succeeded"
    assert len(quiet_shop.executions()) == 2


async def test_who_is_busy_keeps_no_person_from_the_others(
    db: Database, quiet_shop: Shop, queued: Callable[..., Any], sending: Callable[..., Any]
) -> None:
    (first, _), (second, _) = await queued(), await queued()
    late = datetime.fromisoformat(second["due_at"]) + timedelta(seconds=1)
    lock = text("SELECT 1 FROM refunds WHERE id = :id FOR UPDATE")
    async with db.transaction() as tx:
        await tx.execute(lock, {"id": ids.read("refund", first["id"])})
        await watch_refunds(db, now=late)
    assert [(await quiet_shop.see(one))["attention"] is None for one in (first, second)] == [True, False]

    await watch_refunds(db, now=late)
    assert (await quiet_shop.see(first))["attention"]["code"] == "queued_for_long"


@dataclass
class Overheard:
    """A database that tells how many rows each statement came back with."""

    db: Database
    numbers: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    async def rows(self, statement: Any, /, **binds: Any) -> Any:
        found = await self.db.rows(statement, **binds)
        self.numbers.append(len(found))
        return found


COPIES = """
INSERT INTO refunds (merchant_id, id, payment_id, gateway_account_id, amount, currency, status, reason, metadata,
    decision_id, idempotency_key, generation, requested_by, requested_with, version, created_at, updated_at)
SELECT merchant_id, gen_random_uuid(), payment_id, gateway_account_id, amount, currency, status, reason, metadata,
    decision_id, 'copy-' || n, generation, requested_by, requested_with, version, created_at, updated_at
FROM refunds, generate_series(1, 2 * CAST(:at_once AS int) + 1) n
"""


async def test_however_many_jobs_were_lost_all_are_promised_anew_a_few_at_a_time(own_shop: Shop) -> None:
    db = own_shop.house.parts.db
    await own_shop.ask(await own_shop.pay(), 100)
    async with db.transaction() as tx:
        await tx.execute(text(COPIES), {"at_once": AT_ONCE})
    overheard = Overheard(db)

    await watch_refunds(cast("Any", overheard), now=utc_now())

    live = await db.value(text("SELECT count(*) FROM refunds JOIN jobs ON subject_id = refunds.id"))
    assert live == 2 * AT_ONCE + 2
    assert max(overheard.numbers) == AT_ONCE
    # What was copied has no history: it is no database that keeps the promises.
    await db.rows(text("DELETE FROM refunds WHERE idempotency_key LIKE 'copy-%'"))
