"""A key gets its burst and its rate, and no key can make us forget or remember too much."""

from __future__ import annotations

from refund_service.api.rate_limit import RateLimiter


def test_a_burst_is_allowed_and_one_more_is_not() -> None:  # SEC-27
    limiter = RateLimiter(rate=2, burst=3)
    assert [limiter.take("k", now=0).allowed for _ in range(4)] == [True, True, True, False]


def test_a_refusal_says_when_to_come_again_and_means_it() -> None:  # SEC-27
    limiter = RateLimiter(rate=0.5, burst=1)
    limiter.take("k", now=0)
    refusal = limiter.take("k", now=1).refusal()
    assert (refusal.status, refusal.retry_after) == (429, 1)
    assert not limiter.take("k", now=1.9).allowed
    assert limiter.take("k", now=2).allowed


def test_waiting_gives_no_more_than_the_burst() -> None:
    limiter = RateLimiter(rate=1, burst=2)
    limiter.take("k", now=0)
    assert [limiter.take("k", now=1_000_000).allowed for _ in range(3)] == [True, True, False]


def test_refused_requests_do_not_put_off_the_next_allowed_one() -> None:
    limiter = RateLimiter(rate=1, burst=1)
    limiter.take("k", now=0)
    for tenth in range(1, 10):
        assert not limiter.take("k", now=tenth / 10).allowed
    assert limiter.take("k", now=1.01).allowed


def test_who_is_counted_after_one_who_came_later_costs_no_more_than_a_token() -> None:
    limiter = RateLimiter(rate=10, burst=5)
    assert limiter.take("a", now=100.0).remaining == 4
    assert limiter.take("a", now=97.0).remaining == 3
    assert limiter.take("a", now=100.0).remaining == 2
    assert limiter.take("a", now=100.25).remaining == 3


def test_keys_do_not_share_a_bucket() -> None:  # SEC-27
    limiter = RateLimiter(rate=1, burst=1)
    assert limiter.take("a", now=0).allowed
    assert limiter.take("b", now=0).allowed
    assert not limiter.take("a", now=0).allowed


def test_the_headers_tell_what_is_left() -> None:
    limiter = RateLimiter(rate=2, burst=10)
    assert limiter.take("k", now=0).headers() == {
        "RateLimit-Policy": '"key";q=10;w=5',
        "RateLimit": '"key";r=9;t=1',
    }
    for _ in range(9):
        last = limiter.take("k", now=0)
    assert last.headers()["RateLimit"] == '"key";r=0;t=5'


def test_only_so_many_keys_are_remembered_and_the_longest_unseen_go_first() -> None:  # SEC-27
    limiter = RateLimiter(rate=1, burst=1, most_keys=2)
    for key in ("a", "b", "a", "c"):
        limiter.take(key, now=0)
    assert len(limiter) == 2
    assert not limiter.take("a", now=0).allowed
    assert limiter.take("b", now=0).allowed


def test_a_look_at_the_clock_that_comes_late_takes_nothing_away() -> None:
    limiter = RateLimiter(rate=100, burst=10)
    assert [limiter.take("k", now=now).remaining for now in (5, 4, 5)] == [9, 8, 7]
