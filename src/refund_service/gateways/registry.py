"""Finds gateway adapters by entry point, so that others can ship theirs."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from refund_service.errors import Unprocessable
from refund_service.gateways.protocol import RefundGateway

GROUP: Final = "refund_service.gateways"


class UnknownGateway(Unprocessable):
    code = "gateway-unknown"
    title = "There is no such gateway here"
    help = "Use one of the gateways named in `known`, or install the adapter's package and start anew."


def gateway_names() -> list[str]:
    """The gateways that are installed."""
    return sorted(_installed())


@cache
def gateway_named(name: str) -> RefundGateway:
    """The adapter of that name; one for all its accounts."""
    found = _installed().get(name)
    if found is None:
        raise UnknownGateway(f"No adapter is installed for {name!r}.", gateway=name, known=gateway_names())
    return cast("RefundGateway", found.load()())


@cache
def _installed() -> dict[str, EntryPoint]:
    # Read once: each look at the installed packages walks the disk.
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        # Two packages that both claim a gateway: whichever came first would get the credentials.
        if point.name in found and found[point.name].value != point.value:
            raise RuntimeError(f"two adapters are called {point.name!r}")
        found[point.name] = point
    return found
