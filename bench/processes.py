"""Processes of the bench, each bounded in time, and what the kernel counts of them (proc(5))."""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TICK = os.sysconf("SC_CLK_TCK")
SECONDS_TO_START = 60
SECONDS_TO_STOP = 25


class Running:
    """A process that says in lines of JSON how far it is; ended with its block, whatever happens."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.began = time.perf_counter()
        # A session of its own: Ctrl-C is ours to hear, and ours to pass on.
        self._process = subprocess.Popen(  # noqa: S603 - our own words, no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | environment, start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self._said: queue.SimpleQueue[tuple[float, dict[str, Any]] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def until(self, **told: Any) -> tuple[float, dict[str, Any]]:
        """The first line that tells this, and how many seconds after the start it came."""
        while (line := self._said.get(timeout=SECONDS_TO_START)) is not None:
            at, says = line
            if all(says.get(name) == value for name, value in told.items()):
                return at - self.began, says
        raise RuntimeError(f"it ended before it said {told}")

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        told = 0
        for line in stdout:  # read to the end: a full pipe would stop it
            # Only the first lines matter to anyone; what a worker says of each refund does not.
            if (told := told + 1) <= 50:  # noqa: PLR2004 - as above
                self._said.put((time.perf_counter(), _parsed(line)))
        self._said.put(None)


def service(*words: str) -> list[str]:
    """The command line of ``refund-service``."""
    return [sys.executable, "-m", "refund_service", *words]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    stdout: str
    seconds: float
    cpu_seconds: float


def run(
    command: Sequence[str | Path],
    *,
    within: float,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Run a command to its end; ``RuntimeError`` where it fails or takes longer than ``within``."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with ExitStack() as ends:
        process = ends.enter_context(
            subprocess.Popen(  # noqa: S603 - our own words, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | (environment or {}),
                text=True,
                start_new_session=True,
            )
        )
        ends.callback(process.kill)  # Ctrl-C and time-outs too: nothing is left behind
        try:
            told, complained = process.communicate(given, timeout=within)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{Path(command[0]).name} did not end within {within:.0f} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {told[-500:]}{complained[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Done(told, time.perf_counter() - began, cpu)


def family(pid: int) -> list[int]:
    """A process and everything that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its family, of those that have ended too."""
    total = 0
    for member in family(pid):
        if fields := _stat(member):
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / TICK


def resident_mb(pid: int) -> float:
    """Resident memory of one process, in megabytes of 10⁶ bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` from the state on; none where the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
