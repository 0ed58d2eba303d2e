"""One run from its beginning to its end: load, bad weather, quiet, and the comparison."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from chaos.afterwards import compare
from chaos.checker import Checker
from chaos.clients import Client, Feed, http_client
from chaos.deployment import Deployment, deployed
from chaos.history import History
from chaos.mutants import Mutant, mutated
from chaos.quiet import become_quiet
from chaos.report import Report
from chaos.script import CLIENTS, Script
from chaos.trouble import BadWeather
from chaos.truth import Truth
from refund_service import ids
from refund_service.reports.verify import verify_promises

EVERY = 0.3
"""Seconds between two looks at what the gateway has executed."""

VERIFY_EVERY = 20.0
TILL_ALL_ARE_UP = 60.0
TO_FINISH = 60.0
"""Seconds that clients are given for what they have begun."""


@dataclass
class Run:
    """What one run is made of."""

    seed: int
    folder: Path
    deployment: Deployment
    checker: Checker
    truth: Truth
    history: History
    http: httpx.AsyncClient

    async def look(self) -> None:
        """Compare what the gateway has executed since the last look, for ever."""
        while True:
            self.take_in()
            await self.settle()
            await asyncio.sleep(EVERY)

    def take_in(self) -> None:
        for execution in self.truth.read_on():
            self.checker.executed(execution)

    async def settle(self) -> None:
        """The gateway brings to an end what was pending there: even amounts succeed, odd ones fail."""
        self.take_in()
        for execution in list(self.truth.waiting.values()):
            if time.time() - execution.at > 1:
                status = "failed" if execution.amount % 2 else "succeeded"
                await asyncio.to_thread(self.deployment.sandbox.settle, execution.refund, status)

    async def all_up(self) -> None:
        """Every process serves; from now on none is killed."""
        for member in self.deployment.members:
            await asyncio.wait_for(member.up.wait(), TILL_ALL_ARE_UP)
        self.http.base_url = self.deployment.apis[0].url

    async def refresh(self, refund_id: Any) -> None:
        await self.http.post(f"/v1/refunds/{ids.show('refund', refund_id)}/refresh")

    async def verify(self) -> None:
        """The promises hold in the middle of everything too: looked at from time to time, for ever."""
        db = self.deployment.house.parts.db
        while True:
            await asyncio.sleep(VERIFY_EVERY)
            self.checker.promises(await self.deployment.insist(partial(verify_promises, db)))


async def prove(
    seed: int, seconds: float, folder: Path, *, mutant: Mutant | None = None, at_first: bool = False
) -> Report:
    """Run for so long, and for a whole cycle of faults at least; ``at_first`` ends with the first violation."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    truth = Truth(folder / "record.jsonl")
    checker = Checker(truth)
    calm, cleared = None, 0
    async with _opened(seed, folder, checker, truth, mutant) as (run, clients, feed):
        weather = BadWeather(run.deployment, seed)
        opened = time.monotonic()
        await _storm(run, clients, weather, seconds, at_first=at_first)
        stormed = time.monotonic()
        if not (at_first and checker.violations):
            await run.all_up()
            calm = await become_quiet(run.deployment, run.settle, run.refresh)
            run.take_in()
            cleared = await compare(run.deployment, run.http, checker, feed)
        report = Report(
            seed=seed,
            seconds=round(stormed - opened, 1),
            to_open=round(opened - began, 1),
            operations=run.history.counts,
            intents=len(checker.ids),
            faults=weather.hits,
            cycles=weather.cycles,
            cleared=cleared,
            calm=calm,
            sends=truth.sends,
            look_ups=truth.look_ups,
            violations=checker.violations,
            asked_for=seconds,
        )
        (folder / "postgres.log").write_bytes(run.deployment.postgres.log.read_bytes())
    for member in run.deployment.members:
        (folder / f"{member.name.replace(' ', '-')}.log").write_bytes(b"".join(member.log))
    (folder / "report.json").write_text(json.dumps(report.as_data(), indent=2))
    return report


async def _storm(
    run: Run, clients: list[Client], weather: BadWeather, seconds: float, *, at_first: bool
) -> None:
    enough = run.checker.found if at_first else asyncio.Event()
    asking = [
        asyncio.create_task(client.follow(Script(run.seed, number))) for number, client in enumerate(clients)
    ]
    watching = [asyncio.create_task(run.look()), asyncio.create_task(run.verify())]
    blowing = asyncio.create_task(weather.blow(seconds, enough))
    try:
        await asyncio.wait({*asking, *watching, blowing}, return_when=asyncio.FIRST_COMPLETED)
        enough.set()
        await blowing
        for client in clients:
            client.enough()
        await asyncio.wait_for(asyncio.gather(*asking), TO_FINISH)
    finally:
        for task in [*asking, *watching]:
            task.cancel()
    ended = await asyncio.gather(*watching, return_exceptions=True)
    for one in ended:
        if isinstance(one, Exception):
            raise one


@asynccontextmanager
async def _opened(
    seed: int, folder: Path, checker: Checker, truth: Truth, mutant: Mutant | None
) -> AsyncIterator[tuple[Run, list[Client], Feed]]:
    async with AsyncExitStack() as stack:
        history = History(folder / "history.jsonl")
        stack.callback(history.close)
        source = mutated(mutant, folder / "src") if mutant else None
        statements = mutant.statements if mutant else ()
        deployment = await stack.enter_async_context(
            deployed(folder, wrong=checker.wrong, source=source, statements=statements)
        )
        http = await stack.enter_async_context(http_client(deployment.key))
        feed = Feed()
        clients = [
            Client(number, deployment.apis, deployment.key, history=history, checker=checker, feed=feed)
            for number in range(CLIENTS)
        ]
        for client in clients:
            stack.push_async_callback(client.close)
        yield Run(seed, folder, deployment, checker, truth, history, http), clients, feed
