"""``config check`` on real databases, ports and files: each thing that can be tried is tried."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from clockwork import Clock
from fault_proxy import Fault, FaultProxy
from house import SECRETS, House, Process, Shop
from sqlalchemy import text

from refund_service.cli.config import look
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.schema_state import head
from refund_service.reports.setup import Verdict

OTHER_KEY = base64.b64encode(b"o" * 32).decode()
PASSWORD = "a password: 100% of/the@role"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No setting but the secrets of the tests, and any free port."""
    for name in [name for name in os.environ if name.startswith("REFUND_")]:
        monkeypatch.delenv(name)
    for name, value in (SECRETS | {"REFUND_PORT": "0", "REFUND_OPS_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def seen(environment: pytest.MonkeyPatch, own_house: House) -> Callable[..., Any]:
    """What is not well, as ``{what: (verdict, says)}``, on this test's own database."""

    async def check(**settings: str) -> dict[str, tuple[Verdict, str]]:
        url = own_house.parts.settings.database_url.get_secret_value()
        for name, value in ({"database_url": url} | settings).items():
            environment.setenv(f"REFUND_{name.upper()}", value)
        lines = await asyncio.to_thread(look, None)
        return {line.what: (line.verdict, line.says) for line in lines if line.verdict is not Verdict.OK}

    return check


def url_of(house: House) -> str:
    return house.parts.settings.database_url.get_secret_value()


# All is well


async def test_a_service_that_would_run_well_has_nothing_to_say(seen: Any, own_shop: Shop) -> None:
    assert await seen() == {}


async def test_the_command_prints_a_line_for_each_thing_and_no_secret(
    own_house: House, own_shop: Shop
) -> None:
    given = SECRETS | {"REFUND_DATABASE_URL": url_of(own_house), "REFUND_PORT": "0", "REFUND_OPS_PORT": "0"}
    code, table = await run(given)
    assert code == 0
    for what in ("settings", "database", "server", "session limits", "schema", "clock", "rights", "peppers"):
        assert what in table

    code, told = await run(given, "--json")
    assert code == 0
    document = json.loads(told)
    assert document["good"] is True
    assert {line["verdict"] for line in document["lines"]} == {"ok"}

    code, broken = await run(
        given | {"REFUND_MODE": "production", "REFUND_CURSOR_SECRET": "short-and-secret", "REFUND_PRT": "1"},
        "--json",
    )
    assert code == 1
    assert json.loads(broken)["good"] is False
    assert "REFUND_PORT was meant?" in broken

    password = urlsplit(url_of(own_house)).password
    assert password
    secrets = [
        password,
        "short-and-secret",
        *(value.partition(":")[2] or value for value in SECRETS.values()),
    ]
    for secret in secrets:
        assert secret not in table + told + broken


async def run(environment: dict[str, str], *options: str) -> tuple[int, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("REFUND_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "refund_service", "config", "check", *options),
        env=bare | environment | {"COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


# The database


@pytest.mark.parametrize(
    ("part", "instead", "says"),
    [
        ("password", "wrong", "the role or its password is refused"),
        ("database", "elsewhere", "there is no database of this name"),
        ("port", "5433", "its socket is not there"),
    ],
)
async def test_a_database_that_lets_no_one_in_says_why(
    seen: Any, own_house: House, part: str, instead: str, says: str
) -> None:
    url = url_of(own_house)
    now = {
        "password": urlsplit(url).password,
        "database": urlsplit(url).path.removeprefix("/"),
        "port": "5432",
    }[part]
    assert url.count(str(now)) == 1
    assert await seen(database_url=url.replace(str(now), instead)) == {"database": (Verdict.WRONG, says)}


async def test_a_host_that_is_not_known_or_does_not_answer_is_told(seen: Any, own_house: House) -> None:
    unknown = "postgresql://refunds:secret@no-such-host.invalid/refunds"
    assert await seen(database_url=unknown) == {
        "database": (Verdict.WRONG, "the name of its host is not known")
    }

    async with FaultProxy.before(url_of(own_house)) as line:
        url = line.instead(url_of(own_house))
        assert await seen(database_url=url) == {}
        line.turn(Fault.BLACKHOLE)
        assert await seen(database_url=url) == {"database": (Verdict.WRONG, "it does not answer")}
    assert await seen(database_url=url) == {"database": (Verdict.WRONG, "nothing listens there")}


@pytest.fixture
async def role(own_house: House) -> AsyncIterator[str]:
    """A role that may connect, and do nothing else."""
    db, name = own_house.parts.db, f"role_{os.urandom(4).hex()}"
    await db.rows(text(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"))
    yield name
    await db.rows(text(f"DROP OWNED BY {name}"))
    await db.rows(text(f"DROP ROLE {name}"))


async def test_a_role_that_may_not_write_a_table_is_told_which(
    seen: Any, own_house: House, role: str
) -> None:
    db, url = own_house.parts.db, url_of(own_house)
    parts = urlsplit(url)
    theirs = url.replace(f"{parts.username}:{parts.password}", f"{role}:{quote(PASSWORD, safe='')}")
    assert await seen(database_url=theirs) == {
        "database": (Verdict.WRONG, "the role may not read what it needs")
    }

    await db.rows(text(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}"))
    await db.rows(text(f"REVOKE INSERT ON refunds FROM {role}"))
    assert await seen(database_url=theirs) == {
        "rights": (Verdict.WRONG, "the role may not read or add to refunds")
    }

    await db.rows(text(f"GRANT INSERT ON refunds TO {role}"))
    assert await seen(database_url=theirs) == {}


async def test_limits_that_a_pooler_keeps_away_are_told(seen: Any) -> None:
    found = await seen(pgbouncer="true")
    assert found.keys() == {"session limits"}
    verdict, says = found["session limits"]
    assert verdict is Verdict.WRONG
    assert "lock_timeout is 0" in says


@pytest.mark.parametrize(("ahead", "fits"), [(-1, False), (0, True), (1, True), (2, False)])
async def test_a_schema_that_this_version_does_not_bear_is_told(
    seen: Any, own_house: House, ahead: int, fits: bool
) -> None:
    version = f"{int(head()) + ahead:04d}"
    await own_house.parts.db.rows(text("UPDATE alembic_version SET version_num = :in_v"), v=version)
    found = await seen()
    assert {what for what, (verdict, _) in found.items() if verdict is Verdict.WRONG} == (
        set() if fits else {"schema"}
    )


async def test_a_database_that_was_never_migrated_is_told(seen: Any, postgres: EmbeddedServer) -> None:
    name = f"empty_{os.urandom(4).hex()}"
    found = await seen(database_url=postgres.create_database(name))
    assert found["schema"] == (Verdict.WRONG, "there is none: run refund-service migrate")
    postgres.drop_database(name)


async def test_clocks_that_differ_are_a_warning(seen: Any, own_house: House) -> None:
    await Clock(own_house).jump(seconds=60)
    found = await seen()
    assert found.keys() == {"clock"}
    assert found["clock"][0] is Verdict.WARNING
    assert "ahead of" in found["clock"][1]


# Secrets


async def test_sealing_keys_have_to_open_what_was_sealed(seen: Any, own_shop: Shop) -> None:
    right = SECRETS["REFUND_SEALING_KEYS"]
    for given, says in (
        (f"new:{OTHER_KEY}", "key test is missing, and seals"),
        (f"test:{OTHER_KEY}", "key test is another key than the one that sealed"),
    ):
        found = await seen(sealing_keys=given)
        assert found.keys() == {"REFUND_SEALING_KEYS"}
        assert found["REFUND_SEALING_KEYS"][0] is Verdict.WRONG
        assert found["REFUND_SEALING_KEYS"][1].startswith(says)
        assert "ga_" in found["REFUND_SEALING_KEYS"][1]
    assert await seen(sealing_keys=f"new:{OTHER_KEY},{right}") == {}


async def test_every_pepper_in_use_has_to_be_there(seen: Any, own_house: House, own_shop: Shop) -> None:
    other = "new:another-pepper-that-is-long-enough-too"
    assert await seen(key_peppers=other) == {
        "REFUND_KEY_PEPPERS": (Verdict.WRONG, "pepper test is missing, and 1 API key need it")
    }
    assert await seen(key_peppers=f"{other},{SECRETS['REFUND_KEY_PEPPERS']}") == {}

    # Of a key that was revoked, no pepper is needed any more.
    await own_house.parts.db.rows(text("UPDATE api_keys SET revoked_at = now()"))
    assert await seen(key_peppers=other) == {}


async def test_a_secret_file_that_cannot_be_read_is_told(
    seen: Any, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    environment.delenv("REFUND_CURSOR_SECRET")
    environment.setenv("REFUND_CURSOR_SECRET_FILE", str(file))
    found = await seen()
    assert found["REFUND_CURSOR_SECRET_FILE"][0] is Verdict.WRONG

    file.write_text(SECRETS["REFUND_CURSOR_SECRET"])
    assert await seen() == {}


# Ports


async def test_a_port_that_is_taken_is_told(seen: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = await seen(port=port)
        assert found == {"REFUND_PORT": (Verdict.WRONG, f"127.0.0.1:{port}: address already in use")}
    assert await seen(port=port) == {}


async def test_two_settings_of_one_port_are_told(seen: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    assert (await seen(port=port, ops_port=port)).keys() == {"REFUND_OPS_PORT"}
    assert await seen(port=port, ops_port="-1") == {}


async def test_a_host_that_is_not_this_machine_s_is_told(seen: Any) -> None:
    assert (await seen(host="192.0.2.1")).keys() == {"REFUND_PORT"}
    assert await seen(host="no-such-host.invalid") == {
        "REFUND_PORT": (
            Verdict.WRONG,
            "a free port of no-such-host.invalid: the name of the host is not known",
        )
    }


async def test_beside_a_service_that_runs_its_ports_are_a_warning_only(
    seen: Any, own_house: House, start_process: Callable[..., Process]
) -> None:
    process = start_process(
        "serve",
        environment={"REFUND_DATABASE_URL": url_of(own_house), "REFUND_PORT": "0", "REFUND_OPS_PORT": "0"},
    )
    told = process.until_event("started")
    found = await seen(port=str(urlsplit(told["api"]).port), ops_port=str(urlsplit(told["ops"]).port))
    assert found.keys() == {"REFUND_PORT", "REFUND_OPS_PORT"}
    assert {verdict for verdict, _ in found.values()} == {Verdict.WARNING}


# Without a database of one's own


def test_in_development_nothing_is_made_and_nothing_started(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in SECRETS:
        environment.delenv(name)
    lines = look(tmp_path / "data")
    assert [line.what for line in lines if line.verdict is not Verdict.OK] == ["database"]
    assert lines[-1].verdict is Verdict.UNTRIED
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_database_is_looked_at_where_it_runs(
    environment: pytest.MonkeyPatch, start_process: Callable[..., Process]
) -> None:
    folder = Path(f"/tmp/config-check-{os.urandom(4).hex()}")  # open to the user that root lends the server
    for name in SECRETS:
        environment.delenv(name)
    process = start_process(
        "serve",
        "--data-dir",
        str(folder),
        environment=dict.fromkeys(SECRETS, "") | {"REFUND_PORT": "0", "REFUND_OPS_PORT": "0"},
    )
    process.until_event("started")
    lines = look(folder)
    assert [line.says for line in lines if line.verdict is not Verdict.OK] == []
    assert "schema" in {line.what for line in lines}
    process.end()
    assert look(folder)[-1].verdict is Verdict.UNTRIED
    shutil.rmtree(folder)


def test_without_a_mode_that_is_known_no_database_is_tried(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REFUND_MODE", "prod")
    lines = look(None)
    assert [(line.what, line.verdict) for line in lines] == [
        ("REFUND_MODE", Verdict.WRONG),
        ("database", Verdict.UNTRIED),
    ]
