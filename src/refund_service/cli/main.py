"""The commands. Each is a few lines: what it does lives where its noun lives."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from refund_service import __version__, ids, logs
from refund_service.app import bare_app
from refund_service.cli import demo as demo_house
from refund_service.cli import docs as reference
from refund_service.cli.config import config_cli
from refund_service.cli.merchants import accounts_cli, keys_cli, merchants_cli
from refund_service.cli.place import NoDatabase, any_place, attached_place, own_place
from refund_service.cli.probe import ready
from refund_service.cli.serving import run, serve_until_asked
from refund_service.cli.terminal import DataDir, end, on_database, screen
from refund_service.db.embedded import EmbeddedError, throwaway
from refund_service.db.schema_state import SchemaRefused
from refund_service.errors import RefundServiceError
from refund_service.gateways.seal import SealBroken
from refund_service.gateways.switches import all_stops, resume_sends, stop_sends
from refund_service.reports.verify import verify_promises
from refund_service.schema import metadata
from refund_service.settings import Settings, read_settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Gives money back: once, never more than came in, and with a reason for every answer.",
)
cli.add_typer(merchants_cli, name="merchants")
cli.add_typer(keys_cli, name="keys")
cli.add_typer(accounts_cli, name="accounts")
cli.add_typer(config_cli, name="config")


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
        end(1 if found else 0)
    with any_place(data_dir) as settings:
        reached = asyncio.run(upgrade_database(_url(settings)))
    screen.print(f"schema {reached}")


@cli.command()
def verify(data_dir: DataDir = None) -> None:
    """Walk every promise over the whole database; the rows that break one make the exit code 1."""
    with any_place(data_dir) as settings:
        findings = on_database(settings, verify_promises)
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
    end(1 if broken else 0)


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
            end(1)
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
        end(1)


@cli.command()
def health(data_dir: DataDir = None) -> None:
    """Ask the readiness of the process on this machine; for container health checks."""
    end(0 if ready(data_dir) else 1)


@cli.command()
def stop(
    scope: Annotated[str, typer.Argument(help="`all`, or the id of a merchant or gateway account.")],
    reason: Annotated[str, typer.Option(help="For whoever finds it stopped.")],
    data_dir: DataDir = None,
) -> None:
    """Stop all sends, or those of one merchant or gateway account. Refunds stay queued."""
    with attached_place(data_dir) as settings:
        on_database(settings, lambda db: stop_sends(db, _scope(scope), reason, stopped_by="operator"))
    screen.print(f"sends of {scope} are stopped")


@cli.command()
def resume(scope: Annotated[str, typer.Argument(help="What was stopped.")], data_dir: DataDir = None) -> None:
    """Let sends go on."""
    with attached_place(data_dir) as settings:
        was = on_database(settings, lambda db: resume_sends(db, _scope(scope)))
    screen.print(f"sends of {scope} {'go on' if was else 'were not stopped'}")


@cli.command()
def stops(data_dir: DataDir = None) -> None:
    """Show what is stopped, by whom and why."""
    with attached_place(data_dir) as settings:
        for row in on_database(settings, all_stops):
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


def _scope(told: str) -> UUID:
    if told == "all":
        return ids.NIL
    return ids.read("merchant" if told.startswith("mer_") else "gateway_account", told)


def _url(settings: Settings) -> str:
    if settings.database_url is None:
        raise NoDatabase("no database is named")
    return settings.database_url.get_secret_value()
