"""A merchant's accounts at gateways: adding one, opening one to call it, pausing one that is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select, update

from refund_service import ids
from refund_service.db.engine import Database, Row
from refund_service.db.errors import WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.events.record import event_values
from refund_service.gateways.protocol import Account
from refund_service.gateways.seal import Keyring, Sealed, row_of
from refund_service.gateways.tables import gateway_accounts
from refund_service.jobs.queue import let_go


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Credentials and settings of a merchant at a gateway."""

    name: str
    gateway: str
    remote_account: str
    base_url: str
    credentials: Mapping[str, str]
    settings: Mapping[str, Any]


def _add() -> Select[Any]:
    write = WriteSet("gateways.add_account")
    write.insert(
        "account",
        gateway_accounts,
        {
            "merchant_id": P("merchant_id"),
            "id": P("account_id"),
            "name": P("name"),
            "gateway": P("gateway"),
            "remote_account": P("remote_account"),
            "base_url": P("base_url"),
            "settings": P("settings"),
            "sealed_credentials": P("sealed_credentials"),
            "sealing_key_id": P("sealing_key_id"),
            "status": "active",
            "version": 1,
            "created_at": P("now"),
            "updated_at": P("now"),
        },
    )
    write.insert("told", *event_values("told", sequence=1))
    return write.done()


_ADD: Final = _add()


async def add_account(
    db: Database, keyring: Keyring, merchant_id: UUID, new: NewAccount, *, now: datetime
) -> UUID:
    """Write the account down with its credentials sealed; they are never shown again."""
    account_id = ids.new_id()
    sealed = keyring.seal(
        json.dumps(dict(new.credentials)).encode(), bound_to=row_of(merchant_id, account_id)
    )
    await db.write(
        _ADD,
        merchant_id=merchant_id,
        account_id=account_id,
        name=new.name,
        gateway=new.gateway,
        remote_account=new.remote_account,
        base_url=new.base_url,
        settings=dict(new.settings),
        sealed_credentials=sealed.blob,
        sealing_key_id=sealed.key_id,
        actor="operator",
        now=now,
        told_id=ids.new_id(),
        told_type="gateway_account.added",
        told_resource="gateway_account",
        told_resource_id=account_id,
        told_data={
            "gateway_account_id": ids.show("gateway_account", account_id),
            "gateway": new.gateway,
            "status": "active",
        },
    )
    return account_id


def open_account(keyring: Keyring, merchant_id: UUID, row: Mapping[str, Any]) -> Account:
    """An account's row with its credentials unsealed; raises ``SealBroken``."""
    sealed = Sealed(row["sealing_key_id"], bytes(row["sealed_credentials"]))
    opened = keyring.open(sealed, bound_to=row_of(merchant_id, row["account_id"]))
    return Account(
        id=row["account_id"],
        gateway=row["gateway"],
        base_url=row["base_url"],
        settings=row["settings"],
        credentials=json.loads(opened),
        remote_account=row["remote_account"],
    )


_ALL: Final = (
    select(
        gateway_accounts.c.id,
        gateway_accounts.c.name,
        gateway_accounts.c.gateway,
        gateway_accounts.c.status,
        gateway_accounts.c.paused_reason,
    )
    .where(gateway_accounts.c.merchant_id == P("merchant_id"))
    .order_by(gateway_accounts.c.created_at, gateway_accounts.c.id)
)


async def accounts_of(db: Database, merchant_id: UUID) -> list[Row]:
    """The merchant's accounts, without their credentials."""
    return list(await db.rows(_ALL, merchant_id=merchant_id))


def _set_status() -> Select[Any]:
    write = WriteSet("gateways.set_status")
    changed = write.guard(
        "account",
        update(gateway_accounts)
        .where(
            gateway_accounts.c.merchant_id == P("merchant_id"),
            gateway_accounts.c.id == P("account_id"),
            gateway_accounts.c.status != P("status"),
        )
        .values(
            status=P("status"),
            paused_reason=P("reason"),
            version=gateway_accounts.c.version + 1,
            updated_at=P("now"),
        ),
        gateway_accounts.c.version,
    )
    write.insert("told", *event_values("told", sequence=changed.c.version))
    return write.done()


_SET_STATUS: Final = _set_status()


async def pause_account(
    db: Database, merchant_id: UUID, account_id: UUID, reason: str, *, actor: str, now: datetime
) -> bool:
    """Stop sending through an account whose credentials are refused; false where it is paused already."""
    return await _change_status(db, merchant_id, account_id, "paused", reason=reason, actor=actor, now=now)


async def resume_account(
    db: Database, merchant_id: UUID, account_id: UUID, *, actor: str, now: datetime
) -> bool:
    """Let an account's queued refunds go on; false where it is active already."""
    resumed = await _change_status(db, merchant_id, account_id, "active", reason=None, actor=actor, now=now)
    await let_go(db, account_id)
    return resumed


async def _change_status(
    db: Database,
    merchant_id: UUID,
    account_id: UUID,
    status: str,
    *,
    reason: str | None,
    actor: str,
    now: datetime,
) -> bool:
    shown = ids.show("gateway_account", account_id)
    try:
        await db.write(
            _SET_STATUS,
            merchant_id=merchant_id,
            account_id=account_id,
            status=status,
            reason=reason,
            actor=actor,
            now=now,
            told_id=ids.new_id(),
            told_type=f"gateway_account.{'paused' if status == 'paused' else 'resumed'}",
            told_resource="gateway_account",
            told_resource_id=account_id,
            told_data={"gateway_account_id": shown, "status": status, "reason": reason},
        )
    except WriteRefused:
        return False
    return True


_MOVE: Final = (
    update(gateway_accounts)
    .where(gateway_accounts.c.merchant_id == P("merchant_id"), gateway_accounts.c.id == P("account_id"))
    .values(base_url=P("base_url"), updated_at=P("now"))
)


async def move_account(
    db: Database, merchant_id: UUID, account_id: UUID, base_url: str, *, now: datetime
) -> None:
    """The gateway is reached elsewhere from now on."""
    await db.rows(_MOVE, merchant_id=merchant_id, account_id=account_id, base_url=base_url, now=now)
