"""The service as tests use it: opened in this process on a real socket, or started as a process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import uvicorn
from sandbox_fixture import TOKEN, Sandbox
from sqlalchemy import text

from refund_service.api.patience import PatientServer
from refund_service.api.problems import Problems
from refund_service.app import Parts, build_desk, build_sender, build_worker, create_app, put_together
from refund_service.clock import utc_now
from refund_service.gateways.accounts import NewAccount, add_account
from refund_service.gateways.switches import resume_sends, stop_sends
from refund_service.jobs.worker import Worker
from refund_service.merchants.create import create_merchant
from refund_service.merchants.roles import Role
from refund_service.refunds.advance import Desk
from refund_service.settings import Settings, read_settings
from refund_service.tasks import promise_recurring

SECRETS = {
    "REFUND_KEY_PEPPERS": "test:pepper-of-the-tests-that-is-long-enough",
    "REFUND_SEALING_KEYS": f"test:{base64.b64encode(b'k' * 32).decode()}",
    "REFUND_CURSOR_SECRET": "cursor-secret-of-the-tests-long-enough",
}


def settings_for(url: str, **given: Any) -> Settings:
    """Settings as the tests use them: nothing of the machine's environment, no rate limit to speak of."""
    secrets = {name.removeprefix("REFUND_").lower(): value for name, value in SECRETS.items()}
    return read_settings(database_url=url, rate_limit=1e6, rate_burst=10**6, **secrets, **given)


@dataclass
class House:
    """The API in this process, and its worker."""

    parts: Parts
    url: str
    desk: Desk
    worker: Worker | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start_worker(self) -> Worker:
        """Begin to work; a house may get several workers."""
        await promise_recurring(self.desk)
        worker = build_worker(self.parts, self.desk)
        self._tasks.append(asyncio.create_task(worker.run()))
        self.worker = worker
        return worker

    async def stop_workers(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def turn_clock(self, **ahead: float) -> None:
        """Put the database's clock ahead: leases and sweeps go by it. For a house of one's own only."""
        seconds = sum(
            value * {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}[unit]
            for unit, value in ahead.items()
        )
        async with self.parts.db.transaction() as tx:
            await tx.execute(
                text(
                    "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE "
                    f"RETURN statement_timestamp() + interval '{seconds} seconds'"
                )
            )

    @asynccontextmanager
    async def new_shop(
        self, sandbox: Sandbox, *, livemode: bool = False, role: Role = Role.ADMIN, **settings: Any
    ) -> AsyncIterator[Shop]:
        """A merchant with one account at ``sandbox``; ``settings`` are the account's."""
        db, now = self.parts.db, utc_now()
        merchant_id = await create_merchant(db, "A shop of the tests", livemode=livemode, now=now)
        remote = sandbox.new_account()
        account_id = await add_account(
            db,
            self.parts.keyring,
            merchant_id,
            NewAccount("sandbox", "sandbox", remote, sandbox.base_url, {"token": TOKEN}, settings),
            now=now,
        )
        key = await self.parts.cabinet.create(
            merchant_id, livemode=livemode, subject="tester", role=role, now=now
        )
        async with client_of(self.url, key) as client:
            yield Shop(self, client, sandbox, merchant_id, account_id, remote, key)


@dataclass
class Shop:
    """A merchant's backend: what it does over HTTP, and what its tests look at besides."""

    house: House
    client: httpx.AsyncClient
    sandbox: Sandbox
    merchant_id: UUID
    account_id: UUID
    remote: str
    key: str

    async def pay(self, amount: int = 10_000, currency: str = "EUR", **more: Any) -> dict[str, Any]:
        """Register a capture of ``amount`` minor units."""
        body = {"gateway_payment_id": f"pi_{uuid4().hex}", "captured": amount, "currency": currency} | more
        reply = await self.client.post("/v1/payments", json=body)
        assert reply.status_code == 201, reply.text
        told: dict[str, Any] = reply.json()
        return told

    async def ask(
        self,
        payment: dict[str, Any] | None = None,
        amount: int | None = None,
        *,
        key: str | None = None,
        wait: int = 0,
        client: httpx.AsyncClient | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Ask for a refund; the answer as it came. A new key where none is given."""
        body = dict(more)
        if payment is not None:
            body["payment_id"] = payment["id"]
        if amount is not None:
            body["amount"] = amount
        headers = {"Idempotency-Key": key or uuid4().hex}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        return await (client or self.client).post("/v1/refunds", json=body, headers=headers)

    async def refund(self, payment: dict[str, Any], amount: int | None = None, **more: Any) -> dict[str, Any]:
        """Ask for a refund that is accepted, and wait for what comes of it."""
        reply = await self.ask(payment, amount, **({"wait": 10} | more))
        assert reply.status_code == 201, reply.text
        told: dict[str, Any] = reply.json()
        return told

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        reply = await self.client.get(path, params=query)
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        return told

    async def see(self, refund: dict[str, Any]) -> dict[str, Any]:
        """The refund as it now is."""
        return await self.get(f"/v1/refunds/{refund['id']}")

    async def until(self, refund: dict[str, Any], *statuses: str, within: float = 20) -> dict[str, Any]:
        """Look at the refund until it stands at one of ``statuses``."""
        deadline = asyncio.get_running_loop().time() + within
        while (seen := await self.see(refund))["status"] not in statuses:
            assert asyncio.get_running_loop().time() < deadline, f"still {seen['status']}: {seen}"
            await asyncio.sleep(0.02)
        return seen

    async def payment(self, payment: dict[str, Any]) -> dict[str, Any]:
        """The payment as it now is."""
        return await self.get(f"/v1/payments/{payment['id']}")

    def executions(self, **filters: str) -> list[dict[str, Any]]:
        """What the sandbox really paid out for this merchant."""
        return self.sandbox.executions(account=self.remote, **filters)

    async def stop_sends(self) -> None:
        """Hold this merchant's refunds at ``queued``."""
        await stop_sends(self.house.parts.db, self.merchant_id, "a test", stopped_by="tester")

    async def resume_sends(self) -> None:
        await resume_sends(self.house.parts.db, self.merchant_id)

    async def count(self, table: str) -> int:
        """The merchant's rows in a table."""
        statement = text(f"SELECT count(*) FROM {table} WHERE merchant_id = :in_merchant_id")
        number: int = await self.house.parts.db.value(statement, merchant_id=self.merchant_id)
        return number

    async def new_key(self, role: Role, subject: str = "someone") -> str:
        """Another key of this merchant."""
        return await self.house.parts.cabinet.create(
            self.merchant_id, livemode=False, subject=subject, role=role, now=utc_now()
        )

    @asynccontextmanager
    async def at(self, url: str, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client of another API process, or with another key."""
        async with client_of(url, key or self.key) as client:
            yield client


def client_of(url: str, key: str) -> httpx.AsyncClient:
    """A client of the API at ``url`` with an API key."""
    # All is loopback without TLS: loading the authorities' certificates would cost each test 20 ms.
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30, verify=False)  # noqa: S501 - there is no TLS on loopback


@asynccontextmanager
async def open_house(settings: Settings, *, work: bool = True) -> AsyncIterator[House]:
    """The API on a free port of this process, and a worker where wanted."""
    parts = put_together(settings, name="tests")
    sender = build_sender()
    desk = build_desk(parts, sender)
    worker = build_worker(parts, desk) if work else None
    with listening(parts, worker) as (server, listener, url):
        house = House(parts, url, desk, worker)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            await promise_recurring(desk)
            if worker is not None:
                house._tasks.append(asyncio.create_task(worker.run()))
            yield house
        finally:
            await house.stop_workers()
            server.should_exit = True
            await serving
            await sender.close()
            await parts.db.close()


@contextmanager
def listening(parts: Parts, worker: Worker | None) -> Iterator[tuple[uvicorn.Server, socket.socket, str]]:
    # With the protocol named, asyncio sets TCP_NODELAY; without it each answer waits 40 ms for its body.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        listener.setblocking(False)
        server = PatientServer(create_app(parts, worker=worker), Problems(parts.settings.public_url))
        yield server, listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


class Process:
    """``refund-service …`` as a process. What it says is read all the time: a full pipe would stop it."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "refund_service", *arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            env=os.environ | SECRETS | environment,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until_event(self, event: str, within: float = 60) -> dict[str, Any]:
        """The first log line with this event."""
        while (line := self._lines.get(timeout=within)) is not None:
            with contextlib.suppress(ValueError):
                told: dict[str, Any] = json.loads(line)
                if told.get("event") == event:
                    return told
        raise AssertionError(f"ended before {event}")

    def read_line(self, within: float = 60) -> dict[str, Any]:
        """The next line of its output as JSON."""
        told: dict[str, Any] = json.loads(self._lines.get(timeout=within) or b"null")
        return told

    def read_to_the_end(self, within: float = 60) -> list[bytes]:
        """Every line of its output until it ends."""
        lines = []
        while (line := self._lines.get(timeout=within)) is not None:
            lines.append(line)
        return lines

    def read_so_far(self) -> list[bytes]:
        """The lines of its output that are there and not read yet."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                lines.append(line)
        return lines

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def kill(self) -> None:
        """As ``kill -9``."""
        self._process.kill()
        self._process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether it is no more."""
        return self._process.poll() is not None

    def wait(self, seconds: float = 25) -> int:
        return self._process.wait(seconds)

    def end(self) -> None:
        """End it, whatever it is doing."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(25)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdout, self._process.stdin):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
