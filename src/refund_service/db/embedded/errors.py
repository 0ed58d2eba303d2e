"""Why an embedded server does not start. The operator reads these, never a client: they have no code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WAY_OUT = "or name a PostgreSQL server in REFUND_DATABASE_URL."


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be had; the text says why and what to do."""


class NoBinaries(EmbeddedError):
    """There is no PostgreSQL on this machine that could be started."""


class AlreadyRunning(EmbeddedError):
    """The data folder has an owner already: one process starts and stops its server."""

    def __init__(self, data_folder: Path, pid: int | None) -> None:
        self.data_folder = data_folder
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"The database in {data_folder} is already run by {who}. "
            f"Stop that process first, use another data folder, {WAY_OUT}",
        )


class WrongUser(EmbeddedError):
    """The data folder belongs to another user of this machine."""

    def __init__(self, data_folder: Path, *, owner: str, now: str) -> None:
        super().__init__(
            f"The database in {data_folder} was first used by {owner}, and this is {now}. "
            f"Go on as {owner}, use another data folder, {WAY_OUT}",
        )
