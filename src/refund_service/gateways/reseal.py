"""Seal credentials anew with the primary key, so that an older key can be taken away."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, update

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.writeset import P
from refund_service.gateways.seal import Keyring, SealBroken, Sealed, row_of
from refund_service.gateways.tables import gateway_accounts

_SEALED: Final = select(
    gateway_accounts.c.merchant_id,
    gateway_accounts.c.id,
    gateway_accounts.c.sealing_key_id,
    gateway_accounts.c.sealed_credentials,
)
_RESEAL: Final = (
    update(gateway_accounts)
    .where(
        gateway_accounts.c.merchant_id == P("merchant_id"),
        gateway_accounts.c.id == P("account_id"),
        # New credentials may have been told meanwhile: those are sealed well already.
        gateway_accounts.c.sealed_credentials == P("was"),
    )
    .values(sealed_credentials=P("blob"), sealing_key_id=P("key_id"))
    .returning(gateway_accounts.c.id)
)


async def reseal_accounts(db: Database, keyring: Keyring) -> int:
    """How many accounts' credentials were sealed by an older key, and now are by the primary one.

    Raises ``SealBroken`` with the account whose credentials no key here opens; what was sealed
    anew before it stays so, and the next try goes on from there.
    """
    changed = 0
    for row in await db.rows(_SEALED):
        merchant_id, account_id = row["merchant_id"], row["id"]
        sealed = Sealed(row["sealing_key_id"], bytes(row["sealed_credentials"]))
        if not keyring.outdated(sealed):
            continue
        bound_to = row_of(merchant_id, account_id)
        try:
            anew = keyring.seal(keyring.open(sealed, bound_to=bound_to), bound_to=bound_to)
        except SealBroken as broken:
            raise SealBroken(f"{ids.show('gateway_account', account_id)}: {broken}") from broken
        done = await db.rows(
            _RESEAL,
            merchant_id=merchant_id,
            account_id=account_id,
            was=sealed.blob,
            blob=anew.blob,
            key_id=anew.key_id,
        )
        changed += len(done)
    return changed
