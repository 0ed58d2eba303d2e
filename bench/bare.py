"""The bare statements: what a verb sends to PostgreSQL, made into a script for pgbench.

What a verb sends is recorded from the verb itself, twice. Binds that differ between the two
recordings are drawn anew for each transaction; the others are the same each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Dialect, Executable
from sqlalchemy.dialects.postgresql import JSONB, asyncpg

from refund_service.db.engine import Database

DIALECT: Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy's own
Sent = tuple[Executable, Mapping[str, Any]]

ANY = "\\set n random(1, :many)"
"""Each transaction draws its ``:n`` from 1 to ``:many``."""

EACH_ONCE = "\\set i :i + 1\n\\set n :from + :client_id * :each + :i"
"""Each transaction gets a number of its own: the clients share them out."""

_FROM, _TO = 10**18, 9 * 10**18 - 1
"""Nineteen digits: with thirteen zeros before them they read as a uuid."""


class Recorder(Database):
    """A database that notes what it is asked."""

    sent: list[Sent]

    async def _run(self, statement: Executable, binds: dict[str, Any]) -> Any:
        self.sent.append((statement, dict(binds)))
        return await super()._run(statement, binds)


@dataclass(frozen=True)
class Bare:
    """Statements with ``:variables`` in them: pgbench's draws, and the constants that it is given."""

    statements: Sequence[str]
    draws: Sequence[str]
    constants: Mapping[str, str]

    def script(self, number: str = ANY) -> str:
        """For pgbench; ``number`` says how it comes by ``:n``."""
        draws = [f"\\set {variable} random({_FROM}, {_TO})" for variable in self.draws]
        return "\n".join([number, *draws, *(f"{statement};" for statement in self.statements)])

    def examples(self, number: int) -> list[str]:
        """The statements with values in them, as for one transaction."""
        values = {"n": str(number)} | {variable: str(_FROM + 7) for variable in self.draws}
        quoted = {name: "'" + value.replace("'", "''") + "'" for name, value in self.constants.items()}
        values |= quoted
        return [
            re.sub(r"(?<!:):([a-z]\w*)", lambda found: values[found[1]], statement)
            for statement in self.statements
        ]


def bare_of(once: Sequence[Sent], again: Sequence[Sent], *, chosen: Mapping[Any, str] | None = None) -> Bare:
    """The script that sends the same, from two recordings.

    ``chosen`` names values that are not to be drawn: value → an SQL expression, which may use ``:n``.
    """
    chosen = chosen or {}
    constants: dict[str, str] = {"none": "none"}
    drawn: dict[Any, str] = {}
    statements = []
    for first, second in zip(once, again, strict=True):
        text, names, values, types = _spelled(*first)
        others = _spelled(*second)[2]

        def placed(
            match: re.Match[str],
            names: Sequence[str] = names,
            values: Mapping[str, Any] = values,
            types: Mapping[str, Any] = types,
            others: Mapping[str, Any] = others,
        ) -> str:
            name = names[int(match[1]) - 1]
            value, cast = values[name], match[2] or ""
            if value is None:
                # Not a NULL of the statement's own, which the planner would cut the statement down by.
                return f"nullif(:none, 'none'){cast}"
            if isinstance(value, UUID | str | datetime) and value in chosen:
                return f"({chosen[value]}){cast}"
            if value != others[name] and isinstance(value, UUID | str):
                variable = drawn.setdefault(value, f"d{len(drawn)}")
                return f"('0000000000000' || :{variable}){cast}"
            constant = f"c{len(constants)}"
            constants[constant] = _text(value, types.get(name))
            return f":{constant}{cast}"

        statements.append(re.sub(r"\$(\d+)(::[A-Z][A-Z ]*(?:\[\])?)?", placed, text).replace("\n", " "))
    return Bare(statements, list(drawn.values()), constants)


def _spelled(
    statement: Executable, binds: Mapping[str, Any]
) -> tuple[str, Sequence[str], Mapping[str, Any], Mapping[str, Any]]:
    """The text with ``$1`` …, the name behind each, its value and its type."""
    compiled = statement.compile(dialect=DIALECT)  # type: ignore[attr-defined] # every statement of Core has it
    state = compiled.construct_expanded_state({f"in_{name}": value for name, value in binds.items()})
    types = {name: bind.type for name, bind in compiled.binds.items()}
    return state.statement, state.positiontup or (), state.parameters, types


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
