"""What the service is meant to reach, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.figures import Figures
from bench.growth import Size
from bench.rounds import Cost, Pair

FEW, MANY = 1, 32
CREATE_TIMES, READ_TIMES = 3.0, 10.0
HOT_SHARE = 0.5
SENDS_SHARE = 0.9
GROWS = 1.1
LISTS_GROW = 1.5
LARGEST_MB = 120.0
GROWN = 10_000_000
LISTS_FROM = 1_000_000


@dataclass(frozen=True)
class Aim:
    """One aim with its figure; ``met`` is None where this run did not go so far."""

    name: str
    wanted: str
    found: str
    met: bool | None


def aims_of(figures: Figures) -> list[Aim]:
    """Every aim, in the order of the report."""
    return [
        *(_times(figures, "create", clients, CREATE_TIMES) for clients in (FEW, MANY)),
        *(_times(figures, "read", clients, READ_TIMES) for clients in (FEW, MANY)),
        _hot(figures),
        *(_growth(figures, name) for name in ("create", "read")),
        _lists(figures),
        *_sends(figures),
        *(_memory(name, mb) for name, mb in figures.resident_mb.items()),
    ]


def _times(figures: Figures, name: str, clients: int, at_most: float) -> Aim:
    pair = figures.verb(name, clients)
    return Aim(
        f"CPU of {name}, {clients} client{'s' if clients > 1 else ''}",
        f"at most {at_most:g}× the bare statements",
        f"{pair.times:.2f}×",
        pair.times <= at_most,
    )


def _hot(figures: Figures) -> Aim:
    share = figures.hot.service.per_second / figures.hot.bare.per_second
    return Aim(
        f"One hot payment, {figures.hot.clients} clients",
        f"at least {HOT_SHARE:g} of the bare statements' requests per second",
        f"{share:.2f}",
        share >= HOT_SHARE,
    )


def grown(smallest: Pair, largest: Pair) -> float:
    """How much more the service grew in CPU than the bare statements did."""
    return growth(smallest.service, largest.service) / growth(smallest.bare, largest.bare)


def growth(small: Cost, large: Cost) -> float:
    """How many times the CPU it takes by then."""
    return large.cpu / small.cpu


def pair_of(size: Size, name: str) -> Pair:
    return next(pair for pair in size.pairs if pair.name == name)


def _growth(figures: Figures, name: str) -> Aim:
    first, last = figures.sizes[0], figures.sizes[-1]
    found = grown(pair_of(first, name), pair_of(last, name))
    return Aim(
        f"Growth of {name}, empty to {GROWN:,} refunds",
        f"at most {GROWS:g}× what the bare statements grow",
        f"{found:.2f}× at {last.refunds:,}",
        found <= GROWS if last.refunds >= GROWN else None,
    )


def _lists(figures: Figures) -> Aim:
    last = figures.sizes[-1]
    at = next(size for size in figures.sizes if size.refunds >= min(LISTS_FROM, last.refunds))
    times = {
        pair.name: growth(pair_of(at, pair.name).service, pair.service)
        for pair in last.pairs
        if pair.name not in {"create", "read"} and any(one.name == pair.name for one in at.pairs)
    }
    worst = max(times, key=lambda name: times[name])
    fits = times[worst] <= LISTS_GROW and not last.unanswered
    unanswered = f", {len(last.unanswered)} not answered" if last.unanswered else ""
    return Aim(
        f"Growth of lists, {LISTS_FROM:,} to {GROWN:,} refunds",
        f"each at most {LISTS_GROW:g}×",
        f"{times[worst]:.2f}× ({worst}) at {last.refunds:,}{unanswered}",
        fits if last.refunds >= GROWN else None,
    )


def _sends(figures: Figures) -> Iterator[Aim]:
    if (sends := figures.sends) is None:
        return
    yield Aim(
        f"Sends per second, {sends.parallel} in parallel, answered in {sends.answer_ms:g} ms",
        f"at least {SENDS_SHARE:.0%} of what the limit allows",
        f"{sends.share:.0%}: {sends.per_second:.0f} of {sends.allowed:.0f}",
        sends.share >= SENDS_SHARE,
    )


def _memory(name: str, mb: float) -> Aim:
    return Aim(
        f"Resident memory, {name} process", f"under {LARGEST_MB:g} MB", f"{mb:.0f} MB", mb < LARGEST_MB
    )
