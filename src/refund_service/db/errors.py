"""What the database refuses, in our words. ``translate`` is the only reader of SQLSTATEs."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from refund_service.errors import Conflict, RefundServiceError, Unavailable

WRITE_REFUSED: Final = "RF001"
"""Raised by ``write_refused(guard)``: everything in the statement rolls back."""


class WriteRefused(Exception):
    """A guard of a write set did not hold. The verb reads again and says why."""

    def __init__(self, guard: str) -> None:
        super().__init__(guard)
        self.guard = guard


class Duplicate(Exception):
    """A unique value is taken. The verb reads again and says by what."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class Deadlock(Exception):
    """Two writes waited for each other; this one was rolled back and may be tried again."""


class Busy(Unavailable):
    code = "busy"
    title = "Others are changing the same thing"
    help = "Nothing was done. Send the same request again after Retry-After seconds."


class IdempotencyKeyInUse(Conflict):
    code = "idempotency-key-in-use"
    title = "A request with this key is still running"
    help = "Send the same request again after Retry-After seconds: it answers what the first one did."
    retryable = True
    retry_after = 1


class DatabaseUnavailable(Unavailable):
    code = "database-unavailable"
    title = "The database is away"
    help = "Nothing was acknowledged. Send the same request with the same Idempotency-Key again."


class InvariantBroken(RefundServiceError):
    """A CHECK said no where a guard should have: our mistake, never the caller's."""

    code = "invariant-broken"
    status = 500
    title = "The database kept us from a mistake"
    help = "Nothing was done. Tell the operator the request id."


_DRIVERS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_AWAY: Final = ("08", "28", "3D", "53", "57")
"""SQLSTATE classes: connection, authorisation, catalogue, resources, operator intervention."""

READ_ONLY: Final = "25006"
"""A primary that has been demoted, or a standby: the one to write to is elsewhere."""


def translate(error: Exception) -> Exception:
    """The error that a caller of ``db/`` meets in place of the driver's."""
    if isinstance(error, PoolTimeout):
        return Busy("Every database connection is taken.")
    if isinstance(error, (OSError, TimeoutError)):
        return DatabaseUnavailable("The database does not answer.")
    if isinstance(error, DBAPIError):
        # From a transaction, which SQLAlchemy runs: the driver's own error stands behind its own.
        cause = getattr(error.orig, "__cause__", None) or error.orig
        return _translated(cause, lost=error.connection_invalidated) or error
    if isinstance(error, AsyncAdapt_asyncpg_dbapi.Error):
        # From SQLAlchemy's pool, while it was making a connection.
        return _translated(error.__cause__ or error) or error
    if isinstance(error, _DRIVERS) and not isinstance(
        error, ValueError
    ):  # ValueError: a bind that does not fit
        return _translated(error) or error
    return error


def _translated(cause: Any, *, lost: bool = False) -> Exception | None:
    state = getattr(cause, "sqlstate", None) or ""
    match state:
        case "RF001":
            return WriteRefused(getattr(cause, "message", str(cause)))
        case "23505":
            return Duplicate(getattr(cause, "constraint_name", None) or "")
        case "55P03":
            # What was waited for stands in the error's context, and nowhere else.
            waited_for = re.search(r'in relation "(\w+)"', getattr(cause, "context", None) or "")
            if waited_for and waited_for[1] == "idempotency_keys":
                return IdempotencyKeyInUse("The first request with this key has not been answered yet.")
            return Busy("The row is being changed by others.")
        case "40P01" | "40001":
            return Deadlock()
        case "57014":
            return Busy("The statement took too long and was stopped.")
        case "23514" | "23503" | "23502":
            return InvariantBroken(f"The database refused the write ({state}).")
        case _ if state[:2] in _AWAY or state == READ_ONLY or lost:
            return DatabaseUnavailable("The database is not to be reached.")
    # asyncpg raises its own interface errors, without a state, when a connection has gone.
    return None if state else DatabaseUnavailable("The connection to the database was lost.")


_NO_ENTRY: Final = {
    "28P01": "the role or its password is refused",
    "28000": "the role may not connect from here",
    "3D000": "there is no database of this name",
    "42501": "the role may not read what it needs",
    "53300": "every connection that it allows is taken",
    "57P03": "it is starting up or shutting down",
}


def why_away(error: Exception) -> str:
    """For the operator, in a few words that hold nothing of the address: why no connection was made."""
    for one in _causes(error):
        if told := _NO_ENTRY.get(getattr(one, "sqlstate", None) or ""):
            return told
        match one:
            case socket.gaierror():
                return "the name of its host is not known"
            case TimeoutError():
                return "it does not answer"
            case ConnectionRefusedError():
                return "nothing listens there"
            case FileNotFoundError():
                return "its socket is not there"
            case ConnectionError():
                return "it ends the connection"
    return "it cannot be reached"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
