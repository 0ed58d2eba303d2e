"""The commands about merchants, their API keys and their accounts at gateways."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from refund_service import ids
from refund_service.app import put_together
from refund_service.cli.place import any_place
from refund_service.cli.terminal import DataDir, end, on_database, screen
from refund_service.clock import utc_now
from refund_service.gateways.accounts import NewAccount, accounts_of, add_account, resume_account
from refund_service.gateways.registry import gateway_named
from refund_service.gateways.reseal import reseal_accounts
from refund_service.merchants.create import all_merchants, create_merchant
from refund_service.merchants.roles import Role
from refund_service.settings import Mode

merchants_cli = typer.Typer(
    no_args_is_help=True, help="Merchants: a business, once for test and once for live."
)
keys_cli = typer.Typer(no_args_is_help=True, help="API keys.")
accounts_cli = typer.Typer(no_args_is_help=True, help="Merchants' accounts at payment gateways.")


@merchants_cli.command("create")
def make_merchant(
    name: str,
    live: Annotated[bool, typer.Option(help="For real money.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Make a merchant."""
    with any_place(data_dir) as settings:
        made = on_database(settings, lambda db: create_merchant(db, name, livemode=live, now=utc_now()))
    screen.print(ids.show("merchant", made))


@merchants_cli.command("list")
def list_merchants(data_dir: DataDir = None) -> None:
    """Show every merchant."""
    with any_place(data_dir) as settings:
        for row in on_database(settings, all_merchants):
            screen.print(ids.show("merchant", row["id"]), "live" if row["livemode"] else "test", row["name"])


@keys_cli.command("create")
def make_key(
    merchant: str,
    subject: Annotated[str, typer.Option(help="Who or what calls with it.")] = "backend",
    role: Annotated[Role, typer.Option()] = Role.INTEGRATION,
    data_dir: DataDir = None,
) -> None:
    """Make an API key. It is shown this once."""
    merchant_id = ids.read("merchant", merchant)
    with any_place(data_dir) as settings:
        parts = put_together(settings)

        async def make() -> str:
            try:
                known = {row["id"]: row["livemode"] for row in await all_merchants(parts.db)}
                if merchant_id not in known:
                    raise ValueError(f"There is no merchant {merchant}.")
                return await parts.cabinet.create(
                    merchant_id, livemode=known[merchant_id], subject=subject, role=role, now=utc_now()
                )
            finally:
                await parts.db.close()

        key = asyncio.run(make())
    screen.print(key, highlight=False, soft_wrap=True)


@keys_cli.command("revoke")
def end_key(
    prefix: Annotated[str, typer.Argument(help="The 12 letters after rk_test_ or rk_live_.")],
    data_dir: DataDir = None,
) -> None:
    """End an API key; processes that have seen it believe it for up to 5 seconds more."""
    with any_place(data_dir) as settings:
        parts = put_together(settings)

        async def revoke() -> bool:
            try:
                return await parts.cabinet.revoke(prefix, now=utc_now())
            finally:
                await parts.db.close()

        was = asyncio.run(revoke())
    screen.print("revoked" if was else "there is no such key")
    end(0 if was else 1)


@accounts_cli.command("add")
def new_account(
    merchant: str,
    gateway: Annotated[str, typer.Option(help="The kind of gateway, such as sandbox.")],
    url: Annotated[str, typer.Option(help="Where it is reached.")],
    credential: Annotated[
        list[str], typer.Option(help="`name=value`, repeated; sealed, and never shown again.")
    ],
    name: Annotated[str, typer.Option(help="What the merchant calls it.")] = "default",
    remote_account: Annotated[str, typer.Option(help="The account's id at the gateway.")] = "default",
    setting: Annotated[list[str] | None, typer.Option(help="`name=JSON`, repeated.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Give a merchant an account at a gateway."""
    merchant_id = ids.read("merchant", merchant)
    gateway_named(gateway)
    told = NewAccount(
        name=name,
        gateway=gateway,
        remote_account=remote_account,
        base_url=url,
        credentials=dict(_pair(one) for one in credential),
        settings={key: json.loads(value) for key, value in map(_pair, setting or [])},
    )
    with any_place(data_dir) as settings:
        if settings.mode is Mode.PRODUCTION and gateway == "sandbox":
            raise ValueError("The sandbox moves no money: it is refused in production.")
        keyring = put_together(settings).keyring
        made = on_database(settings, lambda db: add_account(db, keyring, merchant_id, told, now=utc_now()))
    screen.print(ids.show("gateway_account", made))


@accounts_cli.command("list")
def list_accounts(merchant: str, data_dir: DataDir = None) -> None:
    """Show a merchant's accounts, and why one is paused."""
    merchant_id = ids.read("merchant", merchant)
    with any_place(data_dir) as settings:
        for row in on_database(settings, lambda db: accounts_of(db, merchant_id)):
            shown = ids.show("gateway_account", row["id"])
            screen.print(shown, row["gateway"], row["name"], row["status"], row["paused_reason"] or "")


@accounts_cli.command("resume")
def resume_one(merchant: str, account: str, data_dir: DataDir = None) -> None:
    """Send through a paused account again, once what was wrong is mended."""
    merchant_id, account_id = ids.read("merchant", merchant), ids.read("gateway_account", account)
    with any_place(data_dir) as settings:
        was = on_database(
            settings,
            lambda db: resume_account(db, merchant_id, account_id, actor="operator", now=utc_now()),
        )
    screen.print("its refunds go on" if was else "it was not paused")


@accounts_cli.command("reseal")
def reseal_all(data_dir: DataDir = None) -> None:
    """Seal every account's credentials with the newest key: the older ones can then be taken away."""
    with any_place(data_dir) as settings:
        keyring = put_together(settings).keyring
        changed = on_database(settings, lambda db: reseal_accounts(db, keyring))
    screen.print(f"{changed} sealed anew")


def _pair(told: str) -> tuple[str, str]:
    name, equals, value = told.partition("=")
    if not equals:
        raise ValueError(f"{told!r} is not name=value")
    return name, value
