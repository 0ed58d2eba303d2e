"""The folders and locks of an embedded server.

The *data folder* is what the operator names: address, log and locks are there. The *home* is where
the cluster and its password are: the data folder too, but for a root whose folder the server's user
cannot reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from refund_service import ids

from .errors import WAY_OUT, AlreadyRunning, EmbeddedError, WrongUser
from .user import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .user import ServerUser

STATE: Final = Path("/var/lib/refund-service")
ADDRESS: Final = "address.json"
OWNER_LOCK: Final = "owner.lock"
KEEPER_LOCK: Final = "keeper.lock"
LOG: Final = "postgres.log"
_PLACE: Final = "place.json"
_SOCKET_PREFIX: Final = "refunds-"
_LONGEST_SOCKET_FOLDER: Final = 85
"""Bytes. A socket's path ends at 107, at 103 on macOS; its name, ``/.s.PGSQL.5432.lock``, takes up to 19."""


def open_data_folder(data_folder: Path) -> Path:
    """The data folder, made where it was missing, and known to be the caller's own."""
    try:
        data_folder.mkdir(parents=True, exist_ok=True)
        folder = data_folder.resolve()
        check_owner(folder)
        # Not by mode bits: a file system may be read-only, or root may be without its rights.
        os.close(os.open(folder / OWNER_LOCK, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as failed:
        raise EmbeddedError(
            f"The data folder {data_folder} cannot be used by {name_of(os.geteuid())}: {failed.strerror}. "
            f"Use another data folder, {WAY_OUT}",
        ) from failed
    return folder


def check_owner(data_folder: Path) -> None:
    """Raise ``WrongUser`` when someone else was the first to use the folder."""
    with contextlib.suppress(FileNotFoundError):
        owner = (data_folder / OWNER_LOCK).stat().st_uid
        if owner != os.geteuid():
            raise WrongUser(data_folder, owner=name_of(owner), now=name_of(os.geteuid()))


@contextlib.contextmanager
def hold_lock(path: Path, *, wait: bool = False) -> Iterator[int]:
    """Hold a lock that the system lets go of when its holder dies. ``BlockingIOError``: another has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def own(folder: Path, data_folder: Path) -> Iterator[int]:
    """Be the one owner of a folder, and say so in its lock."""
    path = folder / OWNER_LOCK
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context(hold_lock(path))
        except BlockingIOError:
            pid = path.read_text().strip()
            raise AlreadyRunning(data_folder, int(pid) if pid.isdigit() else None) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield lock


def home_of(data_folder: Path, user: ServerUser) -> Path:
    """Where the cluster of this data folder is; decided once, on first use, and written down."""
    place = data_folder / _PLACE
    if place.exists():
        home = data_folder / str(json.loads(place.read_text())["home"])
        if not home.is_dir():
            raise EmbeddedError(
                f"The database of {data_folder} was in {home}, and that is gone. Bring it back, "
                f"or begin anew by removing {place}, {WAY_OUT}",
            )
        return home
    if user.reaches(data_folder):
        home = Path()
    else:
        # By the path alone, a folder that was removed and made again would find its old cluster.
        name = hashlib.sha256(os.fsencode(data_folder)).hexdigest()[:16]
        try:
            home = make_open_folder(make_open_folder(STATE) / f"{name}-{ids.secret_token(4)}")
            (home / "data_folder").write_text(f"{data_folder}\n")
        except OSError as failed:
            raise EmbeddedError(
                f"{data_folder} is closed to the user that PostgreSQL runs as, and {STATE} cannot be used "
                f"instead: {failed.strerror}. Use a data folder that others can pass into, {WAY_OUT}",
            ) from failed
    write_private(place, json.dumps({"home": str(home)}))
    return data_folder / home


def make_open_folder(folder: Path) -> Path:
    """Make a folder that everybody can pass into, whatever the umask is; one that exists is left as it is."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return folder
    folder.chmod(0o755)
    return folder


def make_socket_folder(data_folder: Path, user: ServerUser) -> Path:
    """A new folder with a path short enough for a socket, wherever the data folder is."""
    name = f"{_SOCKET_PREFIX}{ids.secret_token(8)}"
    reasons = []
    for base in (Path("/tmp"), Path("/var/tmp"), data_folder):  # noqa: S108 - the name is random, and never one that exists
        folder = base / name
        if len(os.fsencode(folder)) > _LONGEST_SOCKET_FOLDER:
            reasons.append(f"{base} is too long a path")
            continue
        try:
            user.make_private_folder(folder)
        except OSError as failed:
            reasons.append(f"{base}: {failed.strerror}")
            continue
        return folder
    raise EmbeddedError(
        f"There is no place for the server's socket ({'; '.join(reasons)}). Free one, {WAY_OUT}"
    )


def remove_old_address(data_folder: Path) -> None:
    """Clear what a server left that was killed together with its keeper."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        folder = Path(json.loads((data_folder / ADDRESS).read_text())["socket_folder"])
        if folder.name.startswith(_SOCKET_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)
    (data_folder / ADDRESS).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file for the owner's eyes, whole or not at all, and for good."""
    half = path.with_name(f"{path.name}.half")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
