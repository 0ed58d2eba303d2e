"""Pages of lists: the shape of a page, its limit, and the cursor to the next one.

A cursor is the place of the last row shown, signed together with the filters it was made for: it
cannot be read as a promise, changed, or carried over to another list or another merchant's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import struct
from typing import Annotated, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from refund_service.api.refusals import CursorInvalid

Place = tuple[UUID] | tuple[int, int, UUID]
"""Where a list goes on: behind an id, or behind an event's epoch, transaction and id."""

Item = TypeVar("Item")

MOST: Final = 100
USUAL: Final = 20

_MAC_LENGTH: Final = 16
_BY_ID: Final = struct.Struct(">16s")
_BY_TRANSACTION: Final = struct.Struct(">QQ16s")


class Page(BaseModel, Generic[Item]):
    """One page of a list. Each list names its own, for the clients that are made from the document."""

    data: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` to get the next page; null at the end")


def _whole(value: object) -> object:
    # Queries are text, and pydantic would read " 20" and "2_0" as numbers too.
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise PydanticCustomError("wrong-type", "It is not a whole number.")
    return value


Whole = BeforeValidator(_whole)
"""For numbers in queries, behind their limits: ``amount: Annotated[int, Field(ge=1), Whole] | None``. Told to
``Query``, limits come after it, and the document would not know them."""

Limit = Annotated[int, Field(ge=1, le=MOST), Whole, Query(description="How many at most, 1 to 100")]
"""``limit: Limit = USUAL``"""

Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the page before, with the same filters")
]
"""``cursor: Cursor = None``"""


def filters_fingerprint(**filters: object) -> bytes:
    """What a cursor is bound to: the merchant, the list and every filter, in any order."""
    told = json.dumps(filters, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(told.encode()).digest()


def sign_cursor(secret: bytes, filters: bytes, place: Place) -> str:
    """The cursor that goes on behind ``place``."""
    *numbers, id_ = place
    packed = (_BY_TRANSACTION if numbers else _BY_ID).pack(*numbers, id_.bytes)
    return _written(packed + _mac(secret, filters, packed))


def open_cursor(secret: bytes, filters: bytes, cursor: str) -> Place:
    """The place behind which a cursor goes on; ``CursorInvalid`` unless we made it for these filters."""
    try:
        signed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid() from None
    packed, mac = signed[:-_MAC_LENGTH], signed[-_MAC_LENGTH:]
    # Base64 can spell the same bytes in several ways; ours is one of them.
    if _written(signed) != cursor or not hmac.compare_digest(mac, _mac(secret, filters, packed)):
        raise _invalid()
    if len(packed) == _BY_ID.size:
        return (UUID(bytes=packed),)
    epoch, transaction, id_ = _BY_TRANSACTION.unpack(packed)
    return epoch, transaction, UUID(bytes=id_)


def _written(signed: bytes) -> str:
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def _mac(secret: bytes, filters: bytes, packed: bytes) -> bytes:
    # The length keeps the filters and the place apart: no other pair reads as the same bytes.
    told = b"cursor 1\n" + len(filters).to_bytes(4, "big") + filters + packed
    return hmac.digest(secret, told, "sha256")[:_MAC_LENGTH]


def _invalid() -> CursorInvalid:
    return CursorInvalid("The cursor was not made here for a list with these filters.")
