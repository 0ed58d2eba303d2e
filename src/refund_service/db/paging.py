"""What lists have in common: pages of a few sizes, and times that are looked for in the order of ids.

An id begins with its time, and lists are in the order of ids: what was created in a day lies
together, whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Integer, Table, and_, literal_column, select

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


_AHEAD: Final = {
    "created_from": -CLOCKS_DIFFER_BY,
    "created_to": CLOCKS_DIFFER_BY,
    # What was changed before a moment had been made before it. After a moment anything may have changed.
    "updated_to": CLOCKS_DIFFER_BY,
}


def in_time(table: Table, name: str) -> ColumnElement[bool]:
    """The condition of ``created_from`` and the like, which bounds the ids as well where it can."""
    column = table.c.created_at if name.startswith("created") else table.c.updated_at
    since = name.endswith("from")
    within = column >= P(name) if since else column < P(name)
    if name not in _AHEAD:
        return within
    bound = P(f"{name}_id")
    return and_(within, table.c.id >= bound if since else table.c.id < bound)


def bounds_of_ids(given: Mapping[str, Any]) -> dict[str, UUID]:
    """The bind parameters of ``in_time`` beside the times themselves."""
    return {
        f"{name}_id": ids.first_id_at(given[name], ahead=ahead)
        for name, ahead in _AHEAD.items()
        if name in given
    }


def of_the_one_named(column: ColumnElement[Any], word: Column[Any], name: str) -> ColumnElement[bool]:
    """That ``column`` holds our id of what the merchant calls by its own word."""
    owners = word.table
    owner = select(owners.c.id).where(owners.c.merchant_id == P("merchant_id"), word == P(name))
    return column == owner.scalar_subquery()
