"""Processes that are killed or frozen at the worst moment: nothing is lost, and nothing happens twice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from clockwork import NOTHING_THERE, Asked, Clock, PlayedGateway, Reply
from house import House, Process, Shop
from nursery import environment_of
from sandbox_fixture import Sandbox
from sqlalchemy import text

from refund_service.app import build_sender
from refund_service.gateways.answers import Misconfigured, NotSent, Unknown
from refund_service.gateways.protocol import Response
from refund_service.gateways.send import Sender
from refund_service.jobs.lease import LEASE
from refund_service.jobs.queue import claim_jobs
from refund_service.refunds.advance import advance_refund

WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
OVER = LEASE.total_seconds() + 2


async def eventually(look: Callable[[], Any], what: str, within: float = 15) -> None:
    """Until ``look`` says yes."""
    async with asyncio.timeout(within) as limit:
        while not await look():
            assert not limit.expired(), what
            await asyncio.sleep(0.01)


async def started(process: Process) -> str:
    """The address of an API process, once it serves; empty for one that only works."""
    told = await asyncio.to_thread(process.until_event, "started")
    return str(told["api"] or "")


async def event_types(shop: Shop, refund: dict[str, Any]) -> list[str]:
    told = await shop.get(f"/v1/refunds/{refund['id']}/events")
    return [event["type"] for event in told["data"]]


# --- the API ---------------------------------------------------------------------------------


async def test_an_api_killed_before_the_commit_leaves_no_trace(  # IDM-10, INC-27, INC-28
    own_house: House, own_shop: Shop, start_process: Callable[..., Process]
) -> None:
    api = start_process("serve", "--no-worker", environment=environment_of(own_house))
    url = await started(api)
    payment, key, db = await own_shop.pay(), uuid4().hex, own_house.parts.db

    async def none_waits() -> bool:
        return not await db.value(WAITING)

    async def one_waits() -> bool:
        return bool(await db.value(WAITING))

    async with own_shop.at(url) as client, db.transaction() as holding:
        await holding.execute(text("SELECT 1 FROM payments FOR UPDATE"))
        asking = asyncio.create_task(own_shop.ask(payment, 1250, key=key, client=client))
        await eventually(one_waits, "the request did not reach the payment")
        api.kill()
        with pytest.raises(httpx.TransportError):
            await asking
        await eventually(none_waits, "the dead process still waits")
    assert [await own_shop.count(table) for table in ("refunds", "idempotency_keys", "decisions")] == [
        0,
        0,
        0,
    ]
    assert (await own_shop.payment(payment))["held"] == 0

    again = await own_shop.ask(payment, 1250, key=key)

    assert (again.status_code, "idempotency-replayed" in again.headers) == (201, False)
    await own_house.start_worker()
    assert (await own_shop.until(again.json(), "succeeded"))["payment"]["refunded"] == 1250
    assert len(own_shop.executions()) == 1


@asynccontextmanager
async def answers_lost(url: str, once_answered: Callable[[], None]) -> AsyncIterator[str]:
    """An address before ``url`` that takes requests there and keeps the answers to itself."""
    target = urlsplit(url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            far_writer.write(await reader.read(65536))
            assert await far_reader.read(1), "it was not answered"
            once_answered()
        finally:
            far_writer.close()
            writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_api_killed_after_the_commit_has_kept_what_it_could_not_say(  # IDM-11, INC-27
    own_house: House, own_shop: Shop, start_process: Callable[..., Process]
) -> None:
    api = start_process("serve", "--no-worker", environment=environment_of(own_house))
    payment, key = await own_shop.pay(), uuid4().hex

    async with answers_lost(await started(api), api.kill) as url, own_shop.at(url) as client:
        with pytest.raises(httpx.TransportError):
            await own_shop.ask(payment, 1250, key=key, client=client)
    assert await own_shop.count("refunds") == 1

    again = await own_shop.ask(payment, 1250, key=key)

    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.headers["location"] == f"/v1/refunds/{again.json()['id']}"
    await own_house.start_worker()
    await own_shop.until(again.json(), "succeeded")
    assert (await own_shop.count("refunds"), len(own_shop.executions())) == (1, 1)


# --- the worker ------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [True, False])
async def test_a_worker_killed_while_it_was_sending_leaves_a_doubt_that_is_cleared(  # IDM-13, FLT-02, vendure#3680
    own_house: House, start_process: Callable[..., Process], played: Callable[..., Any], executed: bool
) -> None:
    arrived, never = asyncio.Semaphore(0), asyncio.Event()

    async def hold_back(asked: Asked) -> Reply | None:
        if not asked.is_send:
            return gateway.found() if executed else NOTHING_THERE
        arrived.release()
        if len(gateway.sends) == 1:
            await never.wait()
        return 201, gateway.shown(asked)

    gateway: PlayedGateway = await played(hold_back)
    clock = Clock(own_house)
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        worker = start_process("work", environment=environment_of(own_house))
        await started(worker)
        payment, key = await shop.pay(), uuid4().hex
        refund = (await shop.ask(payment, 1250, key=key)).json()
        await arrived.acquire()
        worker.kill()
        await own_house.start_worker()
        assert (await shop.see(refund))["status"] == "processing", "its lease still holds"

        await clock.jump(seconds=OVER)
        await clock.work()
        seen = await shop.see(refund)
        assert seen["status"] == ("succeeded" if executed else "unknown")
        assert len(gateway.sends) == 1, "nothing is sent before it was looked up"
        replay = await shop.ask(payment, 1250, key=key)
        assert (replay.json()["status"], replay.headers["idempotency-replayed"]) == (seen["status"], "true")

        await clock.turn(seconds=70)
        await clock.turn(seconds=70)
        seen = await shop.see(refund)
        assert (seen["status"], seen["payment"]["held"], seen["payment"]["refunded"]) == (
            "succeeded",
            0,
            1250,
        )
        assert len(gateway.sends) == (1 if executed else 2)
        assert len({(asked.key, asked.content) for asked in gateway.sends}) == 1
        assert (await event_types(shop, refund))[:3] == [
            "refund.created",
            "refund.processing",
            "refund.unknown",
        ]


async def test_a_worker_frozen_over_its_lease_changes_nothing_and_sends_nothing(  # FLT-03, INC-41
    own_house: House, start_process: Callable[..., Process], played: Callable[..., Any]
) -> None:
    arrived, thawed = asyncio.Event(), asyncio.Event()

    async def answer_late(asked: Asked) -> Reply:
        if not asked.is_send:
            return gateway.found()
        arrived.set()
        await thawed.wait()
        return 422, {"error": {"code": "issuer_declined", "message": "Whatever it says, it is too late."}}

    gateway: PlayedGateway = await played(answer_late)
    clock = Clock(own_house)
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        late = start_process("work", environment=environment_of(own_house))
        await started(late)
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        await arrived.wait()
        late.signal(signal.SIGSTOP)
        await own_house.start_worker()
        await clock.jump(seconds=2 * OVER)
        await clock.work()
        settled = await shop.see(refund)
        assert settled["status"] == "succeeded"
        told = await event_types(shop, refund)

        thawed.set()
        late.signal(signal.SIGCONT)
        await asyncio.to_thread(late.until_event, "refund.step_refused")
        await clock.turn(hours=1)

        assert await shop.see(refund) == settled
        assert await event_types(shop, refund) == told
        assert len(gateway.sends) == 1


class FrozenSender(Sender):
    """The one way out, stopped right before a call until it is thawed."""

    def __init__(self, way_out: Sender) -> None:
        self._way_out = way_out
        self.frozen, self.thawed = asyncio.Event(), asyncio.Event()

    async def call(self, *told: Any, **more: Any) -> Response | NotSent | Unknown | Misconfigured:
        self.frozen.set()
        await self.thawed.wait()
        return await self._way_out.call(*told, **more)


@pytest.mark.parametrize("deduplicates", [True, False])
async def test_a_worker_frozen_right_before_its_call_pays_nothing_twice(  # FLT-03, IDM-13, FLT-21
    own_house: House, sandbox: Sandbox, deduplicates: bool
) -> None:
    clock, way_out = Clock(own_house), build_sender()
    async with own_house.new_shop(sandbox, deduplicates=deduplicates) as shop:
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        (job,) = [
            job for job in await claim_jobs(own_house.parts.db, at_most=9, per_lane=9) if job.name == "refund"
        ]
        sender = FrozenSender(way_out)
        late = asyncio.create_task(advance_refund(replace(own_house.desk, sender=sender), job))
        await sender.frozen.wait()

        await own_house.start_worker()
        await clock.jump(seconds=2 * OVER)
        await clock.work()
        assert (await shop.see(refund))["status"] == "unknown"
        assert shop.executions() == []
        for _ in range(2):
            await clock.turn(seconds=70)
        seen = await shop.see(refund)
        assert seen["status"] == ("succeeded" if deduplicates else "unknown")

        sender.thawed.set()
        await late
        assert await shop.see(refund) == seen, "who comes late writes nothing down"
        for _ in range(5):
            await clock.turn(hours=7)
        seen = await shop.see(refund)
        assert (seen["status"], seen["payment"]["refunded"]) == ("succeeded", 1250)
        assert len(shop.executions()) == 1
    await way_out.close()


async def test_a_worker_that_claimed_and_froze_before_the_mark_sends_nothing(  # FLT-03
    own_house: House, sandbox: Sandbox
) -> None:
    clock = Clock(own_house)
    async with own_house.new_shop(sandbox) as shop:
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        (job,) = [
            job for job in await claim_jobs(own_house.parts.db, at_most=9, per_lane=9) if job.name == "refund"
        ]
        await clock.jump(seconds=OVER)

        await advance_refund(own_house.desk, job)

        assert (await shop.see(refund))["status"] == "queued"
        assert shop.sandbox.record(account=shop.remote)["requests"] == []
        await own_house.start_worker()
        await clock.turn(seconds=10)
        assert (await shop.see(refund))["status"] == "succeeded"
        assert len(shop.executions()) == 1


async def test_a_call_that_is_cut_off_by_the_end_of_the_process_is_looked_up(  # FLT-02
    own_house: House, sandbox: Sandbox
) -> None:
    clock, way_out = Clock(own_house), build_sender()
    async with own_house.new_shop(sandbox) as shop:
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        (job,) = [
            job for job in await claim_jobs(own_house.parts.db, at_most=9, per_lane=9) if job.name == "refund"
        ]
        sender = FrozenSender(way_out)
        late = asyncio.create_task(advance_refund(replace(own_house.desk, sender=sender), job))
        await sender.frozen.wait()
        late.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await late
        assert (await shop.see(refund))["status"] == "processing"

        await own_house.start_worker()
        await clock.jump(seconds=OVER)
        await clock.work()
        assert (await shop.see(refund))["status"] == "unknown"
        for _ in range(2):
            await clock.turn(seconds=70)
        assert (await shop.see(refund))["status"] == "succeeded"
        assert len(shop.executions()) == 1
    await way_out.close()
