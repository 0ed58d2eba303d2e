"""A process that owns an embedded server, for the tests to stop, kill and ask. It talks in lines of JSON.

owner.py FOLDER           start the server, tell its process, stop at the end of standard input
owner.py FOLDER fork      the same, and leave a child of its own behind
owner.py FOLDER attach    tell the URL of the server that another process runs
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from refund_service.db.embedded import EmbeddedError, EmbeddedServer, attach


def tell(**facts: object) -> None:
    """Write one line for the test."""
    sys.stdout.write(f"{json.dumps(facts)}\n")
    sys.stdout.flush()


def main(folder: Path, way: str = "own") -> None:
    """Do what the test asks for; a refusal is told as it is shown to an operator."""
    try:
        if way == "attach":
            tell(url=attach(folder))
            return
        with EmbeddedServer.start(folder, durable=False) as server:
            child = os.fork() if way == "fork" else None
            if child == 0:
                signal.pause()
            try:
                tell(url=server.url, child=child)
                sys.stdin.readline()
            except KeyboardInterrupt:
                server.create_database("after_the_interrupt")
                tell(interrupted=True)
    except EmbeddedError as refused:
        tell(refused=type(refused).__name__, text=str(refused))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
