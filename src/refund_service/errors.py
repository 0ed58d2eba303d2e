"""What can go wrong in a caller's eyes. ``api/problems.py`` alone turns these into answers.

A refusal names its code, the rule or limit, the numbers, and what can be done: ``facts`` are
the numbers, ``links`` the way on. The code is what clients compare; it never changes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RefundServiceError(Exception):
    """A refusal that the caller can be told."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    help: ClassVar[str]
    """What the caller can do: a sentence on the code's page."""

    retryable: ClassVar[bool] = False
    retry_after: int | None = None
    """Seconds; sent as ``Retry-After``."""

    def __init__(
        self,
        detail: str,
        *,
        links: dict[str, str] | None = None,
        retry_after: int | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.links = links or {}
        self.facts = facts
        if retry_after is not None:
            self.retry_after = retry_after


class NotFound(RefundServiceError):
    code = "not-found"
    status = 404
    title = "There is no such thing here"
    help = "Check the id and the key's merchant and mode. What belongs to another merchant answers the same."


class Conflict(RefundServiceError):
    """Not now: nothing was committed, and the same request may be right later."""

    status = 409


class Unprocessable(RefundServiceError):
    """Not like this: the request itself has to change."""

    status = 422


class Unavailable(RefundServiceError):
    """Something that the service needs is away; nothing was done."""

    status = 503
    retryable = True
    retry_after = 1
