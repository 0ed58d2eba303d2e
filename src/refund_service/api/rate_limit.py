"""Limits per key: a bucket of tokens, held in the process.

Several processes each give the whole rate; a limit over all of them belongs to the proxy in front.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from refund_service.api.refusals import RateLimited


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one request was told about its key's limit."""

    allowed: bool
    burst: int
    window: int
    """Seconds in which an empty bucket fills."""
    remaining: int
    full_in: int
    """Seconds until the bucket is full again."""
    next_in: int
    """Seconds until the next request is allowed; 0 where one is now."""

    def headers(self) -> dict[str, str]:
        """``RateLimit`` and its policy, as the IETF's draft has them."""
        return {
            "RateLimit-Policy": f'"key";q={self.burst};w={self.window}',
            "RateLimit": f'"key";r={self.remaining};t={self.full_in}',
        }

    def refusal(self, who: str = "The key") -> RateLimited:
        """The 429 to answer with where the request was not allowed."""
        return RateLimited(
            f"{who} may send {self.burst} requests in {self.window} seconds.",
            retry_after=self.next_in,
            limit=self.burst,
        )


class RateLimiter:
    """``rate`` requests a second for each key, and ``burst`` of them at once."""

    def __init__(self, rate: float, burst: int, *, most_keys: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._window = math.ceil(burst / rate)
        self._most_keys = most_keys
        # key -> tokens, and the time they were counted; the longest unseen first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, *, now: float) -> Allowance:
        """Take one token, if there is one. ``now`` is in seconds of a clock that never goes back."""
        tokens, counted = self._buckets.get(key, (float(self._burst), now))
        # Two requests may come here in another order than they looked at the clock: no time runs back.
        now = max(now, counted)
        tokens = min(self._burst, tokens + (now - counted) * self._rate)
        allowed = tokens >= 1
        if allowed:
            tokens -= 1
        self._buckets[key] = tokens, now
        self._buckets.move_to_end(key)
        # The longest unseen are the fullest: forgetting them gives away the least.
        while len(self._buckets) > self._most_keys:
            self._buckets.popitem(last=False)
        return Allowance(
            allowed=allowed,
            burst=self._burst,
            window=self._window,
            remaining=int(tokens),
            full_in=math.ceil((self._burst - tokens) / self._rate),
            next_in=0 if tokens >= 1 else math.ceil((1 - tokens) / self._rate),
        )

    def __len__(self) -> int:
        return len(self._buckets)
