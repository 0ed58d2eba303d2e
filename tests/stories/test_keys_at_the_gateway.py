"""What a gateway recognises a refund by: neither the client's key nor anything that changes."""

from __future__ import annotations

import asyncio
from uuid import UUID

from clockwork import Clock
from house import House, Shop

from refund_service.jobs.lease import LEASE
from refund_service.jobs.queue import claim_jobs
from refund_service.refunds.advance import advance_refund


async def test_the_key_that_the_payment_was_made_under_may_be_the_refunds_too(till: Shop) -> None:  # INC-07
    charged_under = "order-1001"
    payment = await till.pay(gateway_payment_id="pi_of_order_1001")

    refund = await till.refund(payment, 1250, key=charged_under)

    (asked,) = till.sandbox.record(account=till.remote)["requests"]
    assert refund["status"] == "succeeded"
    # A gateway that keeps one list of keys for all that it does would refuse the charge's.
    assert asked["key"] != charged_under
    assert UUID(asked["key"]).version == 4


async def test_a_job_that_is_delivered_again_and_again_pays_once(  # INC-05
    own_house: House, own_shop: Shop
) -> None:
    clock = Clock(own_house)
    refund = (await own_shop.ask(await own_shop.pay(), 1250)).json()
    (job,) = [
        job for job in await claim_jobs(own_house.parts.db, at_most=9, per_lane=9) if job.name == "refund"
    ]

    await asyncio.gather(*(advance_refund(own_house.desk, job) for _ in range(5)))
    await advance_refund(own_house.desk, job)

    await own_house.start_worker()
    await clock.jump(seconds=LEASE.total_seconds() + 2)  # of a lease that no one may hold any more
    await clock.work()
    for _ in range(2):
        await clock.turn(seconds=70)
    assert (await own_shop.see(refund))["status"] == "succeeded"
    requests = own_shop.sandbox.record(account=own_shop.remote)["requests"]
    assert len([asked for asked in requests if asked["action"] == "refund"]) == 1
    assert len(own_shop.executions()) == 1
