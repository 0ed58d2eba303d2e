"""Statements made ready for the driver once, and not again for each execution.

SQLAlchemy finds the compiled form of a statement by comparing its whole structure, at each
execution; for the statements of this house, which are constants, that and what follows cost
several times what the driver itself needs (ADR 13). So a statement is compiled at its first
use and kept beside itself: its text, and for each of its places the bind that goes there.

Only constants of a module are to come here, or statements that are made once and kept: one that is
built anew for each request would be compiled anew for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from refund_service.db.writeset import MARK

_Convert = Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class ReadyStatement:
    """A statement's text as PostgreSQL gets it, and what goes into its places."""

    text: str
    places: tuple[tuple[str, _Convert], ...]
    """The name of the bind behind ``$1``, ``$2`` …, and how its value is converted."""
    constants: Mapping[str, Any]
    """What the statement says itself, converted, under names that no bind has."""

    def arguments(self, binds: Mapping[str, Any]) -> list[Any]:
        """The values in the order of their places; ``KeyError`` names one that was forgotten."""
        values = {**self.constants, **binds}
        return [values[name] if convert is None else convert(values[name]) for name, convert in self.places]


class Shelf:
    """The statements that were made ready for one dialect, for as long as they live."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._ready: WeakKeyDictionary[Executable, ReadyStatement | None] = WeakKeyDictionary()

    def take(self, statement: Executable) -> ReadyStatement | None:
        """The statement, ready; ``None`` where its text depends on the values that it is run with."""
        try:
            return self._ready[statement]
        except KeyError:
            ready = self._ready[statement] = make_ready(statement, self._dialect)
            return ready


def make_ready(statement: Executable, dialect: Dialect) -> ReadyStatement | None:
    """Compile the statement; ``None`` where it holds a list, whose length its text would have to show."""
    compiled = cast("SQLCompiler", cast("Any", statement).compile(dialect=dialect))
    if compiled.post_compile_params or compiled.literal_execute_params:
        return None
    converters = cast("Mapping[str, _Convert]", compiled._bind_processors)  # noqa: SLF001 - no other door to them
    said = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    constants: dict[str, Any] = {}
    places: list[tuple[str, _Convert]] = []
    for name in compiled.positiontup or ():
        convert = converters.get(name)
        if name in said:
            constants[f"={name}"] = said[name] if convert is None else convert(said[name])
            places.append((f"={name}", None))
        else:
            places.append((name.removeprefix(MARK), convert))
    return ReadyStatement(compiled.string, tuple(places), constants)
