"""Under whom PostgreSQL runs: it refuses root, so root lends it the user that exists everywhere."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from .errors import WAY_OUT, EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# A fixed, small environment: PGHOST, PGOPTIONS, LANG and the like must not reach the server or
# its tools. With TZ given, initdb does not search all time zones for the machine's own.
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Switch(TypedDict, total=False):
    """What ``subprocess`` needs to start something as another user; empty for one's own."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that the server, its files and its socket folder belong to."""

    uid: int
    gid: int
    lent: bool
    """True when we are root, and the server is not."""

    @classmethod
    def current(cls) -> ServerUser:
        """The caller's own user; ``nobody`` when the caller is root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), lent=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise EmbeddedError(
                "PostgreSQL does not run as root, and this machine has no user nobody. "
                f"Start as a normal user, {WAY_OUT}",
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid, lent=True)

    @property
    def switch(self) -> Switch:
        """To be passed on to ``subprocess``."""
        return Switch(user=self.uid, group=self.gid, extra_groups=[]) if self.lent else Switch()

    def run(self, *command: str | Path, inherit: Collection[int] = ()) -> subprocess.CompletedProcess[str]:
        """Run something to its end as this user; a ``PermissionError`` says that the user cannot reach it."""
        try:
            return subprocess.run(  # noqa: S603 - our own words, no shell
                command, **self.switch, cwd="/", env=ENVIRONMENT, pass_fds=inherit,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
        except PermissionError as refused:
            if refused.errno == errno.EPERM:  # not the path: the switch of user itself
                raise EmbeddedError(
                    "PostgreSQL does not run as root, and this root may not become another user here. "
                    f"Start as a normal user, {WAY_OUT}",
                ) from refused
            raise

    def reaches(self, folder: Path) -> bool:
        """Whether this user can get into the folder. Asked of the system: modes are not all that counts."""
        return not self.lent or self.run("/bin/sh", "-c", 'cd "$1"', "sh", folder).returncode == 0

    def make_private_folder(self, folder: Path) -> None:
        """Make a new folder that only this user gets into."""
        folder.mkdir(mode=0o700)
        if self.lent:
            shutil.chown(folder, self.uid, self.gid)


def name_of(uid: int) -> str:
    """The user as people call it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
