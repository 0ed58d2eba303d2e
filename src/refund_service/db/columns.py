"""How every table is built: names of constraints, the key led by the merchant, the usual columns.

``merchant_id`` leads every primary key, unique index and foreign key of a merchant's table, so
that no row can point into another merchant's and the tables can later be distributed by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    MetaData,
    Text,
    Uuid,
)
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


class XID8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def merchant_key() -> Column[Any]:
    """The first column of a merchant's table and of its primary key."""
    return Column("merchant_id", Uuid, primary_key=True)


def row_id(name: str = "id") -> Column[Any]:
    """A time-ordered id (see ``ids.py``) inside a merchant's table."""
    return Column(name, Uuid, primary_key=True)


def moment(name: str, *, nullable: bool = False) -> Column[Any]:
    """A point in time with its zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def minor_units(name: str) -> Column[Any]:
    """An amount in the smallest unit of the row's currency."""
    return Column(name, BigInteger, nullable=False)


def text(name: str, *, nullable: bool = False) -> Column[Any]:
    """Text without a length of its own: the edge bounds it."""
    return Column(name, Text, nullable=nullable)


def belongs_to(table: str, column: str) -> ForeignKeyConstraint:
    """A reference that cannot leave the merchant."""
    return ForeignKeyConstraint(
        ["merchant_id", column],
        [f"{table}.merchant_id", f"{table}.id"],
    )


def of_merchant() -> ForeignKeyConstraint:
    """The merchant that a table's rows belong to."""
    return ForeignKeyConstraint(["merchant_id"], ["merchants.id"])


def one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    """A CHECK made from a Python table of words, in place of an enum type."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
