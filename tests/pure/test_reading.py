"""What a gateway wrote is read without raising, and kept without what is nobody's business."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.gateways.reading import (
    LONGEST_TEXT,
    json_object,
    keepable,
    member,
    moment_in,
    moment_of,
    plain,
    retry_after,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "secret",
    [
        "4242 4242 4242 4242",
        "jane.doe+shop@example.org",
        "DE89 3704 0044 0532 0130 00",
        "GB82WEST12345698765432",
        "sk_live_51Hxxxxxxxxxxxxxxxx",
        "whsec_abcdefghijklmnop",
        "Bearer A21AAFs9s8-token",
        "AQEyhmfxK4PJahZCw0m/n3Q5qf3VaY9UCJ14XWZE03G/k2NFitRvbe4N1XqH1eHaH2AksaEQwV1bDb7kfNy1WIxIIkxgBw==",
    ],
)
def test_a_text_is_kept_without_numbers_addresses_and_keys(secret: str) -> None:  # SEC-19
    kept = keepable(f"The refund to {secret} was refused.")
    assert not any(part in kept for part in secret.split() if len(part) > 6), kept
    assert kept.startswith("The refund to [")
    assert kept.endswith("was refused.")


@pytest.mark.parametrize(
    "text",
    [
        "Refund amount ($6.00) is greater than unrefunded amount on charge ($5.00)",
        "Charge ch_3MmlLrLkdIwHu7ix0snN0B15 has already been refunded.",
        "Insufficient funds. Code 10-4.",
    ],
)
def test_a_text_that_gives_nothing_away_is_kept_as_it_is(text: str) -> None:
    assert keepable(text) == text


def test_a_text_is_kept_short_and_on_one_line() -> None:
    assert keepable("a\nb\x00c") == "a b c"
    assert len(keepable("x" * 10_000)) == LONGEST_TEXT
    assert [keepable(odd) for odd in (None, 1, [], {})] == [""] * 4


@given(st.text())
def test_any_text_can_be_kept(text: str) -> None:
    assert keepable(text).isprintable()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"1", b"\xff", b"[" * 100_000, b'{"a":' * 50_000]
)
def test_what_is_no_object_is_an_empty_one(body: bytes) -> None:
    assert json_object(body) == {}


def test_a_member_is_found_or_is_not_there() -> None:
    told = {"details": [{"issue": "A"}], "no": None}
    assert member(told, "details", 0, "issue") == "A"
    for path in (
        ("details", 1),
        ("details", "issue"),
        ("no", "way"),
        ("gone",),
        ("details", 0, "issue", "x"),
    ):
        assert member(told, *path) is None
    assert member([], "a") is None


@pytest.mark.parametrize("told", ["re_1", "~", "x" * 255])
def test_an_id_is_visible_ascii(told: str) -> None:
    assert plain(told) == told


@pytest.mark.parametrize("told", [None, 1, "", " ", "a b", "é", "x" * 256, "a\n"])
def test_what_could_not_be_sent_back_is_no_id(told: Any) -> None:
    assert plain(told) is None


def test_moments_are_read_where_they_say_their_zone() -> None:
    assert moment_of(1_772_366_400) == NOON
    assert moment_in("2026-03-01T12:00:00Z") == moment_in("2026-03-01T13:00:00+01:00") == NOON


@pytest.mark.parametrize("told", [None, True, 0, -1, "1772366400", 1e9, 10**30])
def test_what_is_no_unix_time_is_none(told: Any) -> None:
    assert moment_of(told) is None


@pytest.mark.parametrize(
    "told", [None, 5, "", "yesterday", "2026-03-01T12:00:00", "9999-12-31T23:59:59-23:59"]
)
def test_what_is_no_moment_is_none(told: Any) -> None:
    assert moment_in(told) is None


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("5", timedelta(seconds=5)),
        ("999999999", timedelta(hours=1)),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
    ],
)
def test_a_pause_is_read_in_seconds_and_bounded(told: str, read: timedelta | None) -> None:
    assert retry_after({"retry-after": told}) == read
    assert retry_after({}) is None
