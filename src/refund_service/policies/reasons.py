"""Why money is given back: a catalogue per merchant, on top of these defaults."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from refund_service.db.engine import Database
from refund_service.db.writeset import P
from refund_service.errors import Unprocessable
from refund_service.policies.tables import reasons

DEFAULTS: Final = {
    "customer_request": "The customer asked for it",
    "damaged": "The goods arrived damaged",
    "defective": "The goods do not work",
    "duplicate": "It was charged twice",
    "error": "It was charged by mistake",
    "fraudulent": "The payment was not the customer's",
    "goodwill": "Goodwill",
    "not_as_described": "The goods are not as described",
    "not_received": "The goods did not arrive",
    "order_canceled": "The order was canceled",
    "out_of_stock": "The goods could not be delivered",
    "price_adjustment": "The price was corrected",
    "returned": "The goods came back",
    "withdrawal": "The customer withdrew from the contract",
}


class ReasonUnknown(Unprocessable):
    code = "reason-unknown"
    title = "No such reason"
    help = "GET /v1/reasons lists the reasons; PUT /v1/reasons/{code} adds one."


def is_active(code: str, *, own: bool | None) -> bool:
    """Whether a reason may be given: the merchant's own word (``None`` where there is none) wins."""
    return own if own is not None else code in DEFAULTS


_OWN: Final = select(reasons.c.code, reasons.c.title, reasons.c.active).where(
    reasons.c.merchant_id == P("merchant_id")
)


async def catalogue(db: Database, merchant_id: UUID) -> list[dict[str, str | bool]]:
    """Every reason of the merchant, the defaults included, by code."""
    known: dict[str, dict[str, str | bool]] = {
        code: {"code": code, "title": title, "active": True} for code, title in DEFAULTS.items()
    }
    for row in await db.rows(_OWN, merchant_id=merchant_id):
        known[row["code"]] = {"code": row["code"], "title": row["title"], "active": row["active"]}
    return [known[code] for code in sorted(known)]


_PUT: Final = insert(reasons).values(
    merchant_id=P("merchant_id"), code=P("code"), title=P("title"), active=P("active")
)
_PUT_AGAIN: Final = _PUT.on_conflict_do_update(
    index_elements=[reasons.c.merchant_id, reasons.c.code],
    set_={"title": _PUT.excluded.title, "active": _PUT.excluded.active},
).returning(reasons.c.code)


async def put_reason(db: Database, merchant_id: UUID, code: str, title: str, *, active: bool) -> None:
    """Add a reason, rename it, or switch it off."""
    await db.write(_PUT_AGAIN, merchant_id=merchant_id, code=code, title=title, active=active)
