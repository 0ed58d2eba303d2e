"""How near one worker comes to what an account's limit of parallel calls allows at a slow gateway."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from bench.processes import Running
from bench.shop import Shop
from bench.worker import Queue, worker
from refund_service.gateways.sandbox import SandboxGateway

ANSWER_MS = 100.0
_LONGEST = 600.0
_LEFT = "SELECT count(*) FROM jobs WHERE name = 'refund'"


@dataclass(frozen=True)
class Sends:
    """Refunds of one account, sent by one process to a gateway that takes ``answer_ms`` for each."""

    refunds: int
    seconds: float
    parallel: int
    answer_ms: float

    @property
    def per_second(self) -> float:
        return self.refunds / self.seconds

    @property
    def allowed(self) -> float:
        """Sends per second with every place taken all the time."""
        return self.parallel / self.answer_ms * 1000

    @property
    def share(self) -> float:
        return self.per_second / self.allowed


def measure_sends(shop: Shop, refunds: int) -> Sends:
    """Queue so many refunds of the large merchant's account, and let one worker send them all."""
    command = [sys.executable, "-m", "bench.slow_gateway", "--ms", str(ANSWER_MS)]
    before = shop.sql.value("SELECT base_url FROM gateway_accounts WHERE id = $1", shop.accounts[0])
    with Running(command, {}) as gateway:
        _, told = gateway.until()
        _reach(shop, f"http://127.0.0.1:{told['port']}")
        Queue(shop, made=_FAR).add(refunds, due=True)
        with worker(shop):
            began = time.perf_counter()
            while shop.sql.value(_LEFT):
                if time.perf_counter() - began > _LONGEST:
                    raise RuntimeError("the worker does not come to an end")
                time.sleep(0.2)
            seconds = time.perf_counter() - began
    _reach(shop, before)
    parallel = SandboxGateway().traits({}).parallel_calls
    return Sends(refunds, seconds, parallel, ANSWER_MS)


_FAR = 1_000_000
"""Above every number that the worker's rounds have used."""


def _reach(shop: Shop, url: str) -> None:
    shop.sql.rows("UPDATE gateway_accounts SET base_url = $1 WHERE id = $2", url, shop.accounts[0])
