"""Fixtures for everything that needs the service: real PostgreSQL, real sockets, the real worker.

One database, one API, one worker and one sandbox serve the whole run; tests keep apart by each
having a merchant of their own. A test that turns clocks or kills processes asks for ``own_house``
or for ``start_process``. When the run is over, every promise is verified over all that it wrote.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

pytest.register_assert_rewrite("house", "nursery", "sandbox_fixture")

from clockwork import Play, PlayedGateway
from house import House, Process, Shop, open_house, settings_for
from sandbox_fixture import Sandbox

from refund_service.db.embedded import EmbeddedServer, throwaway
from refund_service.db.migrations import migrate
from refund_service.reports.verify import verify_promises

pytest_plugins = ["sandbox_fixture", "nursery"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> None:
    """A line for each of many thousand requests tells no one anything here."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[
            structlog.processors.add_log_level,
            # Drawn with frames and locals, a traceback takes a third of a second: faults make many.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ],
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedServer]:
    with throwaway() as server:
        yield server


@pytest.fixture(scope="session")
async def migrated(postgres: EmbeddedServer) -> str:
    """The name of a database that is migrated and never used: the others are copies of it."""
    await migrate(postgres.create_database("migrated"))
    return "migrated"


@pytest.fixture(scope="session")
async def house(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[House]:
    """The service that most tests share: its worker sends, its clock is the real one."""
    async with open_house(settings_for(postgres.create_database("shared", migrated))) as opened:
        yield opened
        broken = [finding for finding in await verify_promises(opened.parts.db) if finding.rows]
        assert not broken, "\n".join(f"{one.promise}: {one.says}: {one.rows}" for one in broken)


@pytest.fixture
async def shop(house: House, sandbox: Sandbox) -> AsyncIterator[Shop]:
    """A merchant of this test's own, with an account at the sandbox and a key that may do everything."""
    async with house.new_shop(sandbox) as opened:
        yield opened


@pytest.fixture
async def new_shop(house: House, sandbox: Sandbox) -> AsyncIterator[Callable[..., object]]:
    """More merchants: ``await new_shop(looks_up=False)``."""
    async with AsyncExitStack() as stack:

        async def make(**settings: object) -> Shop:
            return await stack.enter_async_context(house.new_shop(sandbox, **settings))

        yield make


@pytest.fixture
async def own_house(postgres: EmbeddedServer, migrated: str) -> AsyncIterator[House]:
    """A service on a database of this test's own: its clock may be turned. No worker until it is started."""
    name = f"own_{os.urandom(6).hex()}"
    url = postgres.create_database(name, migrated)
    async with open_house(settings_for(url), work=False) as opened:
        yield opened
        broken = [finding for finding in await verify_promises(opened.parts.db) if finding.rows]
        assert not broken, "\n".join(f"{one.promise}: {one.says}: {one.rows}" for one in broken)
    postgres.drop_database(name)


@pytest.fixture
async def own_shop(own_house: House, start_sandbox: Callable[..., Sandbox]) -> AsyncIterator[Shop]:
    """A merchant in ``own_house``, with a sandbox of its own whose clock may be turned too."""
    async with own_house.new_shop(start_sandbox()) as opened:
        yield opened


@pytest.fixture
async def played() -> AsyncIterator[Callable[..., object]]:
    """Gateways played by a function: ``await played(lambda asked: …)``."""
    async with AsyncExitStack() as stack:

        async def start(play: Play) -> PlayedGateway:
            return await stack.enter_async_context(PlayedGateway(play).open())

        yield start


@pytest.fixture
def start_process() -> Iterator[Callable[..., Process]]:
    """Start ``refund-service …`` as a process that a test may kill; ended with the test."""
    started: list[Process] = []

    def start(*arguments: str, environment: dict[str, str]) -> Process:
        started.append(Process(arguments, environment))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the gateways' documents and the real orders; absent outside development."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("../shared is not there, and this is CI")
        pytest.skip("../shared is not there")
    return SHARED
