"""What goes wrong: every kind of fault in turn, in an order and with numbers that the seed decides.

In turn and not by chance alone: a bug that needs one certain fault would be missed in many runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Final

from fault_proxy import Fault, FaultProxy
from sqlalchemy import text

from chaos.deployment import Deployment
from refund_service.jobs.lease import LEASE

OVER: Final = LEASE.total_seconds() + 2
"""Seconds after which a lease has ended, whoever held it."""

SLOW_LINE: Final = 0.2
"""Seconds for an answer."""

UNTIL_FELT: Final = 10.0
"""Seconds that a fault waits longer for someone to meet it."""

TERMINATE: Final = text(
    """
    SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'refund-service'
        ORDER BY random() LIMIT 4
    ) chosen
    """
)

Trouble = Callable[[Deployment, Random], Awaitable[int]]
"""Returns how often it has really hit something."""


async def kill_api(deployment: Deployment, chance: Random) -> int:
    member = chance.choice(deployment.apis)
    await member.up.wait()
    member.kill()
    return 1


async def kill_worker(deployment: Deployment, chance: Random) -> int:
    """What it held is taken over when its leases end."""
    member = chance.choice(deployment.workers)
    await member.up.wait()
    member.kill()
    await asyncio.sleep(chance.uniform(0.1, 0.5))
    await deployment.turn_clock(OVER)
    return 1


async def freeze_worker(deployment: Deployment, chance: Random) -> int:
    """Stopped for longer than its leases last, with as many jobs in hand as can be, then woken amid them."""
    one, other = chance.sample(deployment.workers, 2)
    for member in (one, other):
        await member.up.wait()
        member.freeze()
    try:
        await asyncio.sleep(chance.uniform(1.0, 1.5))  # work piles up
        # On a slow line, so that what they take is caught between being read and being sent.
        with deployment.line.failing(Fault.LATENCY, seconds=SLOW_LINE):
            other.thaw()
            one.thaw()
            await asyncio.sleep(SLOW_LINE * chance.uniform(1.2, 2.8))
            one.freeze()
            await deployment.turn_clock(OVER)
            await asyncio.sleep(SLOW_LINE * 8)  # the other one takes it over
            one.thaw()
            await asyncio.sleep(SLOW_LINE * 3)
    finally:
        one.thaw()
        other.thaw()
    return 1


async def end_in_turn(deployment: Deployment, chance: Random) -> int:
    """As in a rollout: one of each is asked to end, the other goes on."""
    pair = [chance.choice(deployment.apis), chance.choice(deployment.workers)]
    for member in pair:
        await member.up.wait()
        member.ask_to_end()
        await asyncio.sleep(0.2)
    return len(pair)


async def restart_postgres(deployment: Deployment, chance: Random) -> int:
    await deployment.restart_postgres(away_for=chance.uniform(0.0, 1.0))
    return 1


async def terminate_backends(deployment: Deployment, chance: Random) -> int:
    hit = 0
    for _ in range(3):
        hit += await deployment.insist(partial(deployment.house.parts.db.value, TERMINATE))
        await asyncio.sleep(chance.uniform(0.05, 0.3))
    return hit


async def jump_clock(deployment: Deployment, chance: Random) -> int:
    await deployment.turn_clock(chance.choice([17, OVER, 70, 320]))
    return 1


def database_line(fault: Fault, shortest: float, longest: float, **how: float) -> Trouble:
    """A line to PostgreSQL that fails for a while."""

    async def fail(deployment: Deployment, chance: Random) -> int:
        return await fail_for(chance.uniform(shortest, longest), [deployment.line], fault, **how)

    return fail


def gateway_lines(fault: Fault, shortest: float, longest: float, **how: float) -> Trouble:
    """Lines to the gateway that fail for a while: of some accounts, while the others go on."""

    async def fail(deployment: Deployment, chance: Random) -> int:
        lines = chance.sample(list(deployment.gateways.values()), chance.choice([2, 3, 4]))
        return await fail_for(chance.uniform(shortest, longest), lines, fault, **how)

    return fail


async def fail_for(
    seconds: float,
    lines: list[FaultProxy],
    fault: Fault,
    *,
    drip: float | None = None,
    length: int | None = None,
) -> int:
    """Let the lines fail for so long; how many connections felt it."""
    before = sum(line.met[fault] for line in lines)
    for line in lines:
        line.turn(fault, seconds=drip, length=length)
        if fault is Fault.REFUSE:
            line.abort_all()  # those that are open would go on as if nothing were

    def felt() -> int:
        return sum(line.met[fault] for line in lines) - before

    try:
        await asyncio.sleep(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNTIL_FELT):
                while not felt():
                    await asyncio.sleep(0.05)
    finally:
        for line in lines:
            line.turn(Fault.NONE)
    return felt()


FAULTS: Final[dict[str, Trouble]] = {
    "kill an API": kill_api,
    "kill a worker": kill_worker,
    "freeze a worker over its lease": freeze_worker,
    "end processes in turn": end_in_turn,
    "stop PostgreSQL at once": restart_postgres,
    "terminate backends": terminate_backends,
    "jump the clock": jump_clock,
    "database: latency": database_line(Fault.LATENCY, 0.8, 1.5, drip=0.1),
    "database: reset": database_line(Fault.RESET, 0.3, 0.8),
    "database: blackhole": database_line(Fault.BLACKHOLE, 0.5, 1.5),
    "database: answers dropped": database_line(Fault.DROP_ANSWER, 0.3, 0.8),
    "gateway: refused": gateway_lines(Fault.REFUSE, 0.5, 1.0),
    "gateway: reset": gateway_lines(Fault.RESET, 0.5, 1.0),
    "gateway: blackhole": gateway_lines(Fault.BLACKHOLE, 1.0, 2.5),
    "gateway: slow": gateway_lines(Fault.SLOW, 0.5, 1.5, drip=0.1),
    "gateway: latency": gateway_lines(Fault.LATENCY, 0.5, 1.5, drip=0.5),
    "gateway: answers dropped": gateway_lines(Fault.DROP_ANSWER, 0.5, 1.0),
    "gateway: answers cut": gateway_lines(Fault.CUT_ANSWER, 0.5, 1.0, length=60),
}


class BadWeather:
    """One fault after the other; ``hits`` counts those that really hit something."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self._deployment = deployment
        self._chance = Random(f"{seed}/faults")
        self.hits: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.cycles = 0

    async def blow(self, seconds: float, enough: asyncio.Event) -> None:
        """For so long, and until each kind has had its turn; or until it is enough."""
        until = time.monotonic() + seconds
        while not enough.is_set():
            for name in self._chance.sample(list(FAULTS), len(FAULTS)):
                # Each fault draws from a source of its own: how the last one went changes no later number.
                numbers, pause = Random(self._chance.random()), self._chance.uniform(0.2, 0.8)
                self.hits[name] += await FAULTS[name](self._deployment, numbers)
                await asyncio.sleep(pause)
                if enough.is_set() or (self.cycles and time.monotonic() > until):
                    return
            self.cycles += 1
            if time.monotonic() > until:
                return
