"""The command line: ``refund-service --help``."""

from __future__ import annotations

from refund_service.cli.main import main

__all__ = ["main"]
