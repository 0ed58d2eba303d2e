"""API keys: ``rk_test_…`` or ``rk_live_…``, shown once, kept as an HMAC under the server's pepper.

A key is mode, 12 letters to look it up by, 43 random letters (256 bits) and a checksum of 6, so
that a mistyped or cut key is known without asking the database.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import insert, select, update

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.writeset import P
from refund_service.merchants.roles import SCOPES, Role, Scope
from refund_service.merchants.tables import api_keys, merchants

_KEY: Final = re.compile(r"rk_(test|live)_([0-9A-Za-z]{12})([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
CACHED_FOR: Final = 5.0
"""Seconds that a known key is believed without asking the database: revoking takes that long."""

_CACHED_AT_MOST: Final = 10_000

PREFIXES_LAST: Final = 1.0
"""Seconds that the list of all prefixes is believed; it is read only while strangers crowd."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: an API key of a merchant."""

    merchant_id: UUID
    livemode: bool
    key_id: UUID
    subject: str
    role: Role
    scopes: frozenset[Scope]


def new_key(*, livemode: bool) -> tuple[str, str]:
    """A new key and its prefix."""
    prefix, secret = ids.secret_token(12), ids.secret_token(43)
    mode = "live" if livemode else "test"
    return f"rk_{mode}_{prefix}{secret}{_checksum(mode, prefix, secret)}", prefix


def _checksum(mode: str, prefix: str, secret: str) -> str:
    return ids.base62(zlib.crc32(f"{mode}{prefix}{secret}".encode()), 6)


class TooManyStrangers(Exception):
    """So many unknown keys are told that the database is not asked about one more."""


class KeyCabinet:
    """Knows the peppers, and for a few seconds the keys that it has seen."""

    def __init__(self, db: Database, peppers: Mapping[str, str]) -> None:
        self._db = db
        self._peppers = {pepper_id: pepper.encode() for pepper_id, pepper in peppers.items()}
        self._primary = next(iter(self._peppers))
        self._seen: dict[bytes, tuple[float, Principal]] = {}
        self._made: frozenset[str] = frozenset()
        self._made_until = 0.0

    async def create(
        self, merchant_id: UUID, *, livemode: bool, subject: str, role: Role, now: datetime
    ) -> str:
        """Make a key; this answer is the only time it is shown."""
        key, prefix = new_key(livemode=livemode)
        await self._db.rows(
            _INSERT,
            merchant_id=merchant_id,
            id=ids.new_id(),
            prefix=prefix,
            secret_hmac=self._hmac(self._primary, key),
            pepper_id=self._primary,
            subject=subject,
            role=role,
            scopes=sorted(SCOPES[role]),
            now=now,
        )
        return key

    async def revoke(self, prefix: str, *, now: datetime) -> bool:
        """End a key, known by its prefix; false where there is none to end."""
        return bool(await self._db.rows(_REVOKE, prefix=prefix, now=now))

    async def authenticate(
        self, header: str | None, *, at: float, may_ask: Callable[[str | None], bool] = lambda _: True
    ) -> Principal | None:
        """Who is behind an ``Authorization`` header, or ``None``; ``at`` is a clock for durations.

        ``may_ask`` says whether the database may be asked about a key that was not known lately:
        first about any key at all, and where that is too much, about this prefix, which a key was
        made with. Raises ``TooManyStrangers`` where neither may be.
        """
        scheme, _, key = (header or "").partition(" ")
        parts = _KEY.fullmatch(key.strip())
        if scheme.lower() != "bearer" or not parts or parts[4] != _checksum(parts[1], parts[2], parts[3]):
            return None
        digest = hashlib.sha256(key.strip().encode()).digest()
        known = self._seen.get(digest)
        if known is not None and known[0] > at:
            return known[1]
        # Anyone can make up keys of the right shape. A flood of them holds up no key that was made.
        crowded = known is None and not may_ask(None)
        if crowded and not (await self._was_made(parts[2], at) and may_ask(parts[2])):
            raise TooManyStrangers
        principal = await self._look_up(parts[2], key.strip())
        if principal is None:
            self._seen.pop(digest, None)
            return None
        self._seen.pop(digest, None)
        if len(self._seen) >= _CACHED_AT_MOST:
            del self._seen[next(iter(self._seen))]  # the one not looked up for longest
        self._seen[digest] = (at + CACHED_FOR, principal)
        return principal

    async def _was_made(self, prefix: str, at: float) -> bool:
        """Whether a key has this prefix; the database is asked for all of them, once a second at most."""
        if at >= self._made_until:
            self._made_until = at + PREFIXES_LAST
            self._made = frozenset(row["prefix"] for row in await self._db.rows(_PREFIXES))
        return prefix in self._made

    async def _look_up(self, prefix: str, key: str) -> Principal | None:
        row = await self._db.row(_FIND, prefix=prefix)
        if (
            row is None
            or row["pepper_id"] not in self._peppers
            or not hmac.compare_digest(bytes(row["secret_hmac"]), self._hmac(row["pepper_id"], key))
        ):
            return None
        return Principal(
            merchant_id=row["merchant_id"],
            livemode=row["livemode"],
            key_id=row["id"],
            subject=row["subject"],
            role=Role(row["role"]),
            scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        )

    def _hmac(self, pepper_id: str, key: str) -> bytes:
        return hmac.digest(self._peppers[pepper_id], key.encode(), "sha256")


_INSERT: Final = insert(api_keys).values(
    merchant_id=P("merchant_id"),
    id=P("id"),
    prefix=P("prefix"),
    secret_hmac=P("secret_hmac"),
    pepper_id=P("pepper_id"),
    subject=P("subject"),
    role=P("role"),
    scopes=P("scopes"),
    created_at=P("now"),
)
_FIND: Final = (
    select(
        api_keys.c.id,
        api_keys.c.merchant_id,
        api_keys.c.secret_hmac,
        api_keys.c.pepper_id,
        api_keys.c.subject,
        api_keys.c.role,
        api_keys.c.scopes,
        merchants.c.livemode,
    )
    .join(merchants, merchants.c.id == api_keys.c.merchant_id)
    .where(api_keys.c.prefix == P("prefix"), api_keys.c.revoked_at.is_(None))
)
_PREFIXES: Final = select(api_keys.c.prefix).where(api_keys.c.revoked_at.is_(None)).limit(100_000)
_REVOKE: Final = (
    update(api_keys)
    .where(api_keys.c.prefix == P("prefix"), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=P("now"))
    .returning(api_keys.c.id)
)
