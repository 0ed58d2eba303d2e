"""The bare statements: what a verb sends to PostgreSQL, sent by pgbench, which is written in C.

What a verb sends is recorded from the verb itself, twice. Binds that differ between the two
recordings are drawn anew for each transaction; the others are the same each time.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql import JSONB, asyncpg

from refund_service.db.embedded.binaries import find_binaries
from refund_service.db.embedded.user import ServerUser
from refund_service.db.engine import Database

DIALECT = asyncpg.dialect()
Sent = tuple[Executable, Mapping[str, Any]]


class Recorder(Database):
    """A database that notes what it is asked."""

    sent: list[Sent]

    async def _run(self, statement: Executable, binds: Mapping[str, Any]) -> Any:
        self.sent.append((statement, dict(binds)))
        return await super()._run(statement, binds)


@dataclass(frozen=True)
class Bare:
    """A pgbench script, and the constants that it is given."""

    script: str
    constants: Mapping[str, str]


async def record(url_database: Recorder, verb: Callable[[Database], Awaitable[object]]) -> list[Sent]:
    """What ``verb`` sends."""
    url_database.sent = []
    await verb(url_database)
    return url_database.sent


def bare_of(once: Sequence[Sent], again: Sequence[Sent], *, chosen: Mapping[Any, str] | None = None) -> Bare:
    """The script that sends the same, from two recordings.

    ``chosen`` names values that are not to be drawn: value → an SQL expression, which may use
    ``:n``, a number from 1 to ``:many``.
    """
    chosen = chosen or {}
    constants: dict[str, str] = {"none": "none"}
    drawn: dict[Any, str] = {}
    statements = []
    for (statement, binds), (_, other_binds) in zip(once, again, strict=True):
        compiled = statement.compile(dialect=DIALECT)  # type: ignore[attr-defined] # every statement of Core has it
        values = compiled.construct_params({f"in_{name}": value for name, value in binds.items()})
        others = compiled.construct_params({f"in_{name}": value for name, value in other_binds.items()})

        def placed(
            match: re.Match[str], compiled: Any = compiled, values: Any = values, others: Any = others
        ) -> str:
            name = compiled.positiontup[int(match[1]) - 1]
            value, cast = values[name], match[2] or ""
            if value is None:
                # Not a NULL of the statement's own, which the planner would cut the statement down by.
                return f"nullif(:none, 'none'){cast}"
            if _key(value) in chosen:
                return f"({chosen[_key(value)]}){cast}"
            if value != others[name] and isinstance(value, UUID | str):
                variable = drawn.setdefault(_key(value), f"d{len(drawn)}")
                return f"('0000000000000' || :{variable}){cast}"
            constant = f"c{len(constants)}"
            constants[constant] = _text(value, compiled.binds[name].type)
            return f":{constant}{cast}"

        statements.append(
            re.sub(r"\$(\d+)(::[A-Z][A-Z ]*(?:\[\])?)?", placed, compiled.string).replace("\n", " ")
        )
    draws = [
        f"\\set {variable} random(1000000000000000000, 8999999999999999999)" for variable in drawn.values()
    ]
    return Bare(
        "\n".join(["\\set n random(1, :many)", *draws, *(f"{one};" for one in statements)]), constants
    )


def _key(value: Any) -> Any:
    return value if isinstance(value, UUID | str | int | bytes) else None


def _text(value: Any, type_: Any) -> str:
    match value:
        case bool():
            return "t" if value else "f"
        case bytes():
            return f"\\x{value.hex()}"
        case datetime():
            return value.isoformat()
        case dict() | list() if isinstance(type_, JSONB):
            return json.dumps(value)
        case list():
            return "{" + ",".join(str(one) for one in value) + "}"
        case _:
            return str(value)


@dataclass(frozen=True)
class Pgbench:
    """What one run of pgbench came to."""

    transactions: int
    seconds: float
    cpu_seconds: float
    """Of pgbench itself; what PostgreSQL used is counted where it runs."""


def run_pgbench(url: str, bare: Bare, *, clients: int, transactions: int, many: int) -> Pgbench:
    """Run the script ``transactions`` times over so many connections, statements prepared."""
    address = urlsplit(url)
    query = parse_qs(address.query)
    host = query["host"][0]
    binaries = find_binaries(ServerUser.current())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        script = Path(folder, "script.sql")
        script.write_text(bare.script)
        constants = [
            f"--define={name}={value}" for name, value in (bare.constants | {"many": str(many)}).items()
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = subprocess.run(  # noqa: S603 - our own statements
            [
                binaries.path("pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={script}",
                f"--client={clients}", f"--transactions={-(-transactions // clients)}", *constants,
                f"--host={host}", f"--port={query['port'][0]}", f"--username={address.username}",
                address.path.removeprefix("/"),
            ],
            env={"PGPASSWORD": unquote(address.password or ""), "PGOPTIONS": "-c jit=off", "LC_ALL": "C"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = re.search(r"actually processed: (\d+)/(\d+)", told.stdout)
    rate = re.search(r"tps = ([0-9.]+)", told.stdout)
    if told.returncode != 0 or not done or not rate or done[1] != done[2]:
        raise RuntimeError(f"pgbench: {told.stdout[-500:]}{told.stderr[-1500:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Pgbench(int(done[1]), int(done[1]) / float(rate[1]), cpu)
