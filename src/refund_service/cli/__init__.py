"""The command line: ``refund-service --help``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command. The health probe is asked every few seconds and does not wait for the rest to load."""
    if sys.argv[1:] == ["health"]:
        from refund_service.cli.probe import ready  # noqa: PLC0415 - nothing else is needed

        sys.exit(0 if ready(None) else 1)
    from refund_service.cli.main import run_command  # noqa: PLC0415 - as above, the other way round

    run_command()
