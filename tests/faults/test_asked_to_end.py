"""SIGTERM: what is in flight is answered, what is in hand is finished or given back, and then it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from clockwork import Asked, Clock, PlayedGateway, Reply
from customers import Customers, free_port
from house import House, Shop
from nursery import Child
from sqlalchemy import text

from refund_service.cli.serving import PartEnded, serve_until_asked
from refund_service.jobs.lease import Job
from refund_service.jobs.worker import CLAIM_WITHIN, Worker
from refund_service.tasks import handlers

MOST_SECONDS = 20
LEASED = text("SELECT count(*) FROM jobs WHERE lease IS NOT NULL AND run_at > db_now()")


async def end(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert await child.wait(within=MOST_SECONDS) == 0


async def test_whoever_waits_for_a_refund_is_told_how_it_stands(  # FLT-04
    own_house: House, own_shop: Shop, bear: Callable[..., Child]
) -> None:
    await own_shop.stop_sends()
    api = bear(own_house, "serve")
    async with own_shop.at(await api.url()) as client:
        waiting = asyncio.create_task(own_shop.ask(await own_shop.pay(), 1250, wait=20, client=client))
        async with asyncio.timeout(20):
            while not await own_shop.count("refunds"):
                await asyncio.sleep(0.01)

        await end(api)

        reply = await waiting
    assert (reply.status_code, reply.json()["status"]) == (201, "queued")
    assert reply.headers["connection"] == "close"


async def test_one_process_after_the_other_ends_under_load_and_no_request_fails(  # FLT-04
    own_house: House, own_shop: Shop, bear: Callable[..., Child]
) -> None:
    ports = [free_port(), free_port()]

    async def start(port: int) -> Child:
        child = bear(own_house, "serve", REFUND_PORT=str(port))
        await child.url()
        return child

    processes = [await start(port) for port in ports]
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(own_shop.at(f"http://127.0.0.1:{port}")) for port in ports]
        customers = Customers(own_shop, doors)
        async with customers.asking(4):
            for turn in (0, 1, 0, 1):
                await customers.until_answered(10)
                await end(processes[turn])
                processes[turn] = await start(ports[turn])
            await customers.until_answered(10)
        for process in processes:
            await end(process)
    assert set(customers.statuses) == {201}, customers.refused
    assert await own_house.parts.db.value(LEASED) == 0
    await customers.assert_nothing_lost()
    await own_house.start_worker()
    await customers.assert_paid_once(Clock(own_house))


async def test_a_call_in_flight_is_waited_for_and_written_down(  # FLT-04
    own_house: House, bear: Callable[..., Child], played: Callable[..., Any]
) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def answer_late(asked: Asked) -> Reply:
        arrived.set()
        await answer.wait()
        return 201, gateway.shown(asked)

    gateway: PlayedGateway = await played(answer_late)
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        worker = bear(own_house, "work")
        await worker.url()
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        await arrived.wait()
        later = (await shop.ask(await shop.pay(), 1250)).json()
        worker.signal(signal.SIGTERM)
        answer.set()

        assert await worker.wait(within=MOST_SECONDS) == 0
        assert (await shop.see(refund))["status"] == "succeeded"
        assert (await shop.see(later))["status"] in {"queued", "succeeded"}
        assert await own_house.parts.db.value(LEASED) == 0


async def test_a_worker_whose_every_slot_is_taken_hears_that_it_is_to_end(  # FLT-04
    own_house: House, own_shop: Shop
) -> None:
    began, never = asyncio.Event(), asyncio.Event()

    async def hang(_job: Job) -> None:
        began.set()
        await never.wait()

    busy = dict.fromkeys(handlers(own_house.desk), hang)
    worker = Worker(own_house.parts.db, busy, slots=1, grace=0.1)
    working = asyncio.create_task(worker.run())
    await own_shop.ask(await own_shop.pay(), 1250)
    await began.wait()

    worker.stop()

    async with asyncio.timeout(CLAIM_WITHIN):
        await working
    assert await own_house.parts.db.value(LEASED) == 0


async def test_a_process_of_which_a_part_ended_by_itself_ends_and_says_so(  # FLT-04
    own_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fall_over(_worker: Worker) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Worker, "run", fall_over)
    settings = own_house.parts.settings.model_copy(update={"port": 0, "ops_port": 0})
    with pytest.raises(PartEnded) as ended:
        async with asyncio.timeout(MOST_SECONDS):
            await serve_until_asked(settings, api=True, work=True, upgrade=False)
    assert isinstance(ended.value.__cause__, ZeroDivisionError)


async def test_a_call_that_outlasts_the_patience_is_given_to_another_worker_at_once(  # FLT-04
    own_house: House, played: Callable[..., Any]
) -> None:
    arrived, never = asyncio.Event(), asyncio.Event()

    async def answer_never(asked: Asked) -> Reply:
        if not asked.is_send:
            return gateway.found()
        arrived.set()
        await never.wait()
        return 500, {}

    gateway: PlayedGateway = await played(answer_never)
    async with own_house.new_shop(gateway) as shop:  # type: ignore[arg-type] # a gateway like any other
        worker = Worker(own_house.parts.db, handlers(own_house.desk), grace=0.1)
        working = asyncio.create_task(worker.run())
        refund = (await shop.ask(await shop.pay(), 1250)).json()
        await arrived.wait()

        worker.stop()
        await working

        assert await own_house.parts.db.value(LEASED) == 0
        await own_house.start_worker()
        # No clock is turned: nobody waits for the lease of one who said goodbye.
        assert (await shop.until(refund, "succeeded"))["payment"]["refunded"] == 1250
        assert len(gateway.sends) == 1
