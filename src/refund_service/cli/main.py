"""The commands. Each is a few lines: what it does lives where its noun lives."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Never
from uuid import UUID

import structlog
import typer
from rich.console import Console
from rich.table import Table

from refund_service import __version__, ids, logs
from refund_service.app import bare_app, put_together
from refund_service.cli import demo as demo_house
from refund_service.cli import docs as reference
from refund_service.cli.config import config_cli
from refund_service.cli.place import NoDatabase, any_place, attached_place, own_place
from refund_service.cli.probe import ready
from refund_service.cli.serving import run, serve_until_asked
from refund_service.clock import utc_now
from refund_service.db.embedded import EmbeddedError, throwaway
from refund_service.db.schema_state import SchemaRefused
from refund_service.errors import RefundServiceError
from refund_service.gateways.accounts import NewAccount, accounts_of, add_account, resume_account
from refund_service.gateways.registry import gateway_named
from refund_service.gateways.reseal import reseal_accounts
from refund_service.gateways.seal import SealBroken
from refund_service.gateways.switches import all_stops, resume_sends, stop_sends
from refund_service.merchants.create import all_merchants, create_merchant
from refund_service.merchants.roles import Role
from refund_service.reports.verify import verify_promises
from refund_service.schema import metadata
from refund_service.settings import Mode, Settings, read_settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Gives money back: once, never more than came in, and with a reason for every answer.",
)
merchants_cli = typer.Typer(
    no_args_is_help=True, help="Merchants: a business, once for test and once for live."
)
keys_cli = typer.Typer(no_args_is_help=True, help="API keys.")
accounts_cli = typer.Typer(no_args_is_help=True, help="Merchants' accounts at payment gateways.")
cli.add_typer(merchants_cli, name="merchants")
cli.add_typer(keys_cli, name="keys")
cli.add_typer(accounts_cli, name="accounts")
cli.add_typer(config_cli, name="config")
screen = Console()

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the embedded PostgreSQL lives (REFUND_DATA_DIR).")
]


def run_command() -> None:
    """Run a command; what can be told in one line is not told as a stack trace."""
    try:
        cli()
    except (
        EmbeddedError,
        NoDatabase,
        RefundServiceError,
        SchemaRefused,
        SealBroken,
        OSError,
        ValueError,
    ) as error:
        screen.print(f"[red]error:[/red] {error}", soft_wrap=True, highlight=False)
        sys.exit(1)


@cli.command()
def serve(
    data_dir: DataDir = None,
    worker: Annotated[bool, typer.Option(help="Work on refunds in this process too.")] = True,
    migrate: Annotated[
        bool, typer.Option(help="Bring a named database to this schema first; the embedded one always is.")
    ] = False,
) -> None:
    """Serve the API, and work, until SIGTERM."""
    logs.configure()
    # An embedded database is this process's own: no one else would bring it to the schema.
    embedded = read_settings().database_url is None
    with own_place(data_dir) as settings:
        run(lambda: serve_until_asked(settings, api=True, work=worker, upgrade=migrate or embedded))


@cli.command()
def work(data_dir: DataDir = None) -> None:
    """Work on refunds without serving the API, until SIGTERM. Start as many as you like."""
    logs.configure()
    with attached_place(data_dir) as settings:
        # Beside a `serve` on the same machine the usual port is taken: any free one, told in the log.
        if "ops_port" not in settings.model_fields_set:
            settings = settings.model_copy(update={"ops_port": 0})  # noqa: PLW2901 - the same, a little changed
        run(lambda: serve_until_asked(settings, api=False, work=True, upgrade=False))


@cli.command()
def demo(
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 8080,
    quiet: Annotated[bool, typer.Option(help="Print one JSON line instead of a welcome.")] = False,
) -> None:
    """A whole house to try: database, sandbox gateway, a test merchant with paid orders, API and worker."""
    demo_house.demo(data_dir, port=port, quiet=quiet)


@cli.command()
def migrate(
    data_dir: DataDir = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare the migrations with the tables in the code, on a database of its own."
        ),
    ] = False,
) -> None:
    """Bring the database to the schema that this version needs."""
    from refund_service.db.migrations import differences  # noqa: PLC0415 - Alembic is large, and serving needs none
    from refund_service.db.migrations import migrate as upgrade_database  # noqa: PLC0415 - as above

    if check:
        with throwaway() as server:
            asyncio.run(upgrade_database(server.url))
            found = asyncio.run(differences(server.url, metadata))
        for difference in found:
            screen.print(difference)
        _end(1 if found else 0)
    with any_place(data_dir) as settings:
        reached = asyncio.run(upgrade_database(_url(settings)))
    screen.print(f"schema {reached}")


@cli.command()
def verify(data_dir: DataDir = None) -> None:
    """Walk every promise over the whole database; the rows that break one make the exit code 1."""
    with any_place(data_dir) as settings:
        findings = _in(settings, verify_promises)
    table = Table("promise", "what was looked at", "broken", "seconds")
    for finding in findings:
        broken_rows = str(len(finding.rows)) if finding.rows else "-"
        table.add_row(finding.promise, finding.says, broken_rows, f"{finding.took:.1f}")
    screen.print(table)
    broken = [finding for finding in findings if finding.rows]
    for finding in broken:
        screen.print(f"[red]{finding.promise}: {finding.says}[/red]")
        for row in finding.rows:
            screen.print(f"  {json.dumps(row, default=str)}", highlight=False, soft_wrap=True)
    _end(1 if broken else 0)


@cli.command()
def openapi(
    write: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    check: Annotated[Path | None, typer.Option(help="Fail where this file says otherwise.")] = None,
) -> None:
    """The OpenAPI document, made from the code."""
    document = json.dumps(bare_app("http://127.0.0.1:8080").openapi(), indent=2, ensure_ascii=False) + "\n"
    if write is not None:
        write.write_text(document)
    elif check is not None:
        if not check.exists() or check.read_text() != document:
            screen.print(f"{check} is not what the code says; run: make openapi")
            _end(1)
    else:
        sys.stdout.write(document)


@cli.command()
def docs(
    write: Annotated[Path | None, typer.Option(help="Write the reference pages into this folder.")] = None,
    check: Annotated[Path | None, typer.Option(help="Fail where this folder says otherwise.")] = None,
) -> None:
    """The reference pages, made from the code."""
    if write is not None:
        reference.write_pages(write)
    elif check is not None and (stale := reference.outdated(check)):
        screen.print(f"{', '.join(stale)} in {check} are not what the code says; run: make docs")
        _end(1)


@cli.command()
def health(data_dir: DataDir = None) -> None:
    """Ask the readiness of the process on this machine; for container health checks."""
    _end(0 if ready(data_dir) else 1)


@cli.command()
def stop(
    scope: Annotated[str, typer.Argument(help="`all`, or the id of a merchant or gateway account.")],
    reason: Annotated[str, typer.Option(help="For whoever finds it stopped.")],
    data_dir: DataDir = None,
) -> None:
    """Stop all sends, or those of one merchant or gateway account. Refunds stay queued."""
    with attached_place(data_dir) as settings:
        _in(settings, lambda db: stop_sends(db, _scope(scope), reason, stopped_by="operator"))
    screen.print(f"sends of {scope} are stopped")


@cli.command()
def resume(scope: Annotated[str, typer.Argument(help="What was stopped.")], data_dir: DataDir = None) -> None:
    """Let sends go on."""
    with attached_place(data_dir) as settings:
        was = _in(settings, lambda db: resume_sends(db, _scope(scope)))
    screen.print(f"sends of {scope} {'go on' if was else 'were not stopped'}")


@cli.command()
def stops(data_dir: DataDir = None) -> None:
    """Show what is stopped, by whom and why."""
    with attached_place(data_dir) as settings:
        for row in _in(settings, all_stops):
            screen.print(f"{row['scope']} since {row['stopped_at']} by {row['stopped_by']}: {row['reason']}")


@cli.command("id")
def other_form(
    told: Annotated[str, typer.Argument(help="`rf_…` and the like, or a UUID out of the database.")],
    kind: Annotated[str, typer.Option(help="What a UUID is the id of.")] = "refund",
) -> None:
    """Show an id of the API as the database has it, and the other way round."""
    kinds = {prefix: name for name, prefix in ids.PREFIXES.items()}
    prefix = told.partition("_")[0]
    screen.print(
        ids.read(kinds[prefix], told) if prefix in kinds else ids.show(kind, UUID(told)), highlight=False
    )


@cli.command()
def version() -> None:
    """Show the version."""
    screen.print(__version__)


@merchants_cli.command("create")
def make_merchant(
    name: str,
    live: Annotated[bool, typer.Option(help="For real money.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Make a merchant."""
    with any_place(data_dir) as settings:
        made = _in(settings, lambda db: create_merchant(db, name, livemode=live, now=utc_now()))
    screen.print(ids.show("merchant", made))


@merchants_cli.command("list")
def list_merchants(data_dir: DataDir = None) -> None:
    """Show every merchant."""
    with any_place(data_dir) as settings:
        for row in _in(settings, all_merchants):
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

        async def end() -> bool:
            try:
                return await parts.cabinet.revoke(prefix, now=utc_now())
            finally:
                await parts.db.close()

        was = asyncio.run(end())
    screen.print("revoked" if was else "there is no such key")
    _end(0 if was else 1)


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
        made = _in(settings, lambda db: add_account(db, keyring, merchant_id, told, now=utc_now()))
    screen.print(ids.show("gateway_account", made))


@accounts_cli.command("list")
def list_accounts(merchant: str, data_dir: DataDir = None) -> None:
    """Show a merchant's accounts, and why one is paused."""
    merchant_id = ids.read("merchant", merchant)
    with any_place(data_dir) as settings:
        for row in _in(settings, lambda db: accounts_of(db, merchant_id)):
            shown = ids.show("gateway_account", row["id"])
            screen.print(shown, row["gateway"], row["name"], row["status"], row["paused_reason"] or "")


@accounts_cli.command("resume")
def resume_one(merchant: str, account: str, data_dir: DataDir = None) -> None:
    """Send through a paused account again, once what was wrong is mended."""
    merchant_id, account_id = ids.read("merchant", merchant), ids.read("gateway_account", account)
    with any_place(data_dir) as settings:
        was = _in(
            settings,
            lambda db: resume_account(db, merchant_id, account_id, actor="operator", now=utc_now()),
        )
    screen.print("its refunds go on" if was else "it was not paused")


@accounts_cli.command("reseal")
def reseal_all(data_dir: DataDir = None) -> None:
    """Seal every account's credentials with the newest key: the older ones can then be taken away."""
    with any_place(data_dir) as settings:
        keyring = put_together(settings).keyring
        changed = _in(settings, lambda db: reseal_accounts(db, keyring))
    screen.print(f"{changed} sealed anew")


def _pair(told: str) -> tuple[str, str]:
    name, equals, value = told.partition("=")
    if not equals:
        raise ValueError(f"{told!r} is not name=value")
    return name, value


def _in(settings: Settings, verb: Any) -> Any:
    """Run a verb that takes a database."""
    parts = put_together(settings, name="refund-service cli")

    async def act() -> Any:
        try:
            work: Coroutine[Any, Any, Any] = verb(parts.db)
            return await work
        finally:
            await parts.db.close()

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    return asyncio.run(act())


def _scope(told: str) -> UUID:
    if told == "all":
        return ids.NIL
    return ids.read("merchant" if told.startswith("mer_") else "gateway_account", told)


def _url(settings: Settings) -> str:
    if settings.database_url is None:
        raise NoDatabase("no database is named")
    return settings.database_url.get_secret_value()


def _end(code: int) -> Never:
    raise typer.Exit(code)
