"""Asks a database what ``setup.py`` judges. It reads, and writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import func, select, text

from refund_service import ids
from refund_service.clock import utc_now
from refund_service.db.engine import Database, Row
from refund_service.db.schema_state import schema_state
from refund_service.gateways.seal import Keyring, SealBroken, Sealed, row_of
from refund_service.gateways.tables import gateway_accounts
from refund_service.merchants.tables import api_keys
from refund_service.reports.setup import DatabaseSeen, HeldSeen

_SERVER: Final = text("SELECT current_setting('server_version_num')::int AS version")
# Leases go by ``db_now()``, which only a migrated database has.
_CLOCK: Final = {True: select(func.db_now()), False: select(func.clock_timestamp())}
_ACCOUNTS: Final = select(
    gateway_accounts.c.merchant_id,
    gateway_accounts.c.id,
    gateway_accounts.c.sealed_credentials,
    gateway_accounts.c.sealing_key_id,
)
_PEPPERS: Final = (
    select(api_keys.c.pepper_id, func.count().label("number"))
    .where(api_keys.c.revoked_at.is_(None))
    .group_by(api_keys.c.pepper_id)
)
_NOT_ALLOWED: Final = text(
    "SELECT name FROM unnest(CAST(:in_tables AS text[])) AS name"
    " WHERE NOT has_table_privilege(name, 'SELECT') OR NOT has_table_privilege(name, 'INSERT')"
)


async def look_at_database(
    db: Database, *, sealing_keys: Mapping[str, bytes], tables: Collection[str]
) -> DatabaseSeen:
    """What it is, and what it holds; raises where it cannot be reached."""
    version = await db.value(_SERVER)
    limits = await db.missing_limits()
    schema = await schema_state(db)
    before = utc_now()
    there = await db.value(_CLOCK[schema.found is not None])
    after = utc_now()
    held = await _look_inside(db, sealing_keys, tables) if schema.borne else None
    doubt = (after - before) / 2
    return DatabaseSeen(
        version=version,
        limits=limits,
        schema_found=schema.found,
        schema_needed=schema.needed,
        schema_borne=schema.borne,
        ahead=(there - before - doubt).total_seconds(),
        doubt=doubt.total_seconds(),
        held=held,
    )


async def _look_inside(db: Database, sealing_keys: Mapping[str, bytes], tables: Collection[str]) -> HeldSeen:
    refused = {row["name"] for row in await db.rows(_NOT_ALLOWED, tables=list(tables))}
    accounts = [] if "gateway_accounts" in refused else await db.rows(_ACCOUNTS)
    keys = [] if "api_keys" in refused else await db.rows(_PEPPERS)
    keyring = Keyring(sealing_keys, primary=next(iter(sealing_keys))) if sealing_keys else None
    unsealable = {}
    for row in accounts:
        if keyring is None or not _opens(keyring, row):
            unsealable[ids.show("gateway_account", row["id"])] = row["sealing_key_id"]
    return HeldSeen(
        unsealable=unsealable,
        accounts=len(accounts),
        peppers={row["pepper_id"]: row["number"] for row in keys},
        not_allowed=refused,
    )


def _opens(keyring: Keyring, row: Row) -> bool:
    sealed = Sealed(row["sealing_key_id"], bytes(row["sealed_credentials"]))
    try:
        keyring.open(sealed, bound_to=row_of(row["merchant_id"], row["id"]))
    except SealBroken:
        return False
    return True
