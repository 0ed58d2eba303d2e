"""Rounds: the bare statements and the service in turn, and the median of each."""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from bench.bare import ANY, EACH_ONCE, Bare
from bench.processes import cpu_seconds, run
from refund_service.db.embedded.binaries import find_binaries
from refund_service.db.embedded.user import ServerUser

LONGEST_ROUND = 240.0
"""Seconds."""

SETTLE = 0.3
"""Seconds after a round in which PostgreSQL's background processes finish what the round left them."""


@dataclass(frozen=True)
class Cost:
    """What 1,000 requests cost, and how fast they went."""

    per_second: float
    ms: float
    """A client's median wait for one; of pgbench the mean, which is all that it tells."""
    client_cpu: float
    """CPU seconds per 1,000 of the process that talks to PostgreSQL: the service, or pgbench."""
    database_cpu: float

    @property
    def cpu(self) -> float:
        return self.client_cpu + self.database_cpu


@dataclass(frozen=True)
class Pair:
    """The bare statements beside the service."""

    name: str
    clients: int
    bare: Cost
    service: Cost

    @property
    def times(self) -> float:
        """How many times the bare statements' CPU the service takes."""
        return self.service.cpu / self.bare.cpu


Round = Callable[[], Cost]


def in_turn(name: str, clients: int, *, bare: Round, service: Round, rounds: int) -> Pair:
    """Bare, service, bare, service …: what the machine does meanwhile hits both."""
    pairs = [(bare(), service()) for _ in range(rounds)]
    pair = Pair(name, clients, median_of([each for each, _ in pairs]), median_of([each for _, each in pairs]))
    sys.stderr.write(
        f"  {name}, {clients} clients: bare {pair.bare.per_second:.0f}/s {pair.bare.cpu:.2f} s, "
        f"service {pair.service.per_second:.0f}/s {pair.service.cpu:.2f} s CPU per 1,000, "
        f"{pair.times:.1f}×\n"
    )
    return pair


def median_of(costs: Sequence[Cost]) -> Cost:
    """The median of each figure for itself."""
    return Cost(
        *(
            statistics.median(getattr(cost, name) for cost in costs)
            for name in ("per_second", "ms", "client_cpu", "database_cpu")
        )
    )


@dataclass(frozen=True)
class Meter:
    """Runs rounds on one database and counts the CPU of its server."""

    url: str
    postmaster: int
    folder: Path
    """For pgbench's script."""

    def bare(
        self, bare: Bare, *, clients: int, transactions: int, many: int = 1, first: int | None = None
    ) -> Cost:
        """The script by pgbench. With ``first`` each number from there on is taken once."""
        each = -(-transactions // clients)
        number = ANY
        constants = dict(bare.constants) | {"many": str(many)}
        if first is not None:
            number = EACH_ONCE
            constants |= {"from": str(first - 1), "each": str(each), "i": "0"}
        script = self.folder / "script.sql"
        script.write_text(bare.script(number))
        address = urlsplit(self.url)
        query = parse_qs(address.query)
        before = cpu_seconds(self.postmaster)
        done = run(
            [
                find_binaries(ServerUser.current()).path("pgbench"), "--no-vacuum", "--protocol=prepared",
                f"--file={script}", f"--client={clients}", f"--transactions={each}",
                *(f"--define={name}={value}" for name, value in constants.items()),
                f"--host={query['host'][0]}", f"--port={query['port'][0]}",
                f"--username={address.username}", address.path.removeprefix("/"),
            ],
            within=LONGEST_ROUND,
            environment={
                "PGPASSWORD": unquote(address.password or ""), "PGOPTIONS": "-c jit=off", "LC_ALL": "C",
            },
        )  # fmt: skip
        time.sleep(SETTLE)
        database = cpu_seconds(self.postmaster) - before
        processed = re.search(r"actually processed: (\d+)/(\d+)", done.stdout)
        rate = re.search(r"tps = ([0-9.]+)", done.stdout)
        if processed is None or rate is None or processed[1] != processed[2]:
            raise RuntimeError(f"pgbench: {done.stdout[-500:]}")
        count, rate_ = int(processed[1]), float(rate[1])
        return Cost(rate_, clients / rate_ * 1000, *_per_1000(count, done.cpu_seconds, database))

    def service(
        self, pids: Sequence[int], urls: Sequence[str], requests: Iterable[str], *, clients: int, expect: int
    ) -> Cost:
        """The requests by a client of its own, whose CPU is not counted."""
        asked = list(requests)
        order = json.dumps({"urls": list(urls), "clients": clients, "requests": asked})
        database, own = cpu_seconds(self.postmaster), [cpu_seconds(pid) for pid in pids]
        done = run([sys.executable, "-m", "bench.load"], within=LONGEST_ROUND, given=order)
        time.sleep(SETTLE)
        told = json.loads(done.stdout)
        if told["statuses"] != {str(expect): len(asked)}:
            raise RuntimeError(f"answers other than {expect}: {told['statuses']}")
        used = sum(cpu_seconds(pid) - before for pid, before in zip(pids, own, strict=True))
        return Cost(
            len(asked) / told["seconds"],
            told["took"][len(asked) // 2] * 1000,
            *_per_1000(len(asked), used, cpu_seconds(self.postmaster) - database),
        )


def _per_1000(count: int, client: float, database: float) -> tuple[float, float]:
    return client / count * 1000, database / count * 1000
