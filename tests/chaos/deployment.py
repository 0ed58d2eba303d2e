"""The service as it is deployed, every line of it through something that can fail.

clients ─ two APIs ────┐
                       ├─ a line ─ PostgreSQL
          two workers ─┤
                       └─ a line for each account ─ sandbox (never killed)
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_proxy import FaultProxy
from house import House, Process, settings_for
from sandbox_fixture import TOKEN, Sandbox
from sqlalchemy import text

from chaos.postgres import Postgres, own_postgres
from chaos.script import ACCOUNTS
from refund_service.app import build_desk, build_sender, put_together
from refund_service.clock import utc_now
from refund_service.db.migrations import migrate
from refund_service.errors import Unavailable
from refund_service.gateways.accounts import NewAccount, add_account
from refund_service.merchants.create import create_merchant
from refund_service.merchants.roles import Role

TIME_LIMIT = 2.0
"""Seconds for a call to the gateway: silence is to be noticed in a short run too."""

LONGEST_END = 25.0
"""Seconds after SIGTERM."""


@dataclass(eq=False)
class Member:
    """A process of the service that is started again whenever it has ended."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    wrong: Callable[[str], None]
    """Told when it does what no process should."""
    url: str = ""
    up: asyncio.Event = field(default_factory=asyncio.Event)
    log: list[bytes] = field(default_factory=list)
    _process: Process | None = None
    _told_to_end: float | None = None
    _killed: bool = False

    async def keep_up(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._told_to_end, self._killed = None, False
                self._process = Process(self.arguments, dict(self.environment))
                if (told := await self._until_started(self._process)) is None:
                    await asyncio.sleep(0.2)  # the database was away: whoever keeps it up tries again
                else:
                    self.url = told["api"] or ""
                    self.up.set()
                    await self._until_ended(self._process)
                    self.up.clear()
                self._let_go(self._process)
        finally:
            if self._process is not None:
                self._process.signal(signal.SIGCONT)
                self._process.kill()
                self._let_go(self._process)

    async def _until_started(self, process: Process) -> dict[str, Any] | None:
        while not process.ended():
            for line in self._listen(process):
                if b'"started"' in line:
                    told: dict[str, Any] = json.loads(line)
                    return told
            await asyncio.sleep(0.02)
        return None

    async def _until_ended(self, process: Process) -> None:
        while not process.ended():
            self._listen(process)
            if self._told_to_end is not None and time.monotonic() - self._told_to_end > LONGEST_END:
                self.wrong(f"{self.name} did not end within {LONGEST_END} s of SIGTERM")
                self.kill()
            await asyncio.sleep(0.02)
        code = process.wait()
        if not self._killed and (self._told_to_end is None or code != 0):
            self.wrong(f"{self.name} ended {'by itself' if self._told_to_end is None else ''} with {code}")

    def _listen(self, process: Process) -> list[bytes]:
        lines = process.read_so_far()
        self.log += lines
        return lines

    def _let_go(self, process: Process) -> None:
        process.end()
        self._listen(process)

    def kill(self) -> None:
        """As ``kill -9``."""
        self._killed = True
        self.up.clear()
        self._signal(signal.SIGKILL)

    def ask_to_end(self) -> None:
        """Taken off the balancer, then SIGTERM: what is in flight is answered."""
        self.up.clear()
        self._told_to_end = time.monotonic()
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)


@dataclass
class Deployment:
    """All that is running, and what may be done to it."""

    apis: list[Member]
    workers: list[Member]
    postgres: Postgres
    line: FaultProxy
    """Before PostgreSQL, for the service."""
    gateways: dict[str, FaultProxy]
    """Before the sandbox, by account."""
    sandbox: Sandbox
    house: House
    """A way in for the run itself, by a line that never fails."""
    key: str
    database: str
    _side_door: FaultProxy
    _ahead: float = 0.0

    @property
    def members(self) -> list[Member]:
        return [*self.apis, *self.workers]

    async def turn_clock(self, seconds: float) -> None:
        """Put the database's clock ahead, whatever is in flight; never back."""
        self._ahead += seconds
        await self.insist(lambda: self.house.turn_clock(seconds=self._ahead))

    async def insist(self, doing: Callable[[], Any]) -> Any:
        """What the run itself asks of the database, again where that is just away."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await doing()
                except Unavailable:
                    await asyncio.sleep(0.05)

    async def restart_postgres(self, away_for: float) -> None:
        """Stop it at once, and start it again after a while."""
        await self.postgres.stop_at_once()
        await asyncio.sleep(away_for)
        await self.postgres.start()
        self.line.lead_to(self.postgres.server.url)
        self._side_door.lead_to(self.postgres.server.url)


@asynccontextmanager
async def deployed(
    folder: Path,
    *,
    wrong: Callable[[str], None],
    source: Path | None = None,
    statements: tuple[str, ...] = (),
) -> AsyncIterator[Deployment]:
    """Everything started. ``source`` is imported in place of our own; ``statements`` change the schema."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(own_postgres())
        sandbox = await asyncio.to_thread(Sandbox, folder / "record.jsonl")
        stack.callback(sandbox.stop)
        database = postgres.server.url
        await migrate(database)
        line, side_door = [await stack.enter_async_context(FaultProxy.before(database)) for _ in range(2)]
        gateways = {
            name: await stack.enter_async_context(FaultProxy.before(sandbox.base_url)) for name in ACCOUNTS
        }

        house = await _own_house(stack, side_door.instead(database))
        for statement in statements:
            await house.parts.db.rows(text(statement))
        key = await _open_shop(house, sandbox, gateways)

        environment = {
            "REFUND_DATABASE_URL": line.instead(database),
            "REFUND_PORT": "0",
            "REFUND_OPS_PORT": "-1",
            "REFUND_RATE_LIMIT": "1000000",
            "REFUND_RATE_BURST": "1000000",
        } | ({"PYTHONPATH": str(source)} if source else {})
        apis = [Member(f"api {n}", ("serve", "--no-worker"), environment, wrong) for n in (1, 2)]
        workers = [Member(f"worker {n}", ("work",), environment, wrong) for n in (1, 2)]
        deployment = Deployment(
            apis, workers, postgres, line, gateways, sandbox, house, key, database, side_door
        )
        keeping = [asyncio.create_task(member.keep_up()) for member in deployment.members]
        try:
            for member in deployment.members:
                await asyncio.wait_for(member.up.wait(), 60)
            yield deployment
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)


async def _own_house(stack: AsyncExitStack, url: str) -> House:
    parts, sender = put_together(settings_for(url), name="prove"), build_sender()
    stack.push_async_callback(parts.db.close)
    stack.push_async_callback(sender.close)
    return House(parts, "", build_desk(parts, sender))


async def _open_shop(house: House, sandbox: Sandbox, gateways: Mapping[str, FaultProxy]) -> str:
    """A merchant with an account of each personality; its API key."""
    parts, now = house.parts, utc_now()
    merchant_id = await create_merchant(parts.db, "A shop in bad weather", livemode=False, now=now)
    for name, settings in ACCOUNTS.items():
        account = NewAccount(
            name=name,
            gateway="sandbox",
            remote_account=sandbox.new_account(),
            base_url=gateways[name].instead(sandbox.base_url),
            credentials={"token": TOKEN},
            settings={"time_limit_seconds": TIME_LIMIT} | settings,
        )
        await add_account(parts.db, parts.keyring, merchant_id, account, now=now)
    return await parts.cabinet.create(merchant_id, livemode=False, subject="prove", role=Role.ADMIN, now=now)
