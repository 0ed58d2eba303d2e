"""Processes are killed at random under load: nothing that was acknowledged is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random

import pytest
from clockwork import Clock
from customers import Customers, free_port
from house import House, Shop
from nursery import Child
from sqlalchemy import text

from refund_service.jobs.lease import LEASE

IN_HAND = text(
    "SELECT count(*) FROM refunds r JOIN attempts a USING (merchant_id) WHERE a.refund_id = r.id"
    " AND r.status = 'processing' AND a.state = 'sending'"
)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_acknowledged_refund_is_lost_whatever_is_killed(  # FLT-01, FLT-02, INC-10, INC-51
    own_house: House, own_shop: Shop, bear: Callable[..., Child], seed: int
) -> None:
    rng = Random(seed)  # noqa: S311 - a seed repeats it
    ports = [free_port(), free_port()]
    commands = [("serve", "--no-worker")] * 2 + [("work",)] * 2
    doors = [f"http://127.0.0.1:{port}" for port in ports]

    async def start(number: int) -> Child:
        more = {"REFUND_PORT": str(ports[number])} if number < len(ports) else {}
        child = bear(own_house, *commands[number], **more)
        await child.url()
        return child

    processes = [await start(number) for number in range(len(commands))]
    async with AsyncExitStack() as stack:
        customers = Customers(
            own_shop, [await stack.enter_async_context(own_shop.at(door)) for door in doors], seed
        )
        async with customers.asking(4):
            for _ in range(6):
                await customers.until_answered(rng.randint(4, 12))
                unlucky = rng.randrange(len(processes))
                await processes[unlucky].kill()
                processes[unlucky] = await start(unlucky)
    for process in processes:
        await process.kill()

    assert set(customers.statuses) == {201}, customers.refused
    assert customers.cut > 0, "no one was hit"
    await customers.assert_nothing_lost()

    # Whatever the dead had in hand is taken over as soon as their leases have ended.
    clock = Clock(own_house)
    await own_house.start_worker()
    await clock.jump(seconds=LEASE.total_seconds() + 2)
    await clock.work()
    assert await own_house.parts.db.value(IN_HAND) == 0
    await customers.assert_paid_once(clock)
