"""One connection for what the bench itself has to say to PostgreSQL: no time limits, one loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

Answer = TypeVar("Answer")


class Sql:
    """A connection, and the loop that everything asynchronous of the bench runs in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._runner = asyncio.Runner()
        self._address = url.replace("+asyncpg", "")

    def __enter__(self) -> Self:
        self._connection: asyncpg.Connection[Any] = self.wait(asyncpg.connect(self._address))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One that is cut off in the middle of a statement is ended by the server.
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.wait(self._connection.close(timeout=5))
        self._runner.close()

    def wait(self, answer: Awaitable[Answer]) -> Answer:
        """Run a coroutine to its end."""

        async def inner() -> Answer:
            return await answer

        return self._runner.run(inner())

    def run(self, *statements: str) -> None:
        """Each in a transaction of its own."""
        for statement in statements:
            self.wait(self._connection.execute(statement))

    def rows(self, statement: str, *values: Any) -> Sequence[asyncpg.Record]:
        found: Sequence[asyncpg.Record] = self.wait(self._connection.fetch(statement, *values))
        return found

    def value(self, statement: str, *values: Any) -> Any:
        return self.wait(self._connection.fetchval(statement, *values))

    def side_by_side(self, statements: Sequence[str], *, lanes: int, session: str) -> None:
        """Run all of them over so many connections, each begun with ``session``."""
        left = list(reversed(statements))

        async def lane() -> None:
            connection = await asyncpg.connect(self._address)
            try:
                await connection.execute(session)
                while left:
                    await connection.execute(left.pop())
            finally:
                await connection.close(timeout=5)

        async def all_lanes() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(lanes):
                    group.create_task(lane())

        self.wait(all_lanes())
