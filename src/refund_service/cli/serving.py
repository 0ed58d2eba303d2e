"""Running the API, the worker and the operator's listener in one process, until asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from refund_service.api.patience import PatientServer
from refund_service.api.problems import Problems
from refund_service.app import (
    Application,
    Parts,
    build_desk,
    build_sender,
    build_worker,
    create_app,
    create_ops_app,
    put_together,
)
from refund_service.db.schema_state import schema_state
from refund_service.events.feed import begin_epoch
from refund_service.settings import Settings
from refund_service.tasks import promise_recurring

log = structlog.get_logger()

GRACE = 15
"""Seconds that requests in flight are given."""

SEND_BUFFER = 128 * 1024
"""Bytes. What a client does not take lies with us, where it is timed: left to itself, the kernel
takes megabytes for each connection."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where it listens; ``None`` where it does not."""

    parts: Parts
    api: str | None
    ops: str | None
    stop: Callable[[], None]


@asynccontextmanager
async def running(
    settings: Settings, *, api: bool, work: bool, upgrade: bool
) -> AsyncIterator[tuple[Running, asyncio.Event]]:
    """Everything started; the event is set when the process is asked to end."""
    if upgrade and settings.database_url is not None:
        from refund_service.db.migrations import migrate  # noqa: PLC0415 - Alembic is large: 10 MB for a process's life

        await migrate(settings.database_url.get_secret_value())
    parts = put_together(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(parts.db.close)
        sender = build_sender()
        opened.push_async_callback(sender.close)
        desk = build_desk(parts, sender)
        worker = build_worker(parts, desk) if work else None
        servers: list[tuple[PatientServer, socket.socket]] = []
        api_url = ops_url = None
        if api:
            listener, api_url = listen(settings.host, settings.port)
            opened.callback(listener.close)
            servers.append((_server(parts, create_app(parts, worker=worker)), listener))
        if settings.ops_port >= 0:
            listener, ops_url = listen(settings.ops_host, settings.ops_port)
            opened.callback(listener.close)
            servers.append((_server(parts, create_ops_app(parts, desk)), listener))
        if wrong := await parts.db.missing_limits():
            raise ValueError(
                f"PostgreSQL does not hold what this service relies on: {', '.join(wrong)}. "
                "Set them on its role: ALTER ROLE … SET lock_timeout = '1500ms', and so on."
            )
        (await schema_state(parts.db)).insist()
        await begin_epoch(parts.db)
        await promise_recurring(desk)
        tasks = [asyncio.create_task(server.serve([listener])) for server, listener in servers]
        if worker is not None:
            tasks.append(asyncio.create_task(worker.run(), name="worker"))
        try:
            await _started(servers, tasks)
            log.info("started", api=api_url, ops=ops_url, worker=worker is not None)
            ends = _ends_with(tasks, stopping)
            yield Running(parts, api_url, ops_url, stopping.set), stopping
        finally:
            stopping.set()
            # The worker first takes nothing new; requests in flight are answered meanwhile.
            if worker is not None:
                worker.stop()
            for server, _ in servers:
                server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)
            log.info("stopped")
    if ends:
        raise PartEnded("a part of the process ended by itself") from ends[0]


class PartEnded(Exception):
    """The worker or a listener ended though no one had asked: the process is of no use without it."""


def _ends_with(tasks: list[asyncio.Task[None]], stopping: asyncio.Event) -> list[BaseException | None]:
    """Ask the process to end when one of its parts does, and tell what that part ended with."""
    ends: list[BaseException | None] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not stopping.is_set():
            ends.append(None if task.cancelled() else task.exception())
            log.error("part.ended", part=task.get_name(), exc_info=ends[-1])
            stopping.set()

    for task in tasks:
        task.add_done_callback(ended)
    return ends


async def serve_until_asked(settings: Settings, *, api: bool, work: bool, upgrade: bool) -> None:
    """Run until SIGTERM or SIGINT."""
    async with running(settings, api=api, work=work, upgrade=upgrade) as (_, stopping):
        await stopping.wait()


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket that listens, and the address that it has got."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without it each answer waits 40 ms for its body.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    shown = f"[{host}]" if family is socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def _server(parts: Parts, app: Application) -> PatientServer:
    return PatientServer(
        app,
        Problems(parts.settings.public_url),
        dismiss=parts.waiters.dismiss,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        backlog=1024,
    )


async def _started(
    servers: list[tuple[PatientServer, socket.socket]], tasks: list[asyncio.Task[None]]
) -> None:
    while not all(server.started for server, _ in servers):
        if done := [task for task in tasks if task.done()]:
            raise PartEnded("a part of the process ended before it began") from done[0].exception()
        await asyncio.sleep(0.005)


def run(main: Callable[[], object]) -> None:
    """Run a coroutine function on uvloop where it is there."""
    try:
        import uvloop  # noqa: PLC0415 - absent on some platforms
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(main())  # type: ignore[arg-type] # a coroutine
