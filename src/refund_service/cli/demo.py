"""A whole house to try, in one process and a sandbox beside it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from refund_service import logs
from refund_service.app import Parts
from refund_service.cli.place import own_place
from refund_service.cli.serving import run, running
from refund_service.clock import utc_now
from refund_service.gateways.accounts import NewAccount, accounts_of, add_account, move_account
from refund_service.merchants.create import all_merchants, create_merchant
from refund_service.merchants.roles import Role
from refund_service.money import Money
from refund_service.payments.new import NewCustomer, NewLine, NewOrder, NewPayment
from refund_service.payments.register import register_payment
from refund_service.settings import Mode, Settings

NAME = "Demo shop"
ORDERS = (("ORDER-1001", 5990, "EUR"), ("ORDER-1002", 12900, "EUR"), ("ORDER-1003", 4800, "JPY"))


@dataclass(frozen=True, slots=True)
class _Sandbox:
    url: str


def demo(data_dir: Path | None, *, port: int, quiet: bool) -> None:
    """Start everything, print how to use it, and stay until SIGINT or SIGTERM."""
    _log_beside(quiet=quiet)
    with own_place(data_dir, port=port, ops_port=0 if quiet else 8081) as settings:
        if settings.mode is Mode.PRODUCTION:
            raise ValueError("the demo is for development: REFUND_MODE=production")
        with _sandbox(settings.data_dir) as sandbox:
            run(lambda: _serve(settings, sandbox, quiet=quiet))


async def _serve(settings: Settings, sandbox: _Sandbox, *, quiet: bool) -> None:
    async with running(settings, api=True, work=True, upgrade=True) as (house, stopping):
        key = await _furnish(house.parts, settings.data_dir, sandbox)
        if quiet:
            told = {"api": house.api, "key": key, "sandbox": sandbox.url, "ops": house.ops}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            loop = asyncio.get_running_loop()
            threading.Thread(target=_end_with_stdin, args=(loop, house.stop), daemon=True).start()
        else:
            _welcome(house.api or "", key, house.ops)
        await stopping.wait()


async def _furnish(parts: Parts, data_dir: Path, sandbox: _Sandbox) -> str:
    """A test merchant with a sandbox account, paid orders and a key; at the first start only."""
    now = utc_now()
    known = [row for row in await all_merchants(parts.db) if row["name"] == NAME]
    merchant_id = known[0]["id"] if known else await create_merchant(parts.db, NAME, livemode=False, now=now)
    accounts = await accounts_of(parts.db, merchant_id)
    if accounts:
        # The sandbox may listen on another port than the last time.
        await move_account(parts.db, merchant_id, accounts[0]["id"], sandbox.url, now=now)
    else:
        await add_account(
            parts.db,
            parts.keyring,
            merchant_id,
            NewAccount("sandbox", "sandbox", "demo", sandbox.url, {"token": "sk_sandbox_demo"}, {}),
            now=now,
        )
    for number, (order_id, minor, currency) in enumerate(ORDERS, 1):
        await register_payment(
            parts.db,
            merchant_id,
            NewPayment(
                gateway_payment_id=f"sandbox_pay_{order_id}",
                captured=Money(minor, currency),
                captured_at=now - timedelta(days=number),
                method="card",
                customer=NewCustomer(f"customer-{number}"),
                order=NewOrder(
                    order_id, "FR", lines=[NewLine("product", 1, minor, minor, sku=f"SKU-{number}")]
                ),
            ),
            claim=None,
            actor="demo",
            now=now,
        )
    path = data_dir / "demo-key"
    if not path.exists():
        key = await parts.cabinet.create(
            merchant_id, livemode=False, subject="demo", role=Role.ADMIN, now=now
        )
        path.touch(mode=0o600)
        path.write_text(key)
    return path.read_text()


@contextmanager
def _sandbox(data_dir: Path) -> Iterator[_Sandbox]:
    # The pipe on its stdin ends it with us, however we end.
    process = subprocess.Popen(  # noqa: S603 - our own program
        [
            sys.executable,
            "-m",
            "refund_service.gateways.sandbox",
            "--record",
            str(data_dir / "sandbox-record.jsonl"),
            "--with-parent",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise OSError("the sandbox did not start")
        yield _Sandbox(f"http://127.0.0.1:{json.loads(line)['port']}")
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(timeout=20)
        if process.stdout:
            process.stdout.close()


def _log_beside(*, quiet: bool) -> None:
    logs.configure("error" if not quiet else "warning", stream=sys.stderr.buffer)


def _end_with_stdin(loop: asyncio.AbstractEventLoop, stop: object) -> None:
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(stop)  # type: ignore[arg-type] # a function without arguments


def _welcome(api: str, key: str, ops: str | None) -> None:
    screen = Console()
    screen.print(f"\n[bold]API[/bold]     {api}   docs at {api}/docs   health at {ops}/health/ready")
    screen.print(f"[bold]key[/bold]     {key}", highlight=False, soft_wrap=True)
    screen.print("[bold]order[/bold]   ORDER-1001 (EUR 59.90, paid at the sandbox)\n")
    screen.print("Refund EUR 12.50 of it:\n")
    screen.print(
        f"curl -s {api}/v1/refunds -H 'Authorization: Bearer {key}' -H 'Idempotency-Key: first-1' "
        "-H 'Prefer: wait=5' -H 'Content-Type: application/json' "
        '-d \'{"order_id":"ORDER-1001","amount":1250,"reason":"customer_request"}\'\n',
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    screen.print("Ctrl-C ends it; everything stays in the data folder.")
