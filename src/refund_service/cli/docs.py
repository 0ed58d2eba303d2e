"""The reference pages, made from the code: what they say cannot be out of date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from refund_service.api.problem_pages import catalogue
from refund_service.events.types import EVENT_TYPES
from refund_service.gateways.registry import gateway_named, gateway_names
from refund_service.refunds.states import COUNTED, HOLDING, TRANSITIONS, RefundEvent, Status, outcome
from refund_service.settings import NEEDED_IN_PRODUCTION, SECRETS, SHORTEST_SECRET, Settings, variable

_MADE: Final = "<!-- Made from the code by `make docs`. Changes by hand are lost. -->\n"

_MEANS: Final = {
    Status.AWAITING_APPROVAL: "The decision wants a person.",
    Status.QUEUED: "Allowed and written down; not sent yet, or not before its time, or stopped by a switch.",
    Status.PROCESSING: "It is being sent, or the gateway has it and has not finished.",
    Status.REQUIRES_ACTION: "The gateway waits for the customer.",
    Status.UNKNOWN: "The answer was lost: the money may have moved. It is looked up until it is known.",
    Status.SUCCEEDED: "The gateway says that it is done.",
    Status.FAILED: "Certainly not done. `retry` sets the amount aside anew and sends the next generation.",
    Status.CANCELED: "Stopped by the merchant before it was sent.",
    Status.REJECTED: "Stopped by an approver.",
    Status.EXPIRED: "Stopped because no one approved it in time.",
    Status.REVERSED: "It had succeeded, then the money came back. A new refund names it in `replaces`.",
}

_HAPPENS: Final = {
    RefundEvent.REQUEST: "asked for, and allowed by the policy",
    RefundEvent.REQUEST_APPROVAL: "asked for, and the policy wants a person",
    RefundEvent.APPROVE: "a person said yes",
    RefundEvent.REJECT: "a person said no",
    RefundEvent.EXPIRE: "no one answered in time",
    RefundEvent.CANCEL: "`POST /v1/refunds/{id}/cancel`",
    RefundEvent.SUBMIT: "a worker wrote down what it sends, then sends it",
    RefundEvent.RESUBMIT: "it is surely not at the gateway: the same bytes go again under the same key",
    RefundEvent.NOT_SENT: "nothing left this machine, now or before",
    RefundEvent.LOSE_TRACK: "no one can say what became of it",
    RefundEvent.FIND_PENDING: "the gateway has it and is not finished",
    RefundEvent.NEED_ACTION: "the gateway waits for the customer",
    RefundEvent.SUCCEED: "the gateway says that it is done",
    RefundEvent.FAIL: "the gateway says no, for certain",
    RefundEvent.REVERSE: "the gateway shows a success as failed",
    RefundEvent.TURN_OUT_DONE: "the gateway shows a failure as done; a person is called",
    RefundEvent.RETRY: "`POST /v1/refunds/{id}/retry`",
}


def states() -> str:
    """The life of a refund."""
    drawn = [
        f"    {before.value if before else '[*]'} --> {after.value}: {event.value}"
        for (before, event), after in TRANSITIONS.items()
    ]
    ends = [status for status in Status if all(before is not status for before, _ in TRANSITIONS)]
    diagram = ["```mermaid", "stateDiagram-v2", *drawn, *(f"    {end.value} --> [*]" for end in ends), "```"]
    statuses = (
        (
            _code(status),
            outcome(status).value,
            "held" if status in HOLDING else "refunded" if status in COUNTED else "-",
            _MEANS[status],
        )
        for status in Status
    )
    moves = (
        (_code(before) if before else "-", _code(event), _code(after), _HAPPENS[event])
        for (before, event), after in TRANSITIONS.items()
    )
    return _page(
        "Statuses of a refund",
        "The same words stand in the API, the events and the database. Take a status that you do not know "
        "for what its `outcome` says. *Counts as* is where the amount stands on the payment meanwhile.",
        _table(("status", "outcome", "counts as", "meaning"), statuses),
        "\n".join(diagram),
        "## Moves",
        _table(("from", "by", "to", "when"), moves),
    )


def problems() -> str:
    """Every refusal, by code."""
    rows = (
        (
            _code(one.code),
            str(one.status),
            one.title,
            one.help,
            "yes" if one.retryable else "no",
        )
        for one in catalogue()
    )
    return _page(
        "Problems",
        "Errors are `application/problem+json` (RFC 9457). Compare `code`, which never changes; "
        "`type` is a page of the running service that says the same as this one. *Again* is `retryable`: "
        "whether the same request may be right later, after `Retry-After` where it is told.",
        _table(("code", "status", "title", "what can be done", "again"), rows),
    )


def settings() -> str:
    """Every setting of the environment."""
    rows = []
    for name, field in Settings.model_fields.items():
        told = variable(name)
        rows.append(
            (
                f"{_code(told)} or {_code(told + '_FILE')}" if told in SECRETS else _code(told),
                _default(field.get_default(call_default_factory=True)),
                _may_be(name, field),
                field.description or "",
            )
        )
    demanded = ", ".join(_code(variable(name)) for name in NEEDED_IN_PRODUCTION)
    return _page(
        "Settings",
        "All come from the environment, and are read once, at the start. `refund-service config check` tries "
        "them as `serve` would read them, says what is wrong with each, and names variables that look like "
        "settings and are none.",
        _table(("setting", "default", "may be", "what it is for"), rows),
        "## Secrets",
        f"{', '.join(map(_code, SECRETS))} are shown nowhere. Each may come from a file instead, whose path "
        "stands in `…_FILE`; where both are set, the variable wins. Of a list with ids the first one is used "
        "for what is new, and the others still hold: put a new one in front to change it. In development, "
        "those that are not set are made at the first start and kept in `REFUND_DATA_DIR`.",
        "## In production",
        f"`REFUND_MODE=production`, which the image sets, demands {demanded}; peppers and the cursor secret "
        f"of {SHORTEST_SECRET} characters or more each. It refuses the embedded database and the sandbox.",
    )


def _may_be(name: str, field: FieldInfo) -> str:
    """What the class's own bounds say, in words."""
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(_code(one.value) for one in kind)
    if kind is bool:
        return "`true` or `false`"
    bounds = {
        bound: getattr(one, bound) for one in field.metadata for bound in _BOUNDS if hasattr(one, bound)
    }
    match bounds:
        case {"ge": low, "le": high}:
            return f"{low} to {high}"
        case {"ge": low}:
            return f"{low} or more"
        case {"gt": low}:
            return f"above {low}"
    return _SHAPES[name]


_BOUNDS: Final = ("ge", "gt", "le", "lt")
_SHAPES: Final = {
    "database_url": "`postgresql://role:password@host:port/database`",
    "data_dir": "a folder",
    "host": "an address or name of this machine",
    "ops_host": "an address or name of this machine",
    "public_url": "an `https://` or `http://` address",
    "key_peppers": "`id:secret,…`",
    "sealing_keys": "`id:base64,…` of 32 bytes each",
    "cursor_secret": "text",
}
"""What bounds do not say."""


def events() -> str:
    """Every type of event."""
    rows = ((_code(name), told) for name, told in EVENT_TYPES.items())
    return _page(
        "Events",
        "`GET /v1/events` serves them oldest first. Each is written in the transaction that makes it true. "
        "`sequence` rises by one with each event of the same resource. `data` carries ids and figures, never "
        "personal data; members may be added to it. Pass over types that you do not know.",
        _table(("type", "when"), rows),
    )


def gateways() -> str:
    """How the gateways that are installed behave, for an account without settings of its own."""
    rows = []
    for name in gateway_names():
        gateway = gateway_named(name)
        if not type(gateway).__module__.startswith("refund_service."):
            continue  # another's adapter, which this machine happens to have
        traits = gateway.traits({})
        rows.append(
            (
                _code(name),
                traits.idempotency,
                _told(traits.replay_horizon),
                traits.lookup.replace("_", " "),
                f"{traits.enough_misses} over {_told(traits.enough_miss_time)}",
                _told(traits.time_limit),
                str(traits.parallel_calls),
                _told(traits.arrives_within),
            )
        )
    names = (
        "gateway",
        "idempotency key",
        "known for",
        "look-up",
        "not there after",
        "call limit",
        "calls at once",
        "arrives within",
    )
    return _page(
        "Gateways",
        "How each behaves, for an account without settings of its own. "
        "[Write an adapter](../how-to/write-an-adapter.md) says what these mean.",
        _table(names, rows),
    )


PAGES: Final[dict[str, Callable[[], str]]] = {
    "states.md": states,
    "problems.md": problems,
    "settings.md": settings,
    "events.md": events,
    "gateways.md": gateways,
}


def write_pages(folder: Path) -> None:
    """Write every page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page())


def outdated(folder: Path) -> list[str]:
    """The pages that are not there or say something else than the code."""
    return [
        name
        for name, page in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text() != page()
    ]


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _MADE.strip(), *parts)) + "\n"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([_row(names), _row(["---"] * len(names)), *(_row(row) for row in rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _code(word: str) -> str:
    return f"`{word}`"


def _default(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if value is None or value is PydanticUndefined or value == {}:
        return "-"
    if isinstance(value, float):
        return _code(f"{value:g}")
    return _code(str(value).lower() if isinstance(value, bool) else str(value))


def _told(span: timedelta) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if span and span.total_seconds() % seconds == 0:
            return f"{span.total_seconds() / seconds:g} {unit}"
    return f"{span.total_seconds():g} s"
