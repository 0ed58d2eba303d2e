"""A year of a real shop, through the public API of real processes, with a worker that is killed in the middle."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from house import Process, Shop, open_house, settings_for
from sandbox_fixture import Sandbox

from refund_service.db.embedded import EmbeddedServer
from refund_service.reports.verify import verify_promises

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "online-retail-sample.csv"


@dataclass
class Live:
    """The service as processes of its own: one that answers, one that works and may be killed."""

    api: str
    shop: Shop
    environment: dict[str, str]
    start_process: Callable[..., Process]
    worker: Process

    def start_worker(self) -> None:
        self.worker = self.start_process("work", environment=self.environment)
        self.worker.until_event("started")


@pytest.fixture
async def live(
    postgres: EmbeddedServer,
    migrated: str,
    start_sandbox: Callable[..., Sandbox],
    start_process: Callable[..., Process],
) -> AsyncIterator[Live]:
    url = postgres.create_database("replay", migrated)
    environment = {
        "REFUND_DATABASE_URL": url,
        "REFUND_PORT": "0",
        "REFUND_OPS_PORT": "-1",
        "REFUND_RATE_LIMIT": "1e6",
        "REFUND_RATE_BURST": "1000000",
    }
    api = start_process("serve", "--no-worker", environment=environment)
    worker = start_process("work", environment=environment)
    started = api.until_event("started")
    worker.until_event("started")
    async with open_house(settings_for(url), work=False) as house, house.new_shop(start_sandbox()) as shop:
        yield Live(started["api"], shop, environment, start_process, worker)
        broken = [finding for finding in await verify_promises(house.parts.db) if finding.rows]
        assert not broken, broken
    api.end()
    postgres.drop_database("replay")


async def replay(live: Live, file: Path) -> tuple[int | None, str]:
    """Run the script as a shop would; what it said and how it ended."""
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "replay_online_retail.py"), str(file)),
        *("--api", live.api, "--key", live.shop.key, "--sandbox", live.shop.sandbox.base_url),
        stdout=PIPE,
        stderr=PIPE,
    )
    said, complaints = await script.communicate()
    return script.returncode, (said + complaints).decode()


def figures(said: str, name: str) -> list[str]:
    """What stands behind a name in the table of what came of it."""
    result = said.partition("what came of it")[2]
    return next(line[42:].split() for line in result.splitlines() if line[:42].strip() == name)


async def test_the_sample_agrees_to_the_penny_three_times_and_is_refunded_once(live: Live) -> None:
    runs = [await replay(live, SAMPLE) for _ in range(3)]

    for code, said in runs:
        assert code == 0, said
        assert "The books agree to the penny" in said
        assert figures(said, "refunded, by the sandbox's record") == ["6", "124.18"]
        assert figures(said, "amount-exceeds-available") == ["1", "127.50"]
    assert figures(runs[2][1], "refunds known from an earlier run") == ["6"]


async def test_a_year_of_real_cancellations_agrees_though_the_worker_is_killed_in_the_middle(
    live: Live, shared: Path
) -> None:
    france = shared / "data" / "online-retail-france.csv"
    running = asyncio.create_task(replay(live, france))
    while await live.shop.count("refunds") < 20:
        assert not running.done(), running.result()[1]
        await asyncio.sleep(0.05)
    live.worker.kill()
    live.start_worker()
    # Past the leases of the dead, and past the time over which a sending must be missed.
    minutes = 0
    while not running.done():
        minutes += 1
        await live.shop.house.turn_clock(minutes=minutes)
        await asyncio.wait([running], timeout=1)
    code, said = running.result()

    assert code == 0, said
    assert figures(said, "orders, captured") == ["392", "209,715.11"]
    assert figures(said, "refunded, by the service's refunds") == ["68", "7,984.76"]
    assert figures(said, "refunded, by the sandbox's record") == ["68", "7,984.76"]
    assert figures(said, "refused") == ["0", "0.00"]
    assert figures(said, "unmatched lines, not asked") == ["12", "4,326.45"]
