"""Which schema is there, and whether this code can work on it. Asked by every process that serves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import text

from refund_service.db.engine import Database


class SchemaRefused(Exception):
    """This code cannot work on the schema that it finds, or could not change it now."""


def folder() -> Path:
    """Where the migrations are: inside the wheel, or beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parents[1] / "migrations"


@cache
def head() -> str:
    """The revision that this code was written for: migrations are numbered, and each begins with its own.

    Alembic would say the same, for ten megabytes that no serving process needs otherwise.
    """
    return max(path.name.partition("_")[0] for path in (folder() / "versions").glob("[0-9]*_*.py"))


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The schema that is there beside the one that this code was written for."""

    found: str | None
    needed: str

    @property
    def borne(self) -> bool:
        """Schemas expand before they contract: code bears its own and the one right after it."""
        return self.found is not None and 0 <= self._ahead <= 1

    @property
    def newer(self) -> bool:
        """Whether code of a later version has been here."""
        return self.found is not None and self._ahead > 0

    def insist(self) -> None:
        """Raise ``SchemaRefused``, with what to do, where this code cannot work."""
        if self.borne:
            return
        there = f"is {self.found}" if self.found else "is not there yet"
        todo = "start a newer version" if self.newer else "run `refund-service migrate` first"
        raise SchemaRefused(f"The database's schema {there}, this version needs {self.needed}: {todo}.")

    @property
    def _ahead(self) -> int:
        found = int(self.found) if self.found and self.found.isdigit() else 0
        return found - int(self.needed)


# Constants, because readiness is asked every few seconds and a new statement is compiled anew.
_PRESENT: Final = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_FOUND: Final = text("SELECT version_num FROM alembic_version")


async def schema_state(db: Database) -> SchemaState:
    """Whether this code can work on the schema that it finds. Raises where there is no database."""
    present = await db.value(_PRESENT)
    found = await db.value(_FOUND) if present else None
    return SchemaState(found, head())
