"""The report: every figure, table, plot and sentence of it made from the figures of one run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bench.aims import FEW, MANY, aims_of
from bench.figures import FORM, Figures
from bench.growth_pages import growth_parts, growth_plots
from bench.plots import Bars, draw_bars
from bench.rounds import Cost, Pair
from bench.scale import QUICK
from bench.tables import table
from bench.worker import CONNECTIONS
from refund_service.jobs.worker import PER_LANE

PAGE: Final = "performance.md"
FIGURES: Final = "performance/figures.json"
_MADE: Final = "<!-- Made by `make bench` from performance/figures.json. Changes by hand are lost. -->"
_MOST_SHOWN: Final = 16


def write_report(figures: Figures, out: Path) -> None:
    """The page, its plots, and the figures beside them."""
    for name, told in files_of(figures).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(told)


def files_of(figures: Figures) -> dict[str, str]:
    """Every file of the report by its name, as it must stand."""
    plots = {f"performance/{name}.svg": drawn for name, drawn in _plots(figures).items()}
    return {PAGE: page(figures), FIGURES: FORM.dump_json(figures, indent=1).decode() + "\n"} | plots


def page(figures: Figures) -> str:
    """The report as Markdown."""
    parts = [
        "# Performance",
        _MADE,
        *_warning(figures),
        *_aims(figures),
        *_how(figures),
        *_verbs(figures),
        *_worker(figures),
        *_sends(figures),
        *_hot(figures),
        *_processes(figures),
        *_sizes_of_processes(figures),
        *growth_parts(figures),
        *_spent(figures),
        *_place(figures),
    ]
    return "\n\n".join(parts) + "\n"


def _warning(figures: Figures) -> Iterable[str]:
    if figures.scale == QUICK:
        yield "> **A quick run.** It shows that the bench works; its figures are too few to mean anything."


def _aims(figures: Figures) -> Iterable[str]:
    aims = aims_of(figures)
    said = {True: "met", False: "**missed**", None: "not measured so far"}
    yield "## Aims"
    yield table(
        ("aim", "wanted", "found", ""), ((aim.name, aim.wanted, aim.found, said[aim.met]) for aim in aims)
    )
    met, missed, open_ = (sum(aim.met is verdict for aim in aims) for verdict in (True, False, None))
    told = f"{met} of {len(aims)} aims are met and {missed} missed."
    if open_:
        told += f" {open_} need 10,000,000 refunds: `make bench GROWTH=10000000`."
    if missed:
        told += " What the time goes to is under [What it is spent on](#what-it-is-spent-on)."
    yield told


def _how(figures: Figures) -> Iterable[str]:
    scale = figures.scale
    yield "## How it is measured"
    yield (
        "Bare SQL is what the service sends to PostgreSQL for the same thing, recorded from the service "
        "itself and sent by `pgbench` with the same binds, statements prepared. Bare and service take turns "
        f"on the same server; each figure is the median of {scale.rounds} such rounds of about "
        f"{scale.requests:,} requests (lists: of a quarter as many). CPU is what the kernel counted for the "
        "process that talks to PostgreSQL (the service, or pgbench) and for all of PostgreSQL's processes. "
        "The HTTP client and the sandbox gateway run as processes of their own and are not counted, though "
        "they share the machine."
    )
    yield (
        "PostgreSQL is the one that the package brings along, with `fsync` on and its usual settings but for "
        "these: `autovacuum` is off for the time of the bench, with `VACUUM (ANALYZE)` before each block "
        "instead, because long rounds of the service would pay for maintenance that short rounds of pgbench "
        "do not; and `max_wal_size` is 8 GB. The databases are filled and analyzed before the service starts."
    )


def _verbs(figures: Figures) -> Iterable[str]:
    yield "## Verbs"
    yield (
        "CPU is in seconds per 1,000 requests, which is milliseconds per request; the process and the "
        "database are added up. The service's requests are authenticated, rate-limited, checked and decided "
        "by policy; the bare statements are not."
    )
    yield _pairs(figures.verbs)
    yield "![CPU of each verb](performance/verbs-cpu.svg)"
    yield "![Requests per second of each verb](performance/verbs-rate.svg)"


def _pairs(pairs: Sequence[Pair], *, waits: bool = True) -> str:
    heads = ["", "clients", "bare per s", "service per s", "bare CPU", "service CPU", "service ÷ bare"]
    rows = []
    for pair in pairs:
        cells = [
            pair.name, str(pair.clients), f"{pair.bare.per_second:,.0f}", f"{pair.service.per_second:,.0f}",
            _split(pair.bare), _split(pair.service), f"{pair.times:.2f}×",
        ]  # fmt: skip
        if waits:
            cells.append(f"{pair.bare.ms:.2f} / {pair.service.ms:.2f}")
        rows.append(cells)
    return table((*heads, "ms bare / service") if waits else heads, rows)


def _split(cost: Cost) -> str:
    return f"{cost.cpu:.2f} ({cost.client_cpu:.2f} + {cost.database_cpu:.2f})"


def _worker(figures: Figures) -> Iterable[str]:
    yield "## The worker's half"
    yield (
        f"Refunds that wait are worked on until none is left, by one `refund-service work` process; the "
        f"gateway, a sandbox, answers at once. A claim takes up to {PER_LANE} refunds of one account, and so "
        f"does the bare claim: its cost is divided by {PER_LANE}. The other three statements run once for "
        f"each refund, over {CONNECTIONS} connections: as many as a worker works on at once for one account. "
        "The job that watches over late refunds once a minute is left out."
    )
    yield _pairs([figures.worker], waits=False)


def _sends(figures: Figures) -> Iterable[str]:
    if (sends := figures.sends) is None:
        return
    yield "## Sending to a slow gateway"
    yield (
        f"{sends.refunds:,} queued refunds of one account, sent by one `refund-service work` process to a "
        f"gateway that takes {sends.answer_ms:g} ms for each. The account allows {sends.parallel} calls at a "
        f"time, which is {sends.allowed:.0f} sends per second with every place taken all the time; found are "
        f"**{sends.per_second:.0f}**, {sends.share:.0%} of it, from the worker's start to the last refund."
    )


def _hot(figures: Figures) -> Iterable[str]:
    hot, many = figures.hot, figures.verb("create", MANY)
    yield "## One hot payment"
    yield (
        "Refunds of one payment wait for each other: the lock on its row spans the commit. Bare SQL reaches "
        f"{hot.bare.per_second / many.bare.per_second:.0%} there of what it does over many payments, the "
        f"service {hot.service.per_second / many.service.per_second:.0%}."
    )
    yield _pairs([many, hot])


def _processes(figures: Figures) -> Iterable[str]:
    yield "## One process and two"
    yield f"The same {MANY} clients, spread over two API processes; CPU is of both together."
    yield table(
        ("", "one, per s", "two, per s", "one, CPU", "two, CPU"),
        (
            (
                pair.name, f"{pair.one.per_second:,.0f}", f"{pair.two.per_second:,.0f}",
                _split(pair.one), _split(pair.two),
            )
            for pair in figures.processes
        ),
    )  # fmt: skip
    gain = max(pair.two.per_second / pair.one.per_second for pair in figures.processes)
    yield (
        f"The second process brings up to {gain:.2f} times the requests on {figures.place.cores} cores, "
        "which the client and PostgreSQL share."
    )


def _sizes_of_processes(figures: Figures) -> Iterable[str]:
    yield "## Memory and start"
    yield table(
        ("process", "resident after the load"),
        ((name, f"{mb:.0f} MB") for name, mb in figures.resident_mb.items()),
    )
    yield table(
        ("command", "seconds from exec", "tries"),
        (
            (
                f"`refund-service {name}`, until it {'has ended' if name.startswith('--') else 'is ready'}",
                f"{statistics.median(tries):.2f}",
                str(len(tries)),
            )
            for name, tries in figures.starts.items()
        ),
    )


def _spent(figures: Figures) -> Iterable[str]:
    yield "## What it is spent on"
    spent = figures.spent
    if spent is None:
        yield "This run could not look into the process: py-spy needs the right to trace it."
        return
    yield (
        f"The API process while it creates refunds, by {spent.samples:,} looks at its stack. *Own* is whose "
        "Python was running, or had called into C, at that moment; these add up to all of it."
    )
    yield "![Own time](performance/spent.svg)"
    yield _shares("library, or room of ours", "own", spent.own)
    yield "*Under* is that a module of ours was anywhere on the stack, so these overlap."
    yield _shares("module", "under", spent.under)


def _shares(head: str, kind: str, shares: dict[str, float]) -> str:
    rows = list(shares.items())[:_MOST_SHOWN]
    return table((head, kind), ((f"`{name}`", f"{share:.1%}") for name, share in rows))


def _place(figures: Figures) -> Iterable[str]:
    place = figures.place
    yield "## Where"
    yield table(
        ("", ""),
        [
            ("when", place.date),
            ("processor", f"{place.processor}, {place.cores} cores"),
            ("memory", f"{place.memory_gb:.0f} GB"),
            ("system", place.system),
            ("load average before", f"{place.load_before:.2f}"),
            *place.versions.items(),
        ],
    )


def _plots(figures: Figures) -> dict[str, str]:
    few = [pair for pair in figures.verbs if pair.clients == FEW]
    names = {(pair.name, pair.clients): f"{pair.name}, {pair.clients}" for pair in figures.verbs}
    plots = {
        "verbs-cpu": draw_bars(
            Bars(
                "CPU of the process and the database together, 1 client",
                "CPU seconds per 1,000",
                ("bare SQL", "service"),
                [(pair.name, (pair.bare.cpu, pair.service.cpu)) for pair in few],
            )
        ),
        "verbs-rate": draw_bars(
            Bars(
                "Requests per second, by verb and number of clients",
                "requests per second",
                ("bare SQL", "service"),
                [
                    (names[pair.name, pair.clients], (pair.bare.per_second, pair.service.per_second))
                    for pair in figures.verbs
                ],
            )
        ),
    }
    if figures.spent is not None:
        shown = list(figures.spent.own.items())[:_MOST_SHOWN]
        plots["spent"] = draw_bars(
            Bars(
                "What the API process is spent on while it creates refunds",
                "percent of its CPU time",
                ("own",),
                [(name, (share * 100,)) for name, share in shown],
            )
        )
    return plots | growth_plots(figures)
