"""Start, stop and find an embedded server."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from refund_service import ids

from . import keeper
from .binaries import find_binaries
from .cluster import ROLE, Cluster
from .errors import EmbeddedError, WrongUser
from .folders import (
    ADDRESS,
    KEEPER_LOCK,
    LOG,
    check_owner,
    hold_lock,
    home_of,
    make_socket_folder,
    open_data_folder,
    own,
    remove_old_address,
    write_private,
)
from .user import ENVIRONMENT, ServerUser, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

DATABASE: Final = "refunds"
_PORT: Final = 5432  # only a part of the socket's name
_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # Plans that sessions made while the tables were new are bad ones; they go with the first analysis.
    "autovacuum_naptime": "5s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # PostgreSQL would write the row that breaks a CHECK, and the statement, into its log: personal data.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "fatal",
    "log_destination": "stderr",  # the keeper reads it, and keeps the file small
    "logging_collector": "off",
}
_DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_SECONDS_TO_START: Final = 120  # it may have to replay its log first
_SECONDS_TO_STOP: Final = 60
_SECONDS_TO_ANSWER: Final = 5
_DATABASE_IF_MISSING: Final = """
SELECT 'CREATE DATABASE ' || :'name'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
"""


class EmbeddedServer:
    """A running PostgreSQL, owned by this process: it ends when this process does."""

    def __init__(self, data_folder: Path, durable: bool) -> None:  # noqa: FBT001 - called below only
        self.data_folder = open_data_folder(data_folder)
        self._durable = durable
        self._user = ServerUser.current()
        self._held = contextlib.ExitStack()
        self._keeper: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, data_folder: Path, *, durable: bool = True) -> Self:
        """Start the server of a data folder, and be its owner until ``stop``.

        ``durable=False`` is for tests: faster, and gone with a power cut.
        """
        server = cls(data_folder, durable)
        try:
            server._start()
        except BaseException:  # Ctrl-C as well: nothing may be left behind
            server.stop()
            raise
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the service's database is, for SQLAlchemy."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Where another database of this server is."""
        host, name = quote(str(self._socket_folder)), quote(database, safe="")
        # The port is said, or asyncpg would take it from PGPORT.
        return f"postgresql+asyncpg://{ROLE}:{self._cluster.password}@/{name}?host={host}&port={_PORT}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, as a copy of another where one is named, and return its URL.

        Nobody may be connected to the one that is copied.
        """
        self._psql(
            'CREATE DATABASE :"name" TEMPLATE :"template"', name=name, template=template or "template1"
        )
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it; one that is not there is no error."""
        self._psql('DROP DATABASE IF EXISTS :"name" WITH (FORCE)', name=name)

    def stop(self) -> None:
        """End the server, let go of the folder. Once more is no error."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None  # noqa: S101 - for the type checker: both are pipes
            assert self._keeper.stdout is not None  # noqa: S101 - opened as a pipe
            self._keeper.stdin.close()
            try:
                self._keeper.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            self._keeper.stdout.close()
            self._keeper = None
            # The keeper has done all of this already, unless it was killed.
            self._cluster.clear_left_behind()
            remove_old_address(self.data_folder)
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._held.close()
        _owned.discard(self)

    def _start(self) -> None:
        self._held.enter_context(own(self.data_folder, self.data_folder))
        home = home_of(self.data_folder, self._user)
        if home.resolve() != self.data_folder:
            # A copy of the data folder names the same home: the cluster has one owner all the same.
            self._held.enter_context(own(home, self.data_folder))
        self._cluster = Cluster(home)
        # The keeper of an owner that was killed may still be ending its server: wait for it.
        with hold_lock(home / KEEPER_LOCK, wait=True) as keeper_lock:
            self._cluster.clear_left_behind()
            remove_old_address(self.data_folder)
            self._binaries = find_binaries(self._user, major=self._cluster.major)
            if self._cluster.major is None:
                self._cluster.make(self._binaries, self._user, durable=self._durable, lock=keeper_lock)
            self._socket_folder = make_socket_folder(self.data_folder, self._user)
            self._keeper = self._start_keeper(keeper_lock)
        self._wait_until_ready()
        self._psql(_DATABASE_IF_MISSING, name=DATABASE)
        address = {"url": self.url, "socket_folder": str(self._socket_folder), "pid": os.getpid()}
        write_private(self.data_folder / ADDRESS, json.dumps(address))
        _owned.add(self)

    def _start_keeper(self, lock: int) -> subprocess.Popen[bytes]:
        settings = _SETTINGS | {"unix_socket_directories": str(self._socket_folder)}
        settings |= dict.fromkeys(_DURABLE, "off") if not self._durable else _DURABLE
        command = [self._binaries.path("postgres"), "-D", str(self._cluster.folder)]
        order = {
            "command": [*command, *(f"--{name}={value}" for name, value in settings.items())],
            "switch": self._user.switch,
            "environment": ENVIRONMENT,
            "log": str(self.data_folder / LOG),
            "remove": [str(self.data_folder / ADDRESS), str(self._socket_folder)],
        }
        # By its path and without site-packages: it starts in a moment, whatever the caller's sys.path is.
        started = subprocess.Popen(  # noqa: S603 - our own words, no shell
            [sys.executable, "-I", "-S", keeper.__file__],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/", pass_fds=[lock], start_new_session=True,
        )  # fmt: skip
        assert started.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it has ended at once: the next read says so
            started.stdin.write(f"{json.dumps(order)}\n".encode())
        return started

    def _wait_until_ready(self) -> None:
        assert self._keeper is not None  # noqa: S101 - for the type checker: it was just started
        assert self._keeper.stdout is not None  # noqa: S101 - opened as a pipe
        answer = select.poll()
        answer.register(self._keeper.stdout, select.POLLIN)
        if not answer.poll(_SECONDS_TO_START * 1000) or self._keeper.stdout.readline() != b"ready\n":
            log = self.data_folder / LOG
            last = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
            raise EmbeddedError("\n  ".join([f"PostgreSQL did not start. The end of {log}:", *last]))

    def _psql(self, statement: str, **names: str) -> None:
        values = [f"--set={key}={value}" for key, value in names.items()]
        told = subprocess.run(  # noqa: S603 - the names are quoted by psql
            [
                self._binaries.path("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *values,
                "--host", self._socket_folder, "--port", str(_PORT), "--username", ROLE, "postgres",
            ],
            input=statement, env=ENVIRONMENT | {"PGPASSWORD": self._cluster.password},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if told.returncode != 0:
            raise EmbeddedError(told.stderr.strip())

    def _forget(self) -> None:
        """In a child by ``fork``: the server is the parent's, and must not wait for the child's end too."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper = None
        self._held.close()


_owned: set[EmbeddedServer] = set()
"""Those that run now; held here, so that none ends because its owner forgot about it."""


def _forget_all() -> None:
    for server in list(_owned):
        server._forget()  # noqa: SLF001 - our own


os.register_at_fork(after_in_child=_forget_all)


def attach(data_folder: Path) -> str | None:
    """The URL of the server that another process runs in this folder; None when none does."""
    try:
        address = json.loads((data_folder / ADDRESS).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        check_owner(data_folder)
        raise WrongUser(data_folder, owner="another user", now=name_of(os.geteuid())) from None
    return str(address["url"]) if _answers(Path(address["socket_folder"])) else None


def _answers(socket_folder: Path) -> bool:
    """Whether a PostgreSQL answers. Asked for encryption, it says yes or no before any password."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_SECONDS_TO_ANSWER)
        try:
            line.connect(str(socket_folder / f".s.PGSQL.{_PORT}"))
            line.sendall(struct.pack("!ii", 8, 80877103))
            return line.recv(1) in {b"N", b"S"}
        except OSError:
            return False


@contextlib.contextmanager
def throwaway() -> Iterator[EmbeddedServer]:
    """A server for tests, on a folder that is removed after it."""
    # Not below the tests' temporary folder: that is closed to the user that root lends the server.
    folder = Path("/tmp") / f"refunds-test-{ids.secret_token(8)}"  # noqa: S108 - the name is random, and never one that exists
    folder.mkdir()
    folder.chmod(0o755)
    try:
        with EmbeddedServer.start(folder, durable=False) as server:
            yield server
    finally:
        shutil.rmtree(folder)
