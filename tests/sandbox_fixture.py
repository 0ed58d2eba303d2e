"""The sandbox gateway as a process of its own, and the controls that tests need on it.

A pytest plugin: ``sandbox`` is one process for the whole run, where tests keep apart by using
accounts of their own; ``start_sandbox`` starts further ones that a test may kill.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx
import pytest

TOKEN = "sk_sandbox_for_tests"


class Sandbox:
    """A running sandbox. Controls answer with the parsed JSON and raise where they are refused."""

    def __init__(self, record: Path, port: int = 0) -> None:
        self.record_path = record
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "refund_service.gateways.sandbox", "--with-parent"),
                *("--port", str(port), "--record", str(record)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        first_line = _pipe(self._process.stdout).readline()
        if not first_line:
            self._let_go()
            raise RuntimeError("the sandbox did not start")
        self.port: int = json.loads(first_line)["port"]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._http = httpx.Client(base_url=self.base_url, trust_env=False, timeout=10)

    def new_account(self) -> str:
        return f"acct_{uuid4().hex}"

    def record(self, **filters: str) -> dict[str, Any]:
        """``executions``, ``requests`` and ``counts``; by account, payment, reference."""
        return self._told(self._http.get("/v1/record", params=filters))

    def executions(self, **filters: str) -> list[dict[str, Any]]:
        executions: list[dict[str, Any]] = self.record(**filters)["executions"]
        return executions

    def tell_payment(self, account: str, payment: str, amount: int, currency: str) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "Sandbox-Account": account}
        body = {"payment": payment, "amount": amount, "currency": currency}
        self._told(self._http.post("/v1/payments", headers=headers, json=body))

    def settle(self, refund: str, status: str) -> dict[str, Any]:
        return self._told(self._http.post(f"/v1/refunds/{refund}/settle", json={"status": status}))

    def advance(self, seconds: float) -> None:
        """Put the sandbox's clock ahead; what waits for that moment goes on at once."""
        self._told(self._http.post("/v1/clock", json={"advance_seconds": seconds}))

    def kill(self) -> None:
        """As ``kill -9``: nothing is said goodbye to."""
        self._process.kill()
        self._let_go()

    def stop(self) -> None:
        """Close its stdin, as a parent that ends does."""
        if self._process.poll() is None:
            _pipe(self._process.stdin).close()
        self._let_go()

    def _let_go(self) -> None:
        if hasattr(self, "_http"):
            self._http.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            for pipe in (self._process.stdin, self._process.stdout):
                _pipe(pipe).close()

    @staticmethod
    def _told(reply: httpx.Response) -> dict[str, Any]:
        reply.raise_for_status()
        told: dict[str, Any] = reply.json()
        return told


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    running = Sandbox(tmp_path_factory.mktemp("sandbox") / "record.jsonl")
    yield running
    running.stop()


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    """Start one on its own record, or with the record and port of one that was killed."""
    started: list[Sandbox] = []

    def start(record: Path | None = None, port: int = 0) -> Sandbox:
        started.append(Sandbox(record or tmp_path / f"record-{len(started)}.jsonl", port))
        return started[-1]

    yield start
    for running in started:
        running.stop()
