"""A PostgreSQL of the run's own, that can be stopped at once and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from refund_service import ids
from refund_service.db.embedded import EmbeddedServer


class Postgres:
    """The embedded server, started anew by the same launcher as often as it is stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Without fsync: what a commit promises must outlive the server, and only the machine's end
        # could take away what the kernel has.
        self.server = EmbeddedServer.start(folder, durable=False)

    @property
    def log(self) -> Path:
        return self._folder / "postgres.log"

    async def stop_at_once(self) -> None:
        """As ``pg_ctl stop -m immediate``: no checkpoint, nothing is said goodbye to."""
        first_line = (self.server._cluster.folder / "postmaster.pid").read_text().splitlines()[0]
        os.kill(int(first_line), signal.SIGQUIT)
        await asyncio.to_thread(self.server.stop)

    async def start(self) -> None:
        """Recover, and serve again at another socket."""
        self.server = await asyncio.to_thread(EmbeddedServer.start, self._folder, durable=False)


@asynccontextmanager
async def own_postgres() -> AsyncIterator[Postgres]:
    """On a folder that is removed after it."""
    # Not below a run's own folder: that may be closed to the user that root lends the server.
    folder = Path("/tmp") / f"refunds-prove-{ids.secret_token(8)}"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        postgres = await asyncio.to_thread(Postgres, folder)
        try:
            yield postgres
        finally:
            await asyncio.to_thread(postgres.server.stop)
    finally:
        shutil.rmtree(folder)
