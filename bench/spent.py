"""What the API process is spent on: py-spy looks at its stack a few hundred times a second."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.processes import run

RATE = 250
_EVERYWHERE = {
    f"refund_service.{name}" for name in ("__main__", "cli.__init__", "cli.main", "cli.serving", "cli.place")
}
"""What stands at the foot of every stack tells nothing."""


@dataclass(frozen=True)
class Spent:
    """Shares of the samples, 0 to 1, largest first."""

    samples: int
    own: dict[str, float]
    """By the library or room of ours whose Python code was running, or had called into C; together 1."""
    under: dict[str, float]
    """By module of ours that was anywhere on the stack."""


def watch(pid: int, folder: Path, seconds: int, load: Callable[[], object]) -> Spent:
    """Watch a process while ``load`` is run again and again; ``RuntimeError`` where this user may not."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise RuntimeError("py-spy is not installed; `make bench` installs it")
    stacks = folder / "stacks"
    command = [
        found, "record", "--full-filenames", "--format=raw", f"--rate={RATE}",
        f"--duration={seconds}", f"--output={stacks}", f"--pid={pid}",
    ]  # fmt: skip
    with ThreadPoolExecutor(1) as beside_us:
        watching = beside_us.submit(run, command, within=seconds + 60)
        while not watching.done():
            load()
        watching.result()
    return read_stacks(stacks.read_text())


def read_stacks(raw: str) -> Spent:
    """py-spy's raw form: a line for each stack, its frames from the outermost, then how often it was seen."""
    own: Counter[str] = Counter()
    under: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, times = line.rpartition(" ")
        places = [_place(frame) for frame in stack.split(";")]
        own[_room(places[-1])] += int(times)
        for module in {place for place in places if place.startswith("refund_service.")} - _EVERYWHERE:
            under[module] += int(times)
    total = sum(own.values())
    return Spent(
        total,
        {name: count / total for name, count in own.most_common()},
        {name: count / total for name, count in under.most_common()},
    )


def _place(frame: str) -> str:
    """``function (path:line)`` as a module of ours, or the library that it belongs to."""
    path = frame.rpartition(" (")[2].rpartition(":")[0].removesuffix(")")
    for root in ("/src/", "/site-packages/"):
        if root in path:
            inner = path.rpartition(root)[2].removesuffix(".py")
            ours = inner.startswith("refund_service/")
            return inner.replace("/", ".") if ours else inner.split("/")[0]
    return Path(path).parent.name if "/python3" in path and "asyncio" in path else "Python's library"


def _room(place: str) -> str:
    """``refund_service.api.v1.refunds`` → ``refund_service.api``."""
    return ".".join(place.split(".")[:2]) if place.startswith("refund_service.") else place
