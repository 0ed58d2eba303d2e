"""Verbs are tried on a real database, in a house without a worker: the tests take each step themselves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from clockwork import Clock
from house import House, Shop, open_house, settings_for
from sandbox_fixture import Sandbox

from refund_service.db.embedded import EmbeddedServer
from refund_service.jobs.lease import Job
from refund_service.jobs.queue import claim_jobs
from refund_service.refunds.advance import advance_refund
from refund_service.reports.verify import verify_promises


@pytest.fixture(scope="package")
async def quiet_house(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[House]:
    """A house in which nothing happens by itself."""
    name = f"verbs_{os.urandom(6).hex()}"
    async with open_house(settings_for(postgres.create_database(name, migrated)), work=False) as opened:
        yield opened
        broken = [finding for finding in await verify_promises(opened.parts.db) if finding.rows]
        assert not broken, "\n".join(f"{one.promise}: {one.says}: {one.rows}" for one in broken)
    postgres.drop_database(name)


@pytest.fixture(scope="package")
def clock(quiet_house: House) -> Clock:
    """Its clock, which only goes ahead."""
    return Clock(quiet_house)


@pytest.fixture
async def quiet_shop(quiet_house: House, sandbox: Sandbox) -> AsyncIterator[Shop]:
    """A merchant in it."""
    async with quiet_house.new_shop(sandbox) as opened:
        yield opened


@pytest.fixture
def take(quiet_house: House) -> Any:
    """Take the jobs that are due, of one merchant: ``await take(shop)``."""

    async def jobs_of(shop: Shop, at_most: int = 100) -> list[Job]:
        jobs = await claim_jobs(quiet_house.parts.db, at_most=at_most, per_lane=at_most)
        return [job for job in jobs if job.merchant_id == shop.merchant_id]

    return jobs_of


@pytest.fixture
def step(quiet_house: House, take: Any) -> Any:
    """Take the one job of a merchant that is due, and do it: ``await step(shop)``."""

    async def one_step(shop: Shop) -> None:
        (job,) = await take(shop)
        await advance_refund(quiet_house.desk, job)

    return one_step
