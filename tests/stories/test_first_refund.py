"""The first refund, and the lost answer that is looked up: whole lives through HTTP, worker and sandbox."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
from house import House, Process, Shop


async def test_a_refund_reaches_the_money(shop: Shop) -> None:
    payment = await shop.pay(5990)

    refund = await shop.refund(payment, 1250)

    assert refund["status"] == "succeeded"
    assert refund["payment"]["refunded"] == 1250
    assert refund["payment"]["held"] == 0
    assert [paid["amount"] for paid in shop.executions()] == [1250]


async def test_a_lost_answer_is_looked_up_and_found(
    own_house: House, own_shop: Shop
) -> None:  # UNK-01, IDM-14
    await own_house.start_worker()
    payment = await own_shop.pay(5990)

    refund = await own_shop.refund(payment, 1250, metadata={"sandbox": "lose_answer"})
    assert refund["status"] == "unknown"
    assert refund["payment"]["held"] == 1250

    await own_house.turn_clock(seconds=20)
    seen = await own_shop.until(refund, "succeeded")
    assert seen["payment"]["held"] == 0
    assert len(own_shop.executions()) == 1


def test_serve_brings_its_own_database_to_the_schema(start_process: Callable[..., Process]) -> None:
    # Not below pytest's folder: that is closed to the user that root lends the database.
    folder = Path("/tmp") / f"refunds-serve-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o755)
    try:
        process = start_process(
            "serve",
            "--data-dir",
            str(folder),
            environment={"REFUND_PORT": "0", "REFUND_OPS_PORT": "0"},
        )
        told = process.until_event("started")
        ready = httpx.get(f"{told['ops']}/health/ready", trust_env=False)
        assert (ready.status_code, ready.json()["status"]) == (200, "pass")
        process.end()
    finally:
        shutil.rmtree(folder)
