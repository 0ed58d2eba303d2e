"""Logs: JSON, one line an event, on stdout; what looks like a secret is masked on the way out.

Everything that logs through the standard library (the server, the database's driver) goes through
the same hands, so that no line of theirs leaves in another shape or with more in it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, BinaryIO, Final, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from refund_service.card_numbers import MASK, looks_like_card, mask_cards
from refund_service.clock import rfc3339, utc_now

_KEY: Final = re.compile(r"(?<![A-Za-z0-9])((?:rk|sk|pk|whsec)_(?:(?:live|test)_)?)[A-Za-z0-9+/=_-]{6,}")
_LONGEST_MESSAGE: Final = 300
_MOST_FRAMES: Final = 20
_OFTEN_THE_SAME: Final = 64
"""Characters; longer texts are seldom seen twice."""


def mask(text: str) -> str:
    """The text without card numbers and without the secret part of API keys."""
    return _mask_again(text) if len(text) <= _OFTEN_THE_SAME else _mask(text)


def _mask(text: str) -> str:
    if "k_" in text or "whsec_" in text:
        text = _KEY.sub(r"\1[masked]", text)
    return mask_cards(text)


# Routes, methods, ids of keys and merchants: most of a line stood in the line before.
_mask_again: Final = lru_cache(maxsize=2048)(_mask)


def mask_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that masks every value of a line, however deep it lies."""
    return {str(name): _masked(value) for name, value in event.items()}


def _masked(value: object) -> object:
    match value:
        case None | bool() | float():
            return value
        case str():
            return mask(value)
        case int():
            return MASK if looks_like_card(str(value)) else value
        case Mapping():
            return {mask(str(name)): _masked(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_masked(inner) for inner in value]
        case _:
            return mask(str(value))


def tell_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When it happened."""
    event["at"] = rfc3339(utc_now())
    return event


def tell_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What was raised and where: the first line of its message, never a local variable.

    The first line only, because drivers print the failing row and the parameters in the next ones.
    """
    told = event.pop("exc_info", None)
    error = _error_of(told)
    if error is not None:
        event["exception"] = _exception(error)
    return event


def _error_of(told: BaseException | ExcInfo | bool | None) -> BaseException | None:  # noqa: FBT001 - logging's own shapes
    if told is True:
        return sys.exc_info()[1]
    if isinstance(told, tuple):
        return told[1]
    return told or None


def _exception(error: BaseException) -> dict[str, Any]:
    lines = str(error).splitlines()
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    told: dict[str, Any] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": lines[0][:_LONGEST_MESSAGE] if lines else "",
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if error.__cause__ is not None:
        told["cause"] = _exception(error.__cause__)
    return told


def render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    """One line of JSON, in ASCII: nothing inside it can end the line."""
    return json.dumps(event, separators=(",", ":"), default=str).encode()


PROCESSORS: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    tell_time,
    tell_exception,
    mask_values,
    cast("Processor", render),
)


class _Lines(logging.Handler):
    """Hands the standard library's records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: EventDict = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            structlog.get_logger().log(record.levelno, **event)
        except Exception:  # noqa: BLE001 - a log line that cannot be written must not break what logs it
            self.handleError(record)


def configure(level: str = "info", *, stream: BinaryIO | None = None) -> None:
    """Set logging up for the process; ``stream`` takes bytes and is stdout where it is not named."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=list(PROCESSORS),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(threshold, logging.INFO), handlers=[_Lines()], force=True)
    # It tells each call with its whole URL, payment references included; what came of one the worker tells.
    logging.getLogger("httpx").setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
