"""The sandbox's memory on disk: one fact a line, added to and never changed.

It is the ground truth that the service is compared with, so a fact is on the disk before its
answer leaves, and a killed sandbox starts again where it stood.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Fact = Mapping[str, Any]


class RecordInUse(Exception):
    """Another sandbox writes to this record."""


class Record:
    """The facts of the file, and the way to add to them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            os.close(self._file)
            raise RecordInUse(str(path)) from failure
        self.facts = self._read(path)
        """What stood in the file when it was opened."""
        self._written = self._synced = 0
        self._syncing = asyncio.Lock()

    def _read(self, path: Path) -> list[Fact]:
        told = path.read_bytes()
        whole = told.rfind(b"\n") + 1
        if whole < len(told):
            # A line cut off by a crash was never answered to anyone.
            os.ftruncate(self._file, whole)
        return [json.loads(line) for line in told[:whole].splitlines()]

    def write(self, fact: Fact) -> None:
        """Add a fact. It survives this process at once, and the machine after ``safe``."""
        os.write(self._file, json.dumps(fact, separators=(",", ":")).encode() + b"\n")
        self._written += 1

    async def safe(self) -> None:
        """Return when everything written so far is on the disk."""
        upto = self._written
        async with self._syncing:
            # Whoever waited here was often covered by the sync that went before.
            if self._synced < upto:
                upto = self._written
                await asyncio.to_thread(os.fsync, self._file)
                self._synced = upto

    def close(self) -> None:
        """Let another sandbox have the file."""
        os.close(self._file)
