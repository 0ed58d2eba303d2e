"""One payment, and everything that can happen to its refunds, in every order that Hypothesis thinks of.

The real verbs on the real database, the worker's steps taken by hand so that they can be cut off and
frozen where it hurts, and the real sandbox, whose record says what really moved.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from house import House, settings_for
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sandbox_fixture import TOKEN, Sandbox
from sqlalchemy import text

from refund_service import ids
from refund_service.app import Parts, build_desk, build_sender, put_together
from refund_service.clock import seconds, utc_now
from refund_service.db.embedded import EmbeddedServer
from refund_service.gateways.accounts import NewAccount, add_account, move_account
from refund_service.gateways.send import Sender
from refund_service.gateways.switches import resume_sends, stop_sends
from refund_service.idempotency.keys import Claim, IdempotencyKeyReused
from refund_service.jobs.lease import LEASE, Job
from refund_service.jobs.queue import claim_jobs, postpone_job
from refund_service.merchants.create import create_merchant
from refund_service.money import Money
from refund_service.payments.new import NewPayment
from refund_service.payments.register import register_payment
from refund_service.refunds.advance import Desk, advance_refund
from refund_service.refunds.ask import By, RefundAsked
from refund_service.refunds.cancel import cancel_refund
from refund_service.refunds.creation import Asker
from refund_service.refunds.errors import AmountExceedsAvailable, RefundNotInStatus
from refund_service.refunds.refresh import refresh_refund
from refund_service.refunds.request import request_refund
from refund_service.refunds.retry import retry_refund
from refund_service.refunds.states import HOLDING, RefundEvent, Status, allows
from refund_service.reports.verify import verify_promises

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "40"))
STEPS = int(os.environ.get("MACHINE_STEPS", "20"))
CAPTURED = 100
ASKER = Asker(ids.new_id(), "tester")

BEHAVIOURS = st.sampled_from(
    [
        "succeed",
        "lose_answer",
        "lose_answer",
        "lose_request",
        "decline",
        "lookup_lags:1",
        "lookup_lags:3",
        "rate_limit",
        "pend",
    ]
)
THEN = st.sampled_from(
    ["work", "work", "work", "nothing", "crash before", "crash after", "freeze before", "freeze after"]
)
"""What the workers do next: "before" and "after" are a call's, so the money has not moved, or has."""
AMOUNTS = st.sampled_from([1, 20, 30, 40, 60])
WHILE = st.sampled_from([2, 17, LEASE.total_seconds() + 1, 70, 1000])
"""Seconds: short, to the first look-up, past a lease, past the second look-up, long."""

ACCOUNTS = {
    "keys and look-up": {},
    "keys": {"looks_up": False},
    "look-up": {"deduplicates": False},
    "neither": {"looks_up": False, "deduplicates": False},
}

_READ = text(
    """
    SELECT p.captured, p.held, p.refunded, p.excess, r.id, r.amount, r.status, r.attention, r.generation,
           array(SELECT a.key::text FROM attempts a WHERE a.merchant_id = r.merchant_id AND a.refund_id = r.id) AS keys
    FROM payments p LEFT JOIN refunds r ON r.merchant_id = p.merchant_id AND r.payment_id = p.id
    WHERE p.merchant_id = :in_merchant_id
    """
)

T = TypeVar("T")


class Crash(BaseException):
    """The process is gone: no ``except`` of ours sees it."""


class FaultySender(Sender):
    """The one way out, of a process that dies or freezes right before or right after its next call."""

    def __init__(self, way_out: Sender, fault: str, when: str) -> None:
        self._way_out, self._fault, self._when = way_out, fault, when
        self.stopped, self.thawed = asyncio.Event(), asyncio.Event()

    async def call(self, *told: Any, **more: Any) -> Any:
        if self._when == "before":
            await self._happen()
        answer = await self._way_out.call(*told, **more)
        if self._when == "after":
            await self._happen()
        return answer

    async def _happen(self) -> None:
        self.stopped.set()
        if self._fault == "crash":
            raise Crash
        await self.thawed.wait()


@dataclass
class World:
    """A database, a sandbox and a clock for all lives; each has a merchant of its own."""

    loop: asyncio.AbstractEventLoop
    parts: Parts
    desk: Desk
    sandbox: Sandbox
    ahead: float = 0.0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    async def turn_clock(self, by: float) -> None:
        self.ahead += by
        await House.turn_clock(self, seconds=self.ahead)  # type: ignore[arg-type] # it needs the database alone

    def process(self, sender: Sender) -> Desk:
        """A worker process of its own, whose clock goes with the database's."""
        fresh = build_desk(self.parts, sender)
        return replace(fresh, seconds=lambda: seconds() + self.ahead)


class Life(RuleBasedStateMachine):
    """One payment of 100 and its refunds."""

    refunds = Bundle("refunds")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.db, self.run = world, world.parts.db, world.run
        self.asked: dict[UUID, RefundAsked] = {}
        self.late: list[tuple[asyncio.Task[None], FaultySender]] = []

    @initialize(
        target=refunds,
        account=st.sampled_from(list(ACCOUNTS)),
        amount=AMOUNTS,
        behaviour=BEHAVIOURS,
        then=THEN,
    )
    def open_shop(self, account: str, amount: int, behaviour: str, then: str) -> Any:
        self.account = account
        self.remote = self.world.sandbox.new_account()
        self.run(self._open_shop())
        return self.request(amount, behaviour, then)

    async def _open_shop(self) -> None:
        now, keyring = utc_now(), self.world.parts.keyring
        self.merchant_id = await create_merchant(self.db, "A life", livemode=False, now=now)
        told = NewAccount(
            *("sandbox", "sandbox", self.remote, self.world.sandbox.base_url, {"token": TOKEN}),
            ACCOUNTS[self.account],
        )
        self.account_id = await add_account(self.db, keyring, self.merchant_id, told, now=now)
        capture = NewPayment(f"pi_{uuid4().hex}", Money(CAPTURED, "EUR"), now)
        made = await register_payment(self.db, self.merchant_id, capture, claim=None, actor="tester", now=now)
        self.payment_id = made.payment_id
        self.desk = self.world.process(self.world.desk.sender)

    # --- what callers do ---------------------------------------------------------------------

    @precondition(lambda self: self.available() > 0)
    @rule(target=refunds, amount=AMOUNTS, behaviour=BEHAVIOURS, then=THEN)
    def request_another(self, amount: int, behaviour: str, then: str) -> Any:
        return self.request(amount, behaviour, then)

    def request(self, amount: int, behaviour: str, then: str) -> Any:
        claim = Claim(uuid4().hex, os.urandom(8))
        asked = RefundAsked(
            By.PAYMENT, self.payment_id, amount, "customer_request", claim, metadata={"sandbox": behaviour}
        )
        free = self.available()
        try:
            made = self.run(self._request(asked))
        except AmountExceedsAvailable:
            assert amount > free
            return multiple()
        assert amount <= free
        assert not made.replayed
        self.asked[made.refund_id] = asked
        self.go_on(then)
        return made.refund_id

    async def _request(self, asked: RefundAsked) -> Any:
        return await request_refund(self.db, self.merchant_id, asked, asker=ASKER, now=utc_now())

    @rule(refund=refunds)
    def request_once_more_and_something_else_under_its_key(self, refund: UUID) -> None:
        asked = self.asked[refund]
        made = self.run(self._request(asked))
        assert (made.refund_id, made.replayed) == (refund, True)
        with pytest.raises(IdempotencyKeyReused):
            self.run(
                self._request(replace(asked, amount=1, claim=replace(asked.claim, fingerprint=b"other")))
            )

    @rule(refund=refunds)
    def cancel(self, refund: UUID) -> None:
        before = self.status(refund)
        changing = cancel_refund(self.db, self.merchant_id, refund, claim=None, actor="tester", now=utc_now())
        if allows(before, RefundEvent.CANCEL):
            self.run(changing)
            assert self.status(refund) is Status.CANCELED
        else:
            with pytest.raises(RefundNotInStatus):
                self.run(changing)

    @rule(refund=refunds, then=THEN)
    def retry(self, refund: UUID, then: str) -> None:
        failed = [row["id"] for row in self.rows() if row["status"] == Status.FAILED]
        refund = failed[0] if failed else refund  # the right one where there is one
        free = self.available()
        changing = retry_refund(self.db, self.merchant_id, refund, claim=None, asker=ASKER, now=utc_now())
        if not failed:
            with pytest.raises(RefundNotInStatus):
                self.run(changing)
        elif (self.asked[refund].amount or 0) > free:
            with pytest.raises(AmountExceedsAvailable):
                self.run(changing)
        else:
            self.run(changing)
            assert self.status(refund) is Status.QUEUED
        self.go_on(then)

    @rule(refund=refunds)
    def ask_after(self, refund: UUID) -> None:
        """As an operator does, and then the worker."""
        # A failed refund's look-up would stand in the way of its retry as long as it is under way.
        self.run(self._refresh(refund))
        self.work()

    async def _refresh(self, refund: UUID) -> None:
        await refresh_refund(self.db, self.merchant_id, refund)

    # --- what workers do ---------------------------------------------------------------------

    def go_on(self, then: str) -> None:
        fault, _, when = then.partition(" ")
        match fault:
            case "work":
                self.work()
            case "crash":
                self.run(self._crash(when))
            case "freeze" if len(self.late) < 3:
                self.run(self._freeze(when))
            case _:
                pass

    def work(self) -> None:
        """Every step that is due, and those that become due by them."""
        for _ in range(8):
            if not self.run(self._work()):
                return

    async def _take(self) -> list[Job]:
        jobs = await claim_jobs(self.db, at_most=100, per_lane=100)
        for job in jobs:
            if job.merchant_id != self.merchant_id:  # of a life that is over
                await postpone_job(self.db, job, LEASE * 1_000_000)
        return [job for job in jobs if job.merchant_id == self.merchant_id]

    async def _work(self) -> int:
        jobs = await self._take()
        for job in jobs:
            await advance_refund(self.desk, job)
        return len(jobs)

    async def _crash(self, when: str) -> None:
        desk = self.world.process(FaultySender(self.world.desk.sender, "crash", when))
        for job in await self._take():
            try:
                await advance_refund(desk, job)
            except Crash:
                return  # and what else it had taken it holds until its lease is over

    async def _freeze(self, when: str) -> None:
        jobs = await self._take()
        for job in jobs:
            sender = FaultySender(self.world.desk.sender, "freeze", when)
            task = asyncio.create_task(advance_refund(self.world.process(sender), job))
            stopped = asyncio.create_task(sender.stopped.wait())
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not task.done():
                self.late.append((task, sender))

    @precondition(lambda self: self.late)
    @rule()
    def a_frozen_worker_wakes_up(self) -> None:
        """Its answer comes late, or only now it calls; its lease may be over, or another's."""
        self.run(self._thaw())

    async def _thaw(self) -> None:
        task, sender = self.late.pop(0)
        sender.thawed.set()
        await task

    # --- what happens besides ----------------------------------------------------------------

    @precondition(lambda self: self.is_open())
    @rule(by=WHILE, then=THEN)
    def time_passes(self, by: float, then: str) -> None:
        self.run(self.world.turn_clock(by))
        self.go_on(then)

    @precondition(lambda self: self.is_open())
    @rule(by=WHILE, then=THEN)
    def sends_are_stopped_for_a_while(self, by: float, then: str) -> None:
        self.run(stop_sends(self.db, self.merchant_id, "a test", stopped_by="tester"))
        before = self.sends()
        self.time_passes(by, then)
        assert self.sends() == before
        self.run(resume_sends(self.db, self.merchant_id))

    @precondition(lambda self: self.is_open())
    @rule(by=WHILE, then=THEN)
    def the_gateway_is_away_for_a_while(self, by: float, then: str) -> None:
        self.run(self._move_gateway("http://127.0.0.1:9"))
        self.time_passes(by, then)
        self.run(self._move_gateway(self.world.sandbox.base_url))

    async def _move_gateway(self, url: str) -> None:
        await move_account(self.db, self.merchant_id, self.account_id, url, now=utc_now())

    @precondition(lambda self: any(one["status"] == "pending" for one in self.executions()))
    @rule(end=st.sampled_from(["succeeded", "failed"]))
    def the_gateway_finishes_what_was_pending(self, end: str) -> None:
        pending = next(one for one in self.executions() if one["status"] == "pending")
        self.world.sandbox.settle(pending["refund"], end)

    # --- what is always so -------------------------------------------------------------------

    def rows(self) -> list[Any]:
        return list(self.run(self.db.rows(_READ, merchant_id=self.merchant_id)))

    def status(self, refund: UUID) -> Status:
        return next(Status(row["status"]) for row in self.rows() if row["id"] == refund)

    def available(self) -> int:
        row = self.rows()[0]
        left: int = row["captured"] - row["held"] - row["refunded"]
        return left

    def is_open(self) -> bool:
        return any(row["status"] in HOLDING for row in self.rows())

    def executions(self) -> list[dict[str, Any]]:
        return self.world.sandbox.executions(account=self.remote)

    def sends(self) -> int:
        number: int = self.world.sandbox.record(account=self.remote)["counts"]["refund"]
        return number

    @invariant()
    def promises_are_kept(self) -> None:
        rows, paid = self.rows(), self.executions()
        payment, refunds = rows[0], [row for row in rows if row["id"] is not None]

        def total(*statuses: Status) -> int:
            return sum(row["amount"] for row in refunds if row["status"] in statuses)

        assert payment["captured"] >= payment["held"] + payment["refunded"]
        assert payment["held"] == total(*HOLDING)
        assert payment["refunded"] == total(Status.SUCCEEDED)
        assert payment["excess"] == 0
        assert len(refunds) == len(self.asked)

        # The truth is the sandbox's: each attempt once, each refund once, never more than came in.
        moved = [one for one in paid if one["status"] != "failed"]
        assert max(Counter(one["reference"] for one in paid).values(), default=0) <= 1
        assert sum(one["amount"] for one in moved) <= CAPTURED
        by_key = {key: row for row in refunds for key in row["keys"]}
        assert max(Counter(by_key[one["reference"]]["id"] for one in moved).values(), default=0) <= 1
        for one in moved:
            row = by_key[one["reference"]]
            assert one["amount"] == row["amount"]
            # Money that moved is counted or held, whatever was lost on the way.
            assert row["status"] in {*HOLDING, Status.SUCCEEDED}, row

        broken = [one for one in self.run(verify_promises(self.db)) if one.rows]
        assert not broken, broken

    def teardown(self) -> None:
        if not hasattr(self, "payment_id"):
            return
        while self.late:
            self.a_frozen_worker_wakes_up()
        self.work()
        self.settle_all()

    def settle_all(self) -> None:
        """Time passes and nothing disturbs any more: all comes to its end, or a person has been called."""
        for _ in range(12):
            for one in self.executions():
                if one["status"] == "pending":
                    self.world.sandbox.settle(one["refund"], "succeeded")
            open_ = [row["id"] for row in self.rows() if row["status"] in HOLDING]
            if not open_:
                break
            self.run(self.world.turn_clock(70))
            for refund in open_:
                self.run(self._refresh(refund))
            self.work()
        self.promises_are_kept()
        done = {one["reference"] for one in self.executions() if one["status"] == "succeeded"}
        for row in self.rows():
            if row["id"] is None:
                continue
            if row["status"] in HOLDING:
                assert self.account != "keys and look-up", row
                assert row["attention"] is not None, row
            else:
                assert bool(done & set(row["keys"])) == (row["status"] == Status.SUCCEEDED), row


@pytest.fixture
def world(postgres: EmbeddedServer, migrated: str, sandbox: Sandbox) -> Iterator[World]:
    name = f"machine_{os.urandom(6).hex()}"
    loop = asyncio.new_event_loop()
    parts = put_together(settings_for(postgres.create_database(name, migrated)), name="machine")
    sender = build_sender()
    yield World(loop, parts, build_desk(parts, sender), sandbox)
    loop.run_until_complete(sender.close())
    loop.run_until_complete(parts.db.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    postgres.drop_database(name)


def test_whatever_happens_in_whatever_order_no_promise_is_broken(world: World) -> None:  # INV-20, INC-45
    run_state_machine_as_test(
        lambda: Life(world),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            # Each life drawn afresh: by itself Hypothesis makes most of so few out of earlier ones.
            backend="hypothesis-urandom",
            suppress_health_check=list(HealthCheck),
        ),
    )
