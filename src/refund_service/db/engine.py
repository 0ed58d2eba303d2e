"""One engine per process, and the few ways in which a verb may talk to the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from weakref import WeakValueDictionary

import asyncpg
from sqlalchemy import Executable, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from refund_service import ids
from refund_service.db.errors import READ_ONLY, Busy, Deadlock, IdempotencyKeyInUse, translate
from refund_service.db.ready import Shelf
from refund_service.db.writeset import marked

PATIENCE: Final = 1.5
"""Seconds to wait for another request with the same idempotency key or over the same payment."""

AT_ONE_PAYMENT: Final = 2
"""Writes of this process over one payment: while one holds the row, the next is there already."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How to reach PostgreSQL and how long to wait for it."""

    url: str
    pool_size: int = 6
    pool_timeout: float = 5.0
    lock_timeout_ms: int = 1500
    statement_timeout_ms: int = 15_000
    pgbouncer: bool = False
    """Behind a pooler in transaction mode, statements are not prepared under a name."""
    application_name: str = "refund-service"


Row = Mapping[str, Any]
"""A row that was read: its columns by name."""


ANSWERS_WITHIN: Final = 20.0
"""Seconds, longer than PostgreSQL's own limit for a statement: by then the line to it is dead, unsaid."""

AFTER_DEADLOCK: Final = 0.02
"""Seconds."""


class Database:
    """A pool of connections in autocommit: one statement is one transaction.

    ``rows`` and ``row`` read, ``write`` runs one write set. A connection is held for one round
    trip and never while Python thinks. ``transaction`` is for the few verbs that need several
    statements, which say why.
    """

    def __init__(self, engine: AsyncEngine, *, pooler: bool = False) -> None:
        self._engine = engine
        # Behind a pooler in transaction mode the driver may keep no statement: SQLAlchemy sees to that.
        self._shelf = None if pooler else Shelf(engine.dialect)
        self._turns: WeakValueDictionary[tuple[Any, Any], asyncio.Semaphore] = WeakValueDictionary()

    @classmethod
    def connect(cls, options: DatabaseOptions) -> Database:
        """A pool for ``options``; nothing is connected before the first statement."""
        return cls(make_engine(options), pooler=options.pgbouncer)

    async def rows(self, statement: Executable, /, **binds: Any) -> Sequence[Row]:
        """Every row that ``statement`` returns."""
        return await self._run(statement, binds)

    async def row(self, statement: Executable, /, **binds: Any) -> Row | None:
        """The first row that ``statement`` returns, or ``None``."""
        found = await self._run(statement, binds)
        return found[0] if found else None

    async def value(self, statement: Executable, /, **binds: Any) -> Any:
        """The first column of the first row, or ``None``."""
        found = await self.row(statement, **binds)
        return next(iter(found.values())) if found else None

    async def write(self, statement: Executable, /, **binds: Any) -> Row:
        """Run a write set (``db/writeset.py``): all of it, or nothing and an error that says which guard.

        Requests with one idempotency key wait for each other here, and so do writes over one
        payment: waiting in the database, a hundred of them would hold every connection.
        """
        if "claim_key" not in binds:
            return await self._write_over_payment(statement, binds)
        key = (binds["merchant_id"], binds["claim_key"])
        in_use = IdempotencyKeyInUse("The first request with this key has not been answered yet.")
        async with self._turn(key, at_once=1, too_long=in_use):
            return await self._write_over_payment(statement, binds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction over several statements."""
        try:
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="READ COMMITTED")
                async with connection.begin():
                    yield connection
        except Exception as error:
            raise translate(error) from error

    async def missing_limits(self) -> list[str]:
        """Settings of the session that PostgreSQL does not have as this service needs them.

        Behind a pooler they cannot be set per connection: the role has to bring them.
        """
        shown = await self.row(_LIMITS)
        wrong = {name: value for name, value in (shown or {}).items() if value in {"0", "off", "local"}}
        return [f"{name} is {value}" for name, value in sorted(wrong.items())]

    async def close(self) -> None:
        """Give every connection back to PostgreSQL."""
        await self._engine.dispose()

    async def _write_over_payment(self, statement: Executable, binds: dict[str, Any]) -> Row:
        if "payment_id" not in binds:
            return await self._write(statement, binds)
        payment = (binds["merchant_id"], binds["payment_id"])
        async with self._turn(
            payment, at_once=AT_ONE_PAYMENT, too_long=Busy("The payment is being changed.")
        ):
            return await self._write(statement, binds)

    @asynccontextmanager
    async def _turn(self, what: tuple[Any, Any], *, at_once: int, too_long: Exception) -> AsyncIterator[None]:
        """Be one of so many of this process at a time; after ``PATIENCE`` seconds ``too_long`` is raised."""
        turn = self._turns.setdefault(what, asyncio.Semaphore(at_once))
        try:
            # A timer only where there is someone to wait for.
            await (asyncio.wait_for(turn.acquire(), PATIENCE) if turn.locked() else turn.acquire())
        except TimeoutError:
            raise too_long from None
        try:
            yield
        finally:
            turn.release()

    async def _write(self, statement: Executable, binds: dict[str, Any]) -> Row:
        try:
            return (await self._run(statement, binds))[0]
        except Deadlock:
            # It was rolled back; a moment later whoever it met has gone on.
            await asyncio.sleep(ids.jitter(AFTER_DEADLOCK))
        try:
            return (await self._run(statement, binds))[0]
        except Deadlock as again:
            raise Busy("Others keep changing the same rows.") from again

    async def _run(self, statement: Executable, binds: dict[str, Any]) -> Sequence[Row]:
        try:
            ready = self._shelf.take(statement) if self._shelf else None
            if ready is not None:
                return await self._fetch(ready.text, ready.arguments(binds))
            async with self._engine.connect() as connection:
                result = await connection.execute(statement, marked(binds))
                return cast("Sequence[Row]", result.mappings().all()) if result.returns_rows else []
        except Exception as error:
            told = translate(error)
            if told is error:
                raise
            raise told from error

    async def _fetch(self, text_: str, arguments: list[Any]) -> Sequence[Row]:
        """Run a statement that is ready, on a connection of SQLAlchemy's pool."""
        lent = await greenlet_spawn(self._engine.sync_engine.raw_connection)
        driver = cast("asyncpg.Connection[Any]", lent.driver_connection)
        try:
            rows = await driver.fetch(text_, *arguments, timeout=ANSWERS_WITHIN)
        except BaseException as error:
            if driver.is_closed() or getattr(error, "sqlstate", None) == READ_ONLY:
                # The others were made to the same server, which may have gone: none is taken unseen.
                self._engine.sync_engine.pool._invalidate(lent, error)  # noqa: SLF001 - as SQLAlchemy does itself
            elif not isinstance(error, asyncpg.PostgresError):
                # Cut off in the middle: no one may get it who would believe it to be idle.
                lent.invalidate(error)
            raise
        finally:
            lent.close()
        return [dict(row) for row in rows]


_LIMITS: Final = text(
    "SELECT current_setting('lock_timeout') AS lock_timeout, "
    "current_setting('statement_timeout') AS statement_timeout, "
    "current_setting('synchronous_commit') AS synchronous_commit"
)


def make_engine(options: DatabaseOptions) -> AsyncEngine:
    """The engine behind a ``Database``."""
    connect_args: dict[str, Any] = {
        "timeout": 5,
        "server_settings": {
            "application_name": options.application_name,
            "timezone": "UTC",
            "lock_timeout": str(options.lock_timeout_ms),
            "statement_timeout": str(options.statement_timeout_ms),
            "idle_in_transaction_session_timeout": "15000",
            "jit": "off",
            # An acknowledgement means the commit is on disk, whatever the server's default.
            "synchronous_commit": "on",
        },
        # Every statement of ours is prepared once per connection, however long it is; and planned anew
        # every few minutes, because a plan that was made while a table was small is a bad one later.
        "max_cacheable_statement_size": 0,
        "max_cached_statement_lifetime": 300,
    }
    if options.pgbouncer:
        connect_args |= {"statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}
        connect_args["server_settings"] = {"application_name": options.application_name}
    return create_async_engine(
        options.url,
        isolation_level="AUTOCOMMIT",
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=options.pool_timeout,
        pool_use_lifo=True,
        # Nothing is left to roll back: a statement is its own transaction, and ``transaction`` ends its own.
        pool_reset_on_return=None,
        connect_args=connect_args,
        query_cache_size=500,
    )
