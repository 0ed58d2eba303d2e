"""The cluster: PostgreSQL's own folder, made once, and cleared of what a killed server left."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from refund_service import ids

from .errors import WAY_OUT, EmbeddedError
from .folders import sync_folder, write_private
from .keeper import WAYS_TO_END

if TYPE_CHECKING:
    from .binaries import Binaries
    from .user import ServerUser

ROLE: Final = "refunds"
_FIRST_WITH_BUILTIN_LOCALE: Final = 17
_LOOKS_PER_SECOND: Final = 20


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster and its password, in their home."""

    home: Path

    @property
    def folder(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "postgres"

    @property
    def password(self) -> str:
        """The password of ``ROLE``."""
        return (self.home / "password").read_text()

    @property
    def major(self) -> int | None:
        """The version that made the cluster; None before there is one."""
        try:
            return int((self.folder / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def make(self, binaries: Binaries, user: ServerUser, *, durable: bool, lock: int) -> None:
        """Make the cluster. It takes its name last: one that was cut short is never taken for whole.

        ``lock`` stays held until initdb has ended, whatever becomes of us: so the next owner waits for it.
        """
        try:
            pwd.getpwuid(user.uid)
        except KeyError:
            raise EmbeddedError(
                f"PostgreSQL wants its user to have a name, and {user.uid} has none in /etc/passwd. "
                f"Start as a user with a name, {WAY_OUT}",
            ) from None
        workshop = self.home / "initdb"
        shutil.rmtree(workshop, ignore_errors=True)
        user.make_private_folder(workshop)
        password = ids.secret_token()
        write_private(workshop / "password", password)
        shutil.chown(workshop / "password", user.uid, user.gid)

        new = workshop / "postgres"
        told = user.run(
            binaries.path("initdb"), "--pgdata", new, "--username", ROLE, "--pwfile", workshop / "password",
            "--auth=scram-sha-256", "--encoding=UTF8", *_locale(binaries.major), "--data-checksums",
            *([] if durable else ["--no-sync"]), inherit=[lock],
        )  # fmt: skip
        if told.returncode != 0:
            raise EmbeddedError(f"PostgreSQL could not make a database in {self.home}: {told.stderr.strip()}")
        write_private(self.home / "password", password)
        new.rename(self.folder)
        sync_folder(self.home)
        shutil.rmtree(workshop)

    def clear_left_behind(self) -> None:
        """End a server whose keeper was killed, and remove a pid file that names a stranger.

        A pid file whose process is gone is left alone: PostgreSQL clears it, after it has looked
        for survivors in shared memory. But it takes any live process of its user for a server, and
        after a restart of the machine or the container the number is soon someone else's.
        """
        pid_file = self.folder / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().partition("\n")[0])
        except (FileNotFoundError, ValueError):
            return
        if not self._is_server(pid):
            if _is_alive(pid):
                pid_file.unlink(missing_ok=True)
            return
        for way, seconds in WAYS_TO_END:
            os.kill(pid, way)
            for _ in range(seconds * _LOOKS_PER_SECOND):
                if not self._is_server(pid):
                    return
                time.sleep(1 / _LOOKS_PER_SECOND)
        raise EmbeddedError(f"An old server of {self.folder}, process {pid}, does not end. End it by hand.")

    def _is_server(self, pid: int) -> bool:
        """Whether this process is a server of this cluster: its command names the folder."""
        return f" {self.folder} " in f"{_command(pid)} "


def _locale(major: int) -> list[str]:
    # The built-in C.UTF-8 sorts the same everywhere and needs nothing of the machine; not each has its own.
    if major >= _FIRST_WITH_BUILTIN_LOCALE:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C.UTF-8"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command(pid: int) -> str:
    """The command that a process was started by; empty when it is gone, or dead and not yet collected."""
    if Path("/proc/self/cmdline").exists():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return os.fsdecode(words).replace("\0", " ")
    ps = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a number, no shell
