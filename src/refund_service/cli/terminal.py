"""What every command shares: the screen, the option for the data folder, a database to run a verb on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Never

import structlog
import typer
from rich.console import Console

from refund_service.app import put_together
from refund_service.settings import Settings

screen = Console()

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the embedded PostgreSQL lives (REFUND_DATA_DIR).")
]


def on_database(settings: Settings, verb: Any) -> Any:
    """Run a verb that takes a database."""
    parts = put_together(settings, name="refund-service cli")

    async def act() -> Any:
        try:
            work: Coroutine[Any, Any, Any] = verb(parts.db)
            return await work
        finally:
            await parts.db.close()

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    return asyncio.run(act())


def end(code: int) -> Never:
    """Leave with this exit code."""
    raise typer.Exit(code)
