"""Where in a request something is wrong: JSON pointers (RFC 6901) and the ``errors`` they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from refund_service.logs import mask

MOST_ERRORS: Final = 20
"""More are not told: a body of a thousand mistakes does not get a thousand answers."""

_LONGEST_NAME: Final = 100
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def pointer_to(steps: Iterable[str | int]) -> str:
    """The pointer along ``steps``: ``/lines/0/sku``. Names are the caller's, so they are masked and cut."""
    return "".join(f"/{_shown(str(step))}" for step in steps)


def field_error(pointer: str, code: str, detail: str, *, where: str = "body") -> dict[str, str]:
    """One entry of a problem's ``errors``; ``where`` is body, query, header, cookie or path."""
    return {"in": where, "pointer": pointer, "code": code, "detail": detail}


def _shown(name: str) -> str:
    name = _UNPRINTABLE.sub("\ufffd", mask(name)[:_LONGEST_NAME])
    return name.replace("~", "~0").replace("/", "~1")
