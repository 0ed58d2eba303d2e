"""Bringing a database to the schema that this code needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from refund_service.db.columns import XID8
from refund_service.db.errors import Busy, translate
from refund_service.db.schema_state import SchemaRefused, SchemaState, folder, head

LOCK: Final = 7_403_211_884
"""Advisory lock: two deployments that start at once migrate one after the other."""

LOCK_TIMEOUT_MS: Final = 1000
"""How long a table is waited for. All who want the table queue up behind, so it is less than they bear."""


async def migrate(url: str) -> str:
    """Upgrade to ``head()``; returns the revision that is there then.

    The one after it is left as it is: who rolls back to this code need not roll back the schema.
    """
    async with _connection(url) as connection:
        await _wait_for_turn(connection)
        return await connection.run_sync(_upgrade)


async def differences(url: str, metadata: MetaData) -> list[Any]:
    """What ``alembic check`` finds between the tables in the code and a migrated database."""
    async with _connection(url) as connection:
        return await connection.run_sync(partial(_compare, metadata))


def _upgrade(connection: Connection) -> str:
    state = SchemaState(MigrationContext.configure(connection).get_current_revision(), head())
    if state.newer:
        state.insist()
        return str(state.found)
    # The role may bring the limits of requests. A migration may take long; it may not wait for long.
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    connection.commit()
    try:
        command.upgrade(_config(connection), "head")
    except DBAPIError as error:
        connection.rollback()
        if isinstance(translate(error), Busy):
            raise SchemaRefused(
                "A long transaction holds a table that this migration needs. Nothing is half done: "
                "run it again when that transaction has ended."
            ) from error
        raise
    return state.needed


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


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def _wait_for_turn(connection: AsyncConnection) -> None:
    """One at a time, until the connection is closed. Who waits has no transaction open meanwhile.

    Waiting inside ``pg_advisory_lock`` is one: an index that is made concurrently would wait for it
    to end, and it for the index.
    """
    ask = text("SELECT pg_try_advisory_lock(:lock)")
    while not (await connection.execute(ask, {"lock": LOCK})).scalar_one():
        await connection.commit()
        await asyncio.sleep(0.1)
    await connection.commit()
