"""The write set: guarded updates and inserts that become one statement, all of it or nothing.

    claim = WriteSet("refunds.create")
    key = claim.insert("key", idempotency_keys, {...}, on_conflict_nothing=True)
    held = claim.guard("payment", update(payments).where(...).values(...), payments.c.version)
    refund = claim.insert("refund", refunds, {..., "payment_version": held.c.version})
    CREATE = claim.done(version=held.c.version)

Each part becomes a CTE that runs only if the one before it did, in the order written: two
statements that touch the same rows take their locks in the same order. The final SELECT demands
the exact count of every part and otherwise calls ``write_refused(part)``, which raises, so that
everything rolls back, the key's claim too.

Built once, as a constant of a module, with bind parameters: built anew for each request it
would cost eight times the CPU. Rules: one guard per row; a row inserted here cannot be updated
here; after a wait only what a guard returns is fresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Delete,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    case,
    exists,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import KeyedColumnElement
from sqlalchemy.types import NullType, TypeEngine

MARK: Final = "in_"


def P(name: str, type_: TypeEngine[Any] | type[TypeEngine[Any]] | None = None) -> BindParameter[Any]:  # noqa: N802 - reads as the placeholder it is
    """A bind parameter; in an insert it takes its column's type.

    Marked, because SQLAlchemy takes a parameter that is named like a column for a value to SET.
    """
    return bindparam(f"{MARK}{name}", type_=type_)


def marked(binds: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the placeholders that ``P`` made."""
    return {f"{MARK}{name}": value for name, value in binds.items()}


class WriteSet:
    """Parts in the order in which they lock; ``done`` makes the statement."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._parts: list[tuple[str, CTE, int | ColumnElement[int]]] = []

    def guard(
        self,
        name: str,
        statement: Update | Delete,
        *returning: KeyedColumnElement[Any],
        times: int | ColumnElement[int] = 1,
    ) -> CTE:
        """An update or delete that must hit exactly ``times`` rows."""
        columns = returning or tuple(statement.table.primary_key)
        if self._parts:
            statement = statement.where(self._went_before())
        return self._add(name, statement.returning(*columns).cte(name), times)

    def insert(
        self,
        name: str,
        table: Table,
        values: Mapping[str, Any],
        *,
        when: ColumnElement[bool] | None = None,
        rows: FromClause | None = None,
        on_conflict_nothing: bool = False,
        times: int | ColumnElement[int] | None = None,
    ) -> CTE:
        """Insert one row; only ``when`` that holds; or one for each of the set ``rows``.

        With ``on_conflict_nothing`` a row that is there already counts as a refused guard, not
        as an error of the database: for claims that are lost in the ordinary course.
        """
        columns = {column: _typed(table, column, value) for column, value in values.items()}
        source = select(*(value.label(column) for column, value in columns.items()))
        for part in self._named_in(columns.values()):
            source = source.select_from(part)
        if rows is not None:
            source = source.select_from(rows)
        if self._parts:
            source = source.where(self._went_before())
        if when is not None:
            source = source.where(when)
        statement = insert(table).from_select(list(columns), source)
        if on_conflict_nothing:
            statement = statement.on_conflict_do_nothing()
        if times is None:
            times = 1 if when is None else case((when, _constant(1)), else_=_constant(0))
        return self._add(name, statement.returning(*table.primary_key).cte(name), times)

    def done(self, **answer: Any) -> Select[Any]:
        """The statement: every count checked, in order; then ``answer``, from what the guards returned."""
        verdict = case(
            *(
                (
                    select(func.count()).select_from(part).scalar_subquery() != _count(times),
                    func.write_refused(_constant(name)),
                )
                for name, part, times in self._parts
            ),
            else_=_constant(0),
        )
        told = [
            (select(value).scalar_subquery() if self._named_in([value]) else value).label(label)
            for label, value in answer.items()
        ]
        return select(verdict.label("refused"), *told)

    def _add(self, name: str, part: CTE, times: int | ColumnElement[int]) -> CTE:
        self._parts.append((name, part, times))
        return part

    def _went_before(self) -> ColumnElement[bool]:
        """That the latest part which must touch a row has done so: the chain that orders the locks."""
        for _, part, times in reversed(self._parts):
            if isinstance(times, int):
                return exists(select(_constant(1)).select_from(part))
        raise ValueError(f"{self.name}: the first part must always touch a row")

    def _named_in(self, values: Any) -> list[CTE]:
        """The earlier parts whose returned columns stand in ``values``."""
        named: list[CTE] = []
        for value in values:
            for column in value._from_objects:  # noqa: SLF001 - SQLAlchemy's own way of asking what an expression reads
                if isinstance(column, CTE) and column not in named:
                    named.append(column)
        return named


def _constant(value: str | int) -> ColumnElement[Any]:
    """A value of ours that stands in the statement itself, so that it costs no parameter."""
    if isinstance(value, int):
        return literal_column(str(value), Integer)
    if not value.isidentifier():
        raise ValueError(value)
    return literal_column(f"'{value}'", Text)


def _count(times: int | ColumnElement[int]) -> ColumnElement[int]:
    return _constant(times) if isinstance(times, int) else times


def _typed(table: Table, column: str, value: Any) -> ColumnElement[Any]:
    type_ = table.c[column].type
    if isinstance(value, BindParameter) and isinstance(value.type, NullType):
        return bindparam(value.key, type_=type_)
    if isinstance(value, ColumnElement):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return _constant(value)
    return literal(value, type_)
