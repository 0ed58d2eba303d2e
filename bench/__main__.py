"""``python -m bench``: measure, and write the report. ``--again`` only writes it, from the last figures."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from bench.figures import FORM, Figures, OneAndTwo, here
from bench.growth import NoRoom, Size, check_room, filled, measured
from bench.processes import Running, resident_mb, run, service
from bench.report import FIGURES, PAGE, write_report
from bench.rounds import Cost, Meter, Pair, in_turn, median_of
from bench.scale import QUICK, Scale
from bench.sends import measure_sends
from bench.shop import Shop, environment, open_shop
from bench.spent import Spent, watch
from bench.sql import Sql
from bench.verbs import Client, Verb, api, create, page, read, replay
from bench.worker import CONNECTIONS, Queue, bare_round, bare_work, service_round, worker
from refund_service import ids
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.embedded.user import ServerUser

FEW, MANY = 1, 32
"""Clients at once."""

SMALLEST = 1_000
"""Refunds in the tables that count as empty: something has to be there to be read."""

FIRST_GUESS = 6_000
"""Bytes a refund, before any is measured."""

REFERENCE = Path("docs/reference")
ASIDE = Path("build/bench")

WHILE_FILLING = {
    "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
    "autovacuum": "off",
}  # fmt: skip
WHILE_MEASURING = {"max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "off"}


def main() -> int:
    """Measure what the arguments ask for."""
    told = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    told.add_argument("--growth", type=int, default=1_000_000, metavar="N", help="refunds to grow to")
    told.add_argument("--quick", action="store_true", help="small numbers: shows that it works, no more")
    told.add_argument("--again", action="store_true", help="write the report anew from the last figures")
    told.add_argument("--out", type=Path, help=f"where the report goes: {REFERENCE}, of a quick run {ASIDE}")
    told.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the databases are kept"
    )
    asked = told.parse_args()
    out: Path = asked.out or (ASIDE if asked.quick else REFERENCE)
    if asked.quick and out.resolve() == REFERENCE.resolve():
        told.error(f"a quick run's figures mean nothing: {REFERENCE} is not the place for them")
    if asked.again:
        write_report(FORM.validate_json((out / FIGURES).read_bytes()), out)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = sorted({SMALLEST, min(asked.growth, 1_000_000), asked.growth})
    # What the service would log of the few refunds that are made in this process.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    began = time.perf_counter()
    try:
        if asked.quick:
            figures = measure(asked.folder, QUICK, [SMALLEST, 10_000])
        else:
            figures = measure(asked.folder, Scale(), sizes)
    except NoRoom as missing:
        sys.stderr.write(f"{missing}. Name a larger disk: make bench FOLDER=/path\n")
        return 1
    except KeyboardInterrupt:
        return 130
    write_report(figures, out)
    sys.stderr.write(f"{out / PAGE} is written; {time.perf_counter() - began:.0f} s\n")
    return 0


def measure(root: Path, scale: Scale, sizes: Sequence[int]) -> Figures:
    """Fill every database with fsync off, then measure them all with fsync on."""
    load_before = os.getloadavg()[0]
    with folder_in(root) as folder, gateway(folder) as sandbox:
        with EmbeddedServer.start(folder, durable=False) as server, Sql(server.url) as sql:
            configure(sql, WHILE_FILLING)
        with EmbeddedServer.start(folder, durable=False) as server:
            shops = fill_all(server, sandbox, scale, sizes)
            with Sql(server.url) as sql:
                configure(sql, WHILE_MEASURING)
        os.sync()
        with EmbeddedServer.start(folder) as server:
            return measure_all(server, folder, scale, shops, load_before=load_before)


Filled = tuple[Shop, float, dict[str, int]]


def fill_all(server: EmbeddedServer, sandbox: str, scale: Scale, sizes: Sequence[int]) -> dict[str, Filled]:
    """The database of the verbs, and one for each size."""
    shops: dict[str, Filled] = {}
    bytes_each: float = FIRST_GUESS
    wanted = {"verbs": scale.refunds} | {f"size_{size}": size for size in sizes}
    for name, refunds in wanted.items():
        sys.stderr.write(
            f"{name}: {check_room(server.data_folder, refunds=refunds, bytes_each=bytes_each)}\n"
        )
        with Sql(server.create_database(name)) as sql:
            before = sql.value("SELECT pg_database_size(current_database())")
            shop = open_shop(sql, sandbox, refunds=refunds)
            shops[name] = (shop, *filled(shop, lanes=len(os.sched_getaffinity(0))))
            if refunds >= scale.refunds:
                bytes_each = (sql.value("SELECT pg_database_size(current_database())") - before) / refunds
    return shops


def measure_all(
    server: EmbeddedServer, folder: Path, scale: Scale, shops: dict[str, Filled], *, load_before: float
) -> Figures:
    """Everything, on databases that are filled."""
    shop, _, _ = shops.pop("verbs")
    with Sql(server.url_of("verbs")) as sql:
        shop = replace(shop, sql=sql)
        place = here(sql, load_before=load_before)
        postmaster = int(sql.value("SELECT pg_read_file('postmaster.pid')").split()[0])
        meter = Meter(sql.url, postmaster, folder)
        verbs, hot, processes, spent, resident = measure_api(shop, meter, scale)
        work, resident["worker"] = measure_worker(shop, meter, scale)
        sends = measure_sends(shop, scale.sends)
        starts = measure_starts(shop, scale)
    sizes = []
    for name, (filled_, seconds, bytes_) in shops.items():
        sys.stderr.write(f"{name}:\n")
        with Sql(server.url_of(name)) as sql:
            meter = Meter(sql.url, postmaster, folder)
            told = measured(replace(filled_, sql=sql), meter, scale)
            sizes.append(Size(filled_.history.refunds, seconds, bytes_, *told))
    return Figures(place, scale, verbs, work, hot, processes, resident, starts, spent, sizes, sends)


def measure_api(
    shop: Shop, meter: Meter, scale: Scale
) -> tuple[list[Pair], Pair, list[OneAndTwo], Spent | None, dict[str, float]]:
    """The verbs, the hot payment, one process and two, and what the time is spent on."""
    client = Client(shop)
    with ExitStack() as started:
        first, url = started.enter_context(api(shop))

        def served(verb: Verb, clients: int, of: Sequence[tuple[Running, str]]) -> Cost:
            pids, urls = [process.pid for process, _ in of], [where for _, where in of]
            requests = verb.requests(int(scale.requests * verb.share))
            return meter.service(pids, urls, requests, clients=clients, expect=verb.status)

        def pair(verb: Verb, clients: int) -> Pair:
            tidy(shop)
            return in_turn(
                verb.name,
                clients,
                bare=lambda: meter.bare(
                    verb.bare,
                    clients=clients,
                    transactions=int(scale.transactions(clients) * verb.share),
                    many=verb.many,
                ),
                service=lambda: served(verb, clients, [(first, url)]),
                rounds=scale.rounds,
            )

        creates, reads = create(client), read(client)
        served(creates, MANY, [(first, url)])  # what is done once only, and keys that can be replayed
        listed = [page(client, "list, first page"), page(client, "list, a page at any depth", deep=True)]
        verbs = [
            pair(verb, clients)
            for verb in (creates, replay(client), reads, *listed)
            for clients in (FEW, MANY)
        ]
        hot = pair(create(client, hot=True), MANY)
        spent = look_into(first, meter.folder, scale, lambda: served(creates, 8, [(first, url)]))
        second, second_url = started.enter_context(api(shop))
        served(creates, MANY, [(second, second_url)])
        processes = []
        for verb in (creates, reads):
            tidy(shop)
            turns = [
                (served(verb, MANY, [(first, url)]), served(verb, MANY, [(first, url), (second, second_url)]))
                for _ in range(scale.rounds)
            ]
            one, two = (median_of(costs) for costs in zip(*turns, strict=True))
            processes.append(OneAndTwo(verb.name, one, two))
        resident = {"API": max(resident_mb(first.pid), resident_mb(second.pid))}
    return verbs, hot, processes, spent, resident


def look_into(process: Running, folder: Path, scale: Scale, load: Callable[[], Cost]) -> Spent | None:
    """What a process under load is spent on; None where this user may not look, which the report says."""
    try:
        return watch(process.pid, folder, scale.profile_seconds, load)
    except RuntimeError as refused:
        sys.stderr.write(f"  no profile: {refused}\n")
        return None


def measure_worker(shop: Shop, meter: Meter, scale: Scale) -> tuple[Pair, float]:
    """The worker's half of a refund, and how large its process is after it."""
    queue = Queue(shop)
    work = bare_work(queue)
    resident: list[float] = []

    def one_worker() -> Cost:
        # Started for each round: it would take the bare rounds' refunds if it ran meanwhile.
        with worker(shop) as process:
            service_round(meter, queue, process, scale.queued // 4)
            cost = service_round(meter, queue, process, scale.queued)
            resident.append(resident_mb(process.pid))
            return cost

    tidy(shop)
    pair = in_turn(
        "claim, read, submit, record",
        CONNECTIONS,
        bare=lambda: bare_round(meter, queue, work, scale.queued),
        service=one_worker,
        rounds=scale.rounds,
    )
    return pair, max(resident)


def measure_starts(shop: Shop, scale: Scale) -> dict[str, Sequence[float]]:
    """Seconds from exec until `serve` is ready, and until `--help` has ended."""
    ready, helped = [], []
    for _ in range(scale.starts):
        with Running(service("serve"), environment(shop.url)) as process:
            ready.append(process.until(event="started")[0])
        helped.append(run(service("--help"), within=60).seconds)
    return {"serve": ready, "--help": helped}


def tidy(shop: Shop) -> None:
    """What maintenance would do now and then, done before each block: autovacuum is off."""
    shop.sql.run("VACUUM (ANALYZE)", "CHECKPOINT")


def configure(sql: Sql, settings: dict[str, str]) -> None:
    """For the next start of the server."""
    sql.run("ALTER SYSTEM RESET ALL", *(f"ALTER SYSTEM SET {name} = '{to}'" for name, to in settings.items()))


@contextmanager
def folder_in(root: Path) -> Iterator[Path]:
    """A folder for the databases that the user who runs PostgreSQL can reach; removed at the end."""
    folder = root / f"refund-bench-{ids.secret_token(8)}"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        if not ServerUser.current().reaches(folder):
            sys.exit(f"The user that PostgreSQL runs as cannot pass into {root}; name another: FOLDER=/path")
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def gateway(folder: Path) -> Iterator[str]:
    """The sandbox gateway, and where it listens."""
    command = [
        sys.executable, "-m", "refund_service.gateways.sandbox",
        "--with-parent", "--record", str(folder / "sandbox"),
    ]  # fmt: skip
    with Running(command, {}) as process:
        _, told = process.until()
        yield f"http://127.0.0.1:{told['port']}"


if __name__ == "__main__":
    sys.exit(main())
