"""Bringing a database to the schema that this code needs, and saying whether it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from refund_service.db.columns import XID8
from refund_service.db.engine import Database

LOCK = 7_403_211_884
"""Advisory lock: two deployments that start at once migrate one after the other."""


def folder() -> Path:
    """Where the migrations are: inside the wheel, or beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parents[1] / "migrations"


def head() -> str:
    """The revision that this code was written for."""
    found = ScriptDirectory(str(folder())).get_current_head()
    if found is None:
        raise RuntimeError(f"no migrations in {folder()}")
    return found


async def migrate(url: str) -> str:
    """Upgrade to ``head()``; returns the revision reached."""
    await _run(url, _upgrade)
    return head()


async def differences(url: str, metadata: MetaData) -> list[Any]:
    """What ``alembic check`` finds between the tables in the code and a migrated database."""
    found: list[Any] = await _run(url, partial(_compare, metadata))
    return found


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The schema that is there beside the one that this code was written for."""

    found: str | None
    needed: str
    borne: bool


async def schema_state(db: Database) -> SchemaState:
    """Whether this code can work on the schema that it finds.

    Schemas expand before they contract, so code bears the schema that comes right after its own,
    and none older or later. Raises ``DatabaseUnavailable`` where there is no database.
    """
    present = await db.value(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    found = await db.value(text("SELECT version_num FROM alembic_version")) if present else None
    needed = _head()
    borne = found is not None and found.isdigit() and int(needed) <= int(found) <= int(needed) + 1
    return SchemaState(found, needed, borne)


_head = cache(head)


def _upgrade(connection: Connection) -> None:
    config = _config(connection)
    # Whoever comes second waits for the first, however long that takes; no table is waited for.
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    try:
        command.upgrade(config, "head")
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
        connection.commit()


def _compare(metadata: MetaData, connection: Connection) -> list[Any]:
    dialect: Any = connection.dialect
    dialect.ischema_names.setdefault("xid8", XID8)
    found: list[Any] = compare_metadata(
        MigrationContext.configure(connection, opts={"compare_type": True}), metadata
    )
    return found


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder()))
    config.attributes["connection"] = connection
    return config


async def _run(url: str, work: Callable[[Connection], Any]) -> Any:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
