"""The part of the report that tells what becomes of the figures as the tables grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.aims import grown, growth, pair_of
from bench.figures import Figures
from bench.growth import LARGE_ENOUGH, Size
from bench.plots import Lines, draw_lines
from bench.tables import table
from refund_service.schema import metadata

SINGLE: Final = ("create", "read")


def growth_parts(figures: Figures) -> Iterable[str]:
    """The section, as paragraphs of Markdown."""
    sizes = figures.sizes
    yield "## Growth"
    yield (
        f"The tables are filled by SQL with copies of one real refund; {sizes[0].refunds:,} count as empty: "
        "something has to be there to be read. One merchant of 20 has half of them; 96 % succeeded. "
        "One client asks, so that milliseconds are the wait for one answer. "
        + " ".join(
            f"{size.refunds:,} took {size.seconds_to_fill:,.0f} s to fill."
            for size in sizes
            if size is not sizes[0]
        )
    )
    for name in SINGLE:
        yield from _single(figures, name)
    yield from _lists(figures)
    yield from _bytes(sizes[-1])
    yield from _plans(sizes[-1])


def _single(figures: Figures, name: str) -> Iterable[str]:
    first = pair_of(figures.sizes[0], name)
    rows = []
    for size in figures.sizes:
        pair = pair_of(size, name)
        rows.append(
            (
                f"{size.refunds:,}",
                f"{pair.bare.ms:.2f}",
                f"{pair.service.ms:.2f}",
                f"{pair.bare.cpu:.3f}",
                f"{pair.service.cpu:.3f}",
                f"{growth(first.bare, pair.bare):.2f}×",
                f"{growth(first.service, pair.service):.2f}×",
                f"{grown(first, pair):.2f}×",
            )
        )
    yield f"### {name.capitalize()}"
    heads = ("refunds", "bare ms", "service ms", "bare CPU", "service CPU", "bare grew", "service grew")
    yield table((*heads, "service ÷ bare"), rows)
    yield f"![{name.capitalize()} as the tables grow](performance/growth-{name}.svg)"


def _lists(figures: Figures) -> Iterable[str]:
    last = figures.sizes[-1]
    before = figures.sizes[-2]
    rows = []
    for pair in last.pairs:
        if pair.name in SINGLE or all(one.name != pair.name for one in before.pairs):
            continue
        earlier = pair_of(before, pair.name)
        rows.append(
            (
                pair.name,
                f"{earlier.bare.ms:.2f}",
                f"{earlier.service.ms:.2f}",
                f"{pair.bare.ms:.2f}",
                f"{pair.service.ms:.2f}",
                f"{earlier.service.cpu:.2f}",
                f"{pair.service.cpu:.2f}",
                f"{growth(earlier.bare, pair.bare):.2f}×",
                f"{growth(earlier.service, pair.service):.2f}×",
            )
        )
    small, large = f"at {before.refunds:,}", f"at {last.refunds:,}"
    yield "### Lists"
    yield (
        f"Pages of 20 of the large merchant, {small} and {large} refunds; how they grew is told in CPU. "
        "*At any depth* is a page behind a cursor to a refund drawn from all of them."
    )
    heads = (
        *(
            "narrowed by",
            f"bare ms {small}",
            f"service ms {small}",
            f"bare ms {large}",
            f"service ms {large}",
        ),
        *(f"service CPU {small}", f"service CPU {large}", "bare grew", "service grew"),
    )
    yield table(heads, rows)
    for told in (*before.unanswered, *last.unanswered):
        yield f"**Finding:** not answered: {told}"


def _bytes(size: Size) -> Iterable[str]:
    total = sum(size.bytes.values())
    yield "### Bytes a refund"
    yield f"{total / size.refunds:,.0f} bytes in all, at {size.refunds:,} refunds."
    tables = set(metadata.tables)
    yield table(
        ("table or index", "kind", "bytes a refund"),
        (
            (f"`{name}`", "table" if name in tables else "index", f"{bytes_ / size.refunds:,.0f}")
            for name, bytes_ in size.bytes.items()
        ),
    )


def _plans(size: Size) -> Iterable[str]:
    yield "### Plans"
    found = [plan for plan in size.plans if plan.sequential]
    if found:
        yield "**Finding:** " + "; ".join(
            f"*{plan.verb}* reads {', '.join(plan.sequential)} from end to end" for plan in found
        )
    else:
        yield (
            f"At {size.refunds:,} refunds no statement reads a table of {LARGE_ENOUGH:,} rows or more "
            "from end to end. Plans are of the bare statements with one transaction's values."
        )
    yield table(
        ("statements of", "indexes used"),
        ((plan.verb, ", ".join(f"`{name}`" for name in plan.indexes)) for plan in size.plans),
    )


def growth_plots(figures: Figures) -> dict[str, str]:
    """The plots of the section, by name."""
    places = [size.refunds for size in figures.sizes]
    plots = {}
    for name in SINGLE:
        pairs = [pair_of(size, name) for size in figures.sizes]
        plots[f"growth-{name}"] = draw_lines(
            Lines(
                f"CPU of {name} as the tables grow",
                "CPU seconds per 1,000, process and database together",
                places,
                [
                    ("bare SQL", [pair.bare.cpu for pair in pairs]),
                    ("service", [pair.service.cpu for pair in pairs]),
                ],
            )
        )
    return plots
