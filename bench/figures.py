"""Everything that one run measured: what the report is made from, and what is kept beside it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from bench.growth import Size
from bench.rounds import Cost, Pair
from bench.scale import Scale
from bench.sends import Sends
from bench.spent import Spent
from bench.sql import Sql


@dataclass(frozen=True)
class Place:
    """Where and when."""

    date: str
    processor: str
    cores: int
    memory_gb: float
    system: str
    versions: dict[str, str]
    load_before: float
    """The machine's load average when the run began: near nothing on a quiet machine."""


@dataclass(frozen=True)
class OneAndTwo:
    """The same load on one API process, and spread over two."""

    name: str
    one: Cost
    two: Cost


@dataclass(frozen=True)
class Figures:
    """The figures of one run."""

    place: Place
    scale: Scale
    verbs: Sequence[Pair]
    worker: Pair
    hot: Pair
    processes: Sequence[OneAndTwo]
    resident_mb: dict[str, float]
    starts: dict[str, Sequence[float]]
    """Seconds from exec, of each try."""
    spent: Spent | None
    """None where this user may not look into processes."""
    sizes: Sequence[Size]
    sends: Sends | None = None
    """None in figures of before it was measured."""

    def verb(self, name: str, clients: int) -> Pair:
        return next(pair for pair in self.verbs if (pair.name, pair.clients) == (name, clients))


FORM: Final = TypeAdapter(Figures)
"""How they are written as JSON and read back."""


def here(sql: Sql, *, load_before: float) -> Place:
    """This machine, now."""
    return Place(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_line_of("/proc/cpuinfo", "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=int(_line_of("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9,
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        versions={
            "this code": _commit(),
            "Python": platform.python_version(),
            "PostgreSQL": str(sql.value("SHOW server_version")),
        }
        | {
            name: version(name)
            for name in ("asyncpg", "fastapi", "pydantic", "sqlalchemy", "uvicorn", "uvloop", "httptools")
        },
        load_before=load_before,
    )


def _line_of(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def _commit() -> str:
    root = Path(__file__).parent
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git is there
        cwd=root, capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    return told.stdout.strip() or "unknown"
