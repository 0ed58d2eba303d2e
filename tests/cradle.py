"""The program behind ``nursery.py``: imports the service once, and forks a process for each order.

    python tests/cradle.py FOLDER

An order is a line of JSON on standard input. What a child says goes to ``FOLDER/<pid>.out``, and
how it ended to ``FOLDER/<pid>.ended``. When the input ends, so do the children.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import doomed
import time_machine

from refund_service.cli.main import cli

FOLDER = Path(sys.argv[1])
ALIVE: set[int] = set()


def main() -> None:
    signal.signal(signal.SIGCHLD, lambda *_: bury())
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            live(json.loads(line))
        ALIVE.add(pid)
        print(pid, flush=True)  # noqa: T201 - this is the answer to the order
        bury()  # it may have ended before it was counted
    for pid in list(ALIVE):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def bury() -> None:
    """Note how children ended."""
    for pid in list(ALIVE):
        with contextlib.suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                ALIVE.discard(pid)
                (FOLDER / f"{pid}.wait").write_text(str(os.waitstatus_to_exitcode(status)))
                (FOLDER / f"{pid}.wait").rename(FOLDER / f"{pid}.ended")


def live(order: dict[str, Any]) -> NoReturn:
    """Be the process that was ordered."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    out = os.open(FOLDER / f"{os.getpid()}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order["environment"])
    for name, most in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    code = 1
    try:
        with clock_behind(order["behind"]):
            if order["doom"]:
                asyncio.run(doomed.live(**order["doom"]))
            else:
                cli(order["arguments"], standalone_mode=False)
        code = 0
    except Exception:  # noqa: BLE001 - whatever it was, the test reads it in the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def clock_behind(seconds: float) -> contextlib.AbstractContextManager[Any]:
    """A process whose clock is so many seconds behind, and goes on from there."""
    if not seconds:
        return contextlib.nullcontext()
    return time_machine.travel(datetime.now(UTC) - timedelta(seconds=seconds), tick=True)


if __name__ == "__main__":
    main()
