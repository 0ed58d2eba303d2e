"""What lists have in common: pages of a few sizes, and times that are looked for in the order of ids.

An id begins with its time, and lists are in the order of ids: what was created in a day lies
together, whatever else is asked.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Table, and_, literal_column

from refund_service import ids
from refund_service.db.writeset import P

CLOCKS_DIFFER_BY: Final = timedelta(minutes=1)
"""At most, between a row's id and its ``created_at``: both are told by the process that wrote it."""

_SIZES: Final = (21, 101, 1001)
"""Of pages, with the row that tells that there is another one. Each size is a statement of its own."""


def page_size(limit: int) -> int:
    """The size of page that holds ``limit`` rows."""
    return next(size for size in _SIZES if size >= limit)


def page_limit(size: int) -> ColumnElement[int]:
    """The limit, in the statement itself: a plan that does not know it prepares for the whole table."""
    return literal_column(str(size), Integer)


def created(table: Table, name: str) -> ColumnElement[bool]:
    """The condition of ``created_from`` or ``created_to``, which bounds the ids as well."""
    if name == "created_from":
        return and_(table.c.created_at >= P("created_from"), table.c.id >= P("id_from"))
    return and_(table.c.created_at < P("created_to"), table.c.id < P("id_to"))


def created_binds(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    """The bind parameters of ``created`` beside the times themselves."""
    binds: dict[str, UUID] = {}
    if since is not None:
        binds["id_from"] = ids.first_id_at(since, ahead=-CLOCKS_DIFFER_BY)
    if until is not None:
        binds["id_to"] = ids.first_id_at(until, ahead=CLOCKS_DIFFER_BY)
    return binds
