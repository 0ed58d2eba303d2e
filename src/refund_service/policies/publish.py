"""Publish a merchant's policy: a new version each time, none ever changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, desc, func, select

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Busy, Duplicate, WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.idempotency.keys import Claim, claim_binds, claim_key, kept_under
from refund_service.policies.rules import BUILT_IN, Rules
from refund_service.policies.tables import policies

TRIES: Final = 4


_PARSED: Final[dict[tuple[UUID, int], Rules]] = {}
_PARSED_AT_MOST: Final = 1000


def rules_of(merchant_id: UUID, version: int | None, rules: Mapping[str, Any] | None) -> Rules:
    """The rules of a version as read from its row; the built-in ones where there is no row."""
    if version is None or rules is None:
        return BUILT_IN
    # A version never changes, so what was parsed once stays true; only the room is bounded.
    if len(_PARSED) >= _PARSED_AT_MOST:
        _PARSED.clear()
    kept = _PARSED.get((merchant_id, version))
    if kept is None:
        kept = _PARSED[merchant_id, version] = Rules.model_validate(rules)
    return kept


_CURRENT: Final = (
    select(policies)
    .where(policies.c.merchant_id == P("merchant_id"))
    .order_by(desc(policies.c.version))
    .limit(1)
)


async def current_policy(db: Database, merchant_id: UUID) -> Mapping[str, Any]:
    """The version in force: version, rules, who published it and when."""
    row = await db.row(_CURRENT, merchant_id=merchant_id)
    if row is None:
        return {"version": 0, "rules": BUILT_IN.model_dump(), "published_by": None, "published_at": None}
    return row


def _publish(*, keyed: bool) -> Select[Any]:
    write = WriteSet("policies.publish")
    if keyed:
        claim_key(write)
    write.insert(
        "policy",
        policies,
        {
            "merchant_id": P("merchant_id"),
            "version": P("version"),
            "rules": P("rules"),
            "published_by": P("actor"),
            "published_at": P("now"),
        },
    )
    write.insert("told", *event_values("told", sequence=P("version")))
    return write.done()


_PUBLISH: Final = {keyed: _publish(keyed=keyed) for keyed in (False, True)}
_LATEST: Final = select(func.coalesce(func.max(policies.c.version), 0)).where(
    policies.c.merchant_id == P("merchant_id")
)


async def publish_policy(
    db: Database, merchant_id: UUID, rules: Rules, *, claim: Claim | None, actor: str, now: datetime
) -> bool:
    """Put the rules in force as the next version; returns whether that had been done before."""
    for _ in range(TRIES):
        if await kept_under(db, merchant_id, claim):
            return True
        version = await db.value(_LATEST, merchant_id=merchant_id) + 1
        binds = {
            "merchant_id": merchant_id,
            "version": version,
            "rules": rules.model_dump(mode="json"),
            "actor": actor,
            "now": now,
            "told_id": ids.new_id(),
            "told_type": "policy.published",
            "told_resource": "policy",
            "told_resource_id": merchant_id,
            "told_data": {"version": version, "rules": rules.model_dump(mode="json")},
        }
        if claim is not None:
            binds |= claim_binds(claim, 201, "policy", merchant_id)
        try:
            await db.write(_PUBLISH[claim is not None], **binds)
        except (WriteRefused, Duplicate):
            continue  # another version was published meanwhile: this one comes after it
        return False
    raise Busy("Others are publishing policies of this merchant.")
