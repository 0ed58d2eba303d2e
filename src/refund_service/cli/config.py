"""``config check``: what would keep ``serve`` from starting, or from working well, all at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import urllib.request
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
from rich.markup import escape
from rich.table import Table

from refund_service.cli.place import as_it_is
from refund_service.cli.serving import listen
from refund_service.cli.terminal import screen
from refund_service.db.embedded import EmbeddedError
from refund_service.db.engine import Database, DatabaseOptions
from refund_service.db.errors import why_away
from refund_service.reports.setup import (
    Line,
    PortSeen,
    Verdict,
    judge_database,
    judge_ports,
    judge_settings,
)
from refund_service.reports.setup_seen import look_at_database
from refund_service.schema import TABLES
from refund_service.settings import Mode, Settings, odd_variables, try_settings

config_cli = typer.Typer(no_args_is_help=True, help="The settings of this service.")

_COLOURS: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.WRONG: "red",
    Verdict.UNTRIED: "dim",
}


@config_cli.command("check")
def check(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where the embedded PostgreSQL lives (REFUND_DATA_DIR)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Try the settings as `serve` would read them; exit code 1 where something is wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    lines = look(data_dir)
    good = all(line.verdict is not Verdict.WRONG for line in lines)
    if as_json:
        told = [{"what": line.what, "verdict": line.verdict, "says": line.says} for line in lines]
        typer.echo(json.dumps({"good": good, "lines": told}, indent=2, ensure_ascii=False))
    else:
        table = Table("what", "verdict", "says")
        for line in lines:
            colour = _COLOURS[line.verdict]
            table.add_row(escape(line.what), f"[{colour}]{line.verdict}[/{colour}]", escape(line.says))
        screen.print(table)
    raise typer.Exit(0 if good else 1)


def look(data_dir: Path | None) -> list[Line]:
    """Look at everything; nothing is made, started or changed."""
    settings, faults = try_settings(**({"data_dir": data_dir} if data_dir else {}))
    # No value is told: what stands in the wrong variable may be a secret.
    lines = judge_settings(
        {fault.setting: fault.says for fault in faults},
        {fault.setting: fault.says for fault in odd_variables()},
        public_url=settings.public_url if settings and settings.mode is Mode.PRODUCTION else None,
    )
    if settings is None:
        return [*lines, Line("database", Verdict.UNTRIED, "before REFUND_MODE is right")]
    faulty = {fault.setting.removesuffix("_FILE") for fault in faults}
    ports = judge_ports(_try_ports(settings, faulty))
    if "REFUND_DATABASE_URL" in faulty:
        return [*lines, *ports, Line("database", Verdict.UNTRIED, "before REFUND_DATABASE_URL is right")]
    return [*lines, *ports, *_try_database(settings)]


def _try_ports(settings: Settings, faulty: set[str]) -> list[PortSeen]:
    wanted = [("REFUND_PORT", settings.host, settings.port)]
    if settings.ops_port >= 0:
        wanted.append(("REFUND_OPS_PORT", settings.ops_host, settings.ops_port))
    wanted = [one for one in wanted if one[0] not in faulty]
    seen = []
    # Held until all are tried, so that two settings of one port are told.
    with contextlib.ExitStack() as held:
        for setting, host, port in wanted:
            address = f"{host}:{port}" if port else f"a free port of {host}"
            refused = None
            try:
                held.enter_context(listen(host, port)[0])
            except socket.gaierror:
                refused = "the name of the host is not known"
            except OSError as error:
                refused = (error.strerror or "cannot be listened on").lower()
            seen.append(PortSeen(setting, address, refused, bool(refused) and _ours(host, port)))
    return seen


def _ours(host: str, port: int) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared, not bound
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/health/live", timeout=2) as answer:
            told = json.load(answer)
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("serviceId") == "refund-service"


def _try_database(settings: Settings) -> list[Line]:
    try:
        settings = as_it_is(settings)
    except (EmbeddedError, OSError, ValueError) as error:
        return [Line("database", Verdict.WRONG, f"the embedded one in {settings.data_dir}: {error}")]
    if settings.database_url is None:
        return [Line("database", Verdict.UNTRIED, "the embedded one is not running; serve starts it")]
    options = DatabaseOptions(
        url=settings.database_url.get_secret_value(),
        pgbouncer=settings.pgbouncer,
        application_name="refund-service check",
    )
    sealing = settings.sealing_key_bytes

    async def ask() -> list[Line]:
        db = Database.connect(options)
        try:
            seen = await look_at_database(db, sealing_keys=sealing, tables=[table.name for table in TABLES])
        finally:
            await db.close()
        return judge_database(seen, sealing_keys=sealing, peppers=settings.key_peppers)

    try:
        return [Line("database", Verdict.OK, "the role is let in"), *asyncio.run(ask())]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in words of ours
        return [Line("database", Verdict.WRONG, why_away(error))]
