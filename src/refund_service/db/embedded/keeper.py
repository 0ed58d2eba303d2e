"""Keep one PostgreSQL for exactly as long as its owner lives.

The server's owner starts this file as a script, in a session of its own, so that neither Ctrl-C in
the owner's terminal nor the owner's end by ``kill -9`` reaches it. Its standard input is a pipe: the
order comes first, as a line of JSON, and the end of the pipe says that the owner has stopped or died.
It imports nothing of ours, so that it is there at once and stays small.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

OWNER = 0
READY = b"database system is ready to accept connections"
LARGEST_LOG = 5_000_000
"""Bytes; and there is one older log."""
WAYS_TO_END = ((signal.SIGINT, 30), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))
"""Fast, at once, by force; and the seconds that each is given."""


class Log:
    """The server's log: at most two files of ``LARGEST_LOG``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = self._open()

    def write(self, lines: bytes) -> None:
        """Add what the server said. A full disk must not end the keeper, and with it the server."""
        with contextlib.suppress(OSError):
            if self.file.tell() + len(lines) > LARGEST_LOG:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                self.file.close()
                self.file = self._open()
            self.file.write(lines)

    def _open(self) -> FileIO:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.lseek(handle, 0, os.SEEK_END)
        return FileIO(handle, "wb")


def keep(order: dict[str, Any]) -> int:
    """Start the server, keep its log, and end it when the owner is gone."""
    log = Log(Path(order["log"]))
    try:
        server = subprocess.Popen(  # noqa: S603 - the owner's order
            order["command"], **order["switch"], env=order["environment"], cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as failed:
        log.write(f"PostgreSQL could not be started: {failed}\n".encode())
        return 1
    ways = iter(WAYS_TO_END)

    def end(_signal: int = 0, _frame: FrameType | None = None) -> None:
        way, seconds = next(ways, WAYS_TO_END[-1])
        server.send_signal(way)
        signal.alarm(seconds)

    signal.signal(signal.SIGALRM, end)
    try:
        watch(server, log, end)
    finally:
        if server.poll() is None:
            end()
        status = server.wait()
        signal.alarm(0)
        for path in map(Path, order["remove"]):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()
    return status


def watch(server: subprocess.Popen[bytes], log: Log, end: Callable[[], None]) -> None:
    """Pass on what the server says until it and all its children are gone."""
    assert server.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
    seen = b""
    ready = False
    with selectors.DefaultSelector() as both:
        both.register(OWNER, selectors.EVENT_READ)
        both.register(server.stdout, selectors.EVENT_READ)
        while True:
            for key, _ in both.select():
                said = os.read(key.fd, 65536)
                if key.fd == OWNER:
                    if not said:
                        both.unregister(OWNER)
                        end()
                    continue
                if not said:
                    return
                log.write(said)
                if not ready and READY in (seen := seen + said):
                    ready = True
                    with contextlib.suppress(
                        BrokenPipeError
                    ):  # the owner is gone: the other pipe says so too
                        os.write(sys.stdout.fileno(), b"ready\n")


def main() -> int:
    """Take the order and keep it."""
    # When a whole group is told to end, the owner needs its database to the last: only its own end counts.
    for unheard in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(unheard, lambda *_: None)
    return keep(json.loads(sys.stdin.buffer.readline()))


if __name__ == "__main__":
    sys.exit(main())
