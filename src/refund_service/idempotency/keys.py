"""Idempotency keys: claimed in the write that acts, looked up before anything else.

Kept for ever are the fingerprint, the status code, and the kind and id of what was made; the
answer itself is not. A replay shows the resource as it now is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from refund_service.db.engine import Database
from refund_service.db.writeset import P, WriteSet
from refund_service.errors import Unprocessable
from refund_service.idempotency.tables import idempotency_keys


class IdempotencyKeyReused(Unprocessable):
    code = "idempotency-key-reused"
    title = "The idempotency key was used for another request"
    help = "Use a new key for a new request, or send the first request again unchanged."


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request wants to be remembered by."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What was made of an earlier request under the same key."""

    status_code: int
    kind: str
    resource_id: UUID


_columns = (
    idempotency_keys.c.fingerprint.label("kept_fingerprint"),
    idempotency_keys.c.status_code,
    idempotency_keys.c.kind,
    idempotency_keys.c.resource_id,
)

_LOOK_UP = select(*_columns).where(
    idempotency_keys.c.merchant_id == P("merchant_id"), idempotency_keys.c.key == P("key")
)


async def kept_under(db: Database, merchant_id: UUID, claim: Claim | None) -> Kept | None:
    """What was made of the same request before; raises ``IdempotencyKeyReused`` for another request."""
    if claim is None:
        return None
    return kept_as(await db.row(_LOOK_UP, merchant_id=merchant_id, key=claim.key), claim)


def kept_as(found: Mapping[str, Any] | None, claim: Claim) -> Kept | None:
    """The same from a row that was read together with other facts."""
    if found is None:
        return None
    if bytes(found["kept_fingerprint"]) != claim.fingerprint:
        raise IdempotencyKeyReused(
            "This key belongs to a request with another method, path or body.", idempotency_key=claim.key
        )
    return Kept(found["status_code"], found["kind"], found["resource_id"])


def claim_key(write: WriteSet) -> None:
    """The first part of a write set: take the key, or be refused as ``key``."""
    write.insert(
        "key",
        idempotency_keys,
        {
            "merchant_id": P("merchant_id"),
            "key": P("claim_key"),
            "fingerprint": P("claim_fingerprint"),
            "status_code": P("claim_status_code"),
            "kind": P("claim_kind"),
            "resource_id": P("claim_resource_id"),
            "created_at": P("now"),
        },
        on_conflict_nothing=True,
    )


def claim_binds(claim: Claim, status_code: int, kind: str, resource_id: UUID) -> dict[str, Any]:
    """The bind parameters of ``claim_key``."""
    return {
        "claim_key": claim.key,
        "claim_fingerprint": claim.fingerprint,
        "claim_status_code": status_code,
        "claim_kind": kind,
        "claim_resource_id": resource_id,
    }
