"""The worker's half of a refund: claim, read the case, submit, record; the gateway answers at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.bare import Bare, bare_of
from bench.fill import QUEUED_JOB, QUEUED_REFUND, queue_refunds
from bench.ledger import LARGE, short_id
from bench.processes import Running, cpu_seconds, service
from bench.rounds import LONGEST_ROUND, SETTLE, Cost, Meter
from bench.shop import Shop, environment, promise_watch, recorded_work
from refund_service.jobs.worker import PER_LANE

CONNECTIONS = 16
"""Of the bare side: as many refunds of one account as a worker works on at once."""

_LEFT = "SELECT count(*) FROM jobs WHERE name = 'refund'"


@dataclass
class Queue:
    """Refunds that wait, by number: each is worked on once."""

    shop: Shop
    made: int = 0

    def add(self, count: int, *, due: bool) -> int:
        """Queue so many refunds; the number of the first."""
        first, self.made = self.made + 1, self.made + count
        queue_refunds(self.shop, first, self.made)
        self.shop.sql.run("VACUUM ANALYZE jobs")
        if due:
            self.shop.sql.run("UPDATE jobs SET run_at = now() WHERE name = 'refund' AND run_at = 'infinity'")
        return first


@dataclass(frozen=True)
class Work:
    """The bare statements: the claim, which takes several, and what each refund takes."""

    claim: Bare
    step: Bare


@contextmanager
def worker(shop: Shop) -> Iterator[Running]:
    """A process that works and serves nothing."""
    with Running(service("work"), environment(shop.url)) as process:
        process.until(event="started")
        yield process


def bare_work(queue: Queue) -> Work:
    """Record what a worker sends for each of two refunds."""
    shop = queue.shop
    # What the verbs have left would be in the way, and so would the watch, which promises it anew.
    shop.sql.wait(promise_watch(shop.url))
    shop.sql.run(
        "DELETE FROM jobs WHERE name = 'refund'",
        "UPDATE jobs SET run_at = 'infinity' WHERE name = 'watch'",
    )
    first = queue.add(2, due=False)
    recordings = []
    for number in (first, first + 1):
        shop.sql.run(f"UPDATE jobs SET run_at = now() WHERE id = {short_id(str(number), QUEUED_JOB)}")
        recordings.append(shop.sql.wait(recorded_work(shop.url, shop.large)))
    (once, job), (again, _) = recordings
    payment = f"(1 + :n % {LARGE})"
    row = shop.sql.rows("SELECT payment_id, order_id FROM refunds WHERE id = $1", job.subject_id)[0]
    lease = f"'{job.lease}'"
    chosen = {
        job.id: short_id(":n", QUEUED_JOB),
        job.subject_id: short_id(":n", QUEUED_REFUND),
        job.lease: lease,
        row["payment_id"]: short_id(payment),
        row["order_id"]: short_id(payment, 1),
        f"queued-{first}": "'queued-' || :n",
    }
    claim = bare_of(once[:1], again[:1], chosen=chosen)
    return Work(claim, bare_of(once[1:], again[1:], chosen=chosen))


def bare_round(meter: Meter, queue: Queue, work: Work, count: int) -> Cost:
    """Claim ``count`` queued refunds in full batches, then do the rest for each of them."""
    count -= count % (CONNECTIONS * PER_LANE)
    first = queue.add(count, due=True)
    claim = meter.bare(work.claim, clients=1, transactions=count // PER_LANE)
    # The next script may take longer than a lease.
    queue.shop.sql.run("UPDATE jobs SET run_at = now() + interval '1 hour' WHERE name = 'refund'")
    step = meter.bare(work.step, clients=CONNECTIONS, transactions=count, first=first)
    if left := queue.shop.sql.value(_LEFT):
        raise RuntimeError(f"{left} of {count} refunds were not finished by the bare statements")
    return Cost(
        1 / (1 / step.per_second + 1 / (claim.per_second * PER_LANE)),
        step.ms + claim.ms / PER_LANE,
        step.client_cpu + claim.client_cpu / PER_LANE,
        step.database_cpu + claim.database_cpu / PER_LANE,
    )


def service_round(meter: Meter, queue: Queue, process: Running, count: int) -> Cost:
    """Queue ``count`` refunds for the worker that runs, until none is left."""
    queue.add(count, due=True)
    database, own, began = cpu_seconds(meter.postmaster), cpu_seconds(process.pid), time.perf_counter()
    while queue.shop.sql.value(_LEFT):
        if time.perf_counter() - began > LONGEST_ROUND:
            waiting = queue.shop.sql.rows(
                "SELECT because, tries, run_at, count(*) FROM jobs GROUP BY 1, 2, 3"
            )
            raise RuntimeError(f"the worker does not come to an end: {waiting[:9]}")
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    time.sleep(SETTLE)
    used = cpu_seconds(process.pid) - own
    if wrong := queue.shop.sql.value(
        "SELECT count(*) FROM refunds WHERE status = 'queued' AND idempotency_key LIKE 'queued-%'"
    ):
        raise RuntimeError(f"{wrong} refunds were not worked on")
    return Cost(
        count / seconds,
        seconds / count * 1000,
        used / count * 1000,
        (cpu_seconds(meter.postmaster) - database) / count * 1000,
    )
