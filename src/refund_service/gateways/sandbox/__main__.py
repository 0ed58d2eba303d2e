"""``python -m refund_service.gateways.sandbox``: play the gateway in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from refund_service.gateways.sandbox.record import RecordInUse
from refund_service.gateways.sandbox.server import serve


def main() -> None:
    """Read the arguments and serve; the first line on stdout is ``{"port": N}``."""
    parser = argparse.ArgumentParser(prog="python -m refund_service.gateways.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--record", type=Path, required=True, help="the file that holds every execution")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin closes")
    told = parser.parse_args()
    if told.with_parent:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        serve(told.host, told.port, told.record, _say_port)
    except RecordInUse as failure:
        sys.exit(f"another sandbox writes to {failure}")
    except OSError as failure:
        sys.exit(f"cannot listen on {told.host}:{told.port} or keep {told.record}: {failure.strerror}")


def _say_port(port: int) -> None:
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    # A parent that was killed closes its end of the pipe too, and nothing else would tell us.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
