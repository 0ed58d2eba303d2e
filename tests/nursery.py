"""Processes of the service that are born at once: forked from one that has imported it already.

A pytest plugin. Tests that kill and restart by the dozen would spend two seconds of CPU on each
``Process``; one that is born here costs some milliseconds, and is the same service otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from house import SECRETS, House

CRADLE = Path(__file__).with_name("cradle.py")


class Child:
    """A process that was born."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self._out = folder / f"{pid}.out"
        self._ended = folder / f"{pid}.ended"

    async def until_event(self, event: str, within: float = 30) -> dict[str, Any]:
        """The first line of its log with this event."""
        async with asyncio.timeout(within):
            while True:
                # Looked at before its words are read: what was said last is said by then.
                ended = self._ended.exists()
                for line in self.said():
                    if line.get("event") == event:
                        return line
                assert not ended, f"ended before {event}: {self._out.read_text()}"
                await asyncio.sleep(0.01)

    def said(self) -> list[dict[str, Any]]:
        """Its log so far."""
        lines = self._out.read_text().split("\n")[:-1] if self._out.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def url(self) -> str:
        """Where it serves, once it does; empty where it only works."""
        return str((await self.until_event("started")).get("api") or "")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """As ``kill -9``."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def wait(self, within: float = 30) -> int:
        """How it ended: its code, or the signal below zero."""
        async with asyncio.timeout(within):
            while not self._ended.exists():
                await asyncio.sleep(0.01)
        return int(self._ended.read_text())

    @property
    def is_alive(self) -> bool:
        return not self._ended.exists()


class Nursery:
    """Bears processes; they end with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cradle = subprocess.Popen(
            [sys.executable, CRADLE, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def bear(
        self,
        house: House,
        *arguments: str,
        doom: Mapping[str, Any] | None = None,
        behind: float = 0,
        limits: Mapping[str, int] | None = None,
        **environment: str,
    ) -> Child:
        """``refund-service …`` on the house's database.

        Or, where ``doom`` tells the point, what ``doomed.py`` makes; with a clock that is
        ``behind`` by so many seconds; with ``limits`` of the operating system.
        """
        assert self._cradle.stdin is not None
        assert self._cradle.stdout is not None
        order = {
            "arguments": arguments,
            "environment": environment_of(house) | environment,
            "doom": doom,
            "behind": behind,
            "limits": dict(limits or {}),
        }
        self._cradle.stdin.write(json.dumps(order) + "\n")
        self._cradle.stdin.flush()
        return Child(int(self._cradle.stdout.readline()), self._folder)

    def end(self) -> None:
        for pipe in (self._cradle.stdin, self._cradle.stdout):
            assert pipe is not None
            pipe.close()
        self._cradle.wait(30)


def environment_of(house: House) -> dict[str, str]:
    """What a process needs to be one of the house's."""
    url = house.parts.settings.database_url
    assert url is not None
    return SECRETS | {
        "REFUND_DATABASE_URL": url.get_secret_value(),
        "REFUND_PORT": "0",
        "REFUND_OPS_PORT": "-1",
        "REFUND_RATE_LIMIT": "1000000",
        "REFUND_RATE_BURST": "1000000",
    }


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    opened = Nursery(tmp_path_factory.mktemp("nursery"))
    yield opened
    opened.end()


@pytest.fixture
def bear(nursery: Nursery) -> Iterator[Callable[..., Child]]:
    """``bear(own_house, "work")``: a process that a test may kill; it ends with the test."""
    born: list[Child] = []

    def one(*told: Any, **more: Any) -> Child:
        born.append(nursery.bear(*told, **more))
        return born[-1]

    yield one
    for child in born:
        if child.is_alive:
            child.signal(signal.SIGKILL)
