"""Data folders and owner processes for the tests of the embedded server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refund_service.db.embedded import EmbeddedServer
from refund_service.db.embedded.folders import STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWNER = Path(__file__).with_name("owner.py")


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every user can pass into; pytest's own is closed to all but one."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def new_folder(base: Path) -> Path:
    """A data folder that is not there yet."""
    return base / "data"


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A data folder that has been used before: most tests share it, since the first start takes the time.

    It lies deeper than a socket can.
    """
    with tempfile.TemporaryDirectory(prefix="embedded-", dir="/tmp") as base:
        Path(base).chmod(0o755)
        folder = Path(base).resolve() / ("deep" * 25) / "data"
        with EmbeddedServer.start(folder, durable=False):
            pass
        yield folder


@pytest.fixture
def state() -> Iterator[Path]:
    """Where root's servers keep what others must reach; what the test adds is removed."""
    before = set(STATE.glob("*")) | set(STATE.glob("binaries/*"))
    yield STATE
    for path in sorted((set(STATE.glob("*")) | set(STATE.glob("binaries/*"))) - before, reverse=True):
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        STATE.rmdir()


@dataclass
class Owner:
    """An owner process."""

    process: subprocess.Popen[str]

    def told(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the owner ended without a word"
        said: dict[str, Any] = json.loads(line)
        return said


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Start owner processes; those that still run are stopped after the test."""
    owners: list[Owner] = []

    def start(
        folder: Path,
        way: str = "own",
        *,
        python: tuple[str, ...] = (sys.executable,),
        script: Path = OWNER,
        path: str | None = None,
        **switch: Any,
    ) -> Owner:
        process = subprocess.Popen(
            [*python, script, folder, way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=os.environ | ({"PYTHONPATH": path} if path else {}),
            start_new_session=True,
            **switch,
        )
        owners.append(Owner(process))
        return owners[-1]

    yield start
    for owner in owners:
        owner.process.communicate(timeout=60)
