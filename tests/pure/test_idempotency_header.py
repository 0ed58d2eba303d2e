"""What is one idempotency key, what are two, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.api.idempotency import fingerprint, read_key, require_key
from refund_service.api.refusals import IdempotencyKeyInvalid, IdempotencyKeyMissing


def key(*values: bytes) -> str | None:
    return read_key([(b"accept", b"*/*"), *((b"idempotency-key", value) for value in values)])


def test_case_counts_and_the_whitespace_of_http_does_not() -> None:  # IDM-33
    assert key(b"abc") == "abc"
    assert key(b"ABC") == "ABC"
    assert key(b"abc ") == key(b"\tabc") == "abc"


def test_one_pair_of_quotes_is_not_part_of_the_key() -> None:  # IDM-34
    assert key(b'"abc"') == key(b' "abc" ') == "abc"
    assert key(b'""abc""') == '"abc"'
    assert key(b'"abc') == '"abc'
    assert key(b'"') == '"'


@pytest.mark.parametrize("length", [1, 2, 255])
def test_a_key_may_have_1_to_255_characters(length: int) -> None:  # IDM-35
    assert key(b"k" * length) == "k" * length
    assert key(b'"' + b"k" * length + b'"') == "k" * length


@pytest.mark.parametrize(
    "value", [b"", b"  ", b'""', b'" "', b"k" * 256, b'"' + b"k" * 256 + b'"', b"k" * 8192]
)
def test_no_other_length_is_a_key(value: bytes) -> None:  # IDM-35
    with pytest.raises(IdempotencyKeyInvalid):
        key(value)


@given(
    st.binary(min_size=1, max_size=5).filter(
        lambda raw: any(not 0x21 <= byte <= 0x7E for byte in raw.strip(b" \t"))
    )
)
def test_bytes_that_are_not_visible_ascii_are_no_key(raw: bytes) -> None:  # IDM-36
    with pytest.raises(IdempotencyKeyInvalid):
        key(raw)


@pytest.mark.parametrize("value", [b"a b", b"a\r\nb", b"a\x00", b"\xc3\xa9", b"a\x7f", b'" abc"'])
def test_control_characters_spaces_and_letters_beyond_ascii_are_refused(value: bytes) -> None:  # IDM-36
    with pytest.raises(IdempotencyKeyInvalid):
        key(value)


@pytest.mark.parametrize("value", ["';DROP--", "*)(uid=*", "../../", "__proto__", "%00", "a,b", "\\"])
def test_nothing_in_a_key_means_anything(value: str) -> None:  # IDM-38
    assert key(value.encode()) == value


def test_the_header_comes_once() -> None:
    with pytest.raises(IdempotencyKeyInvalid):
        key(b"a", b"a")


def test_the_header_may_be_missing_where_it_is_not_needed() -> None:
    assert key() is None
    with pytest.raises(IdempotencyKeyMissing):
        require_key([])
    assert require_key([(b"Idempotency-Key", b"a")]) == "a"


def of(body: object, method: str = "POST", path: str = "/v1/refunds", query: str = "") -> bytes:
    return fingerprint(method, path, query, body)


def test_spelling_makes_no_difference_between_requests() -> None:  # IDM-04
    assert of({"a": 1, "b": {"c": [], "d": None}}) == of({"b": {"d": None, "c": []}, "a": 1})
    assert len(of({})) == 32


def test_whatever_else_differs_makes_another_request() -> None:  # IDM-03
    bodies: list[object] = [
        1,
        1.0,
        True,
        "1",
        [1],
        [1, 2],
        [2, 1],
        {},
        {"a": None},
        {"a": ""},
        "é",
        "e\u0301",
        None,
    ]
    prints = [of(body) for body in bodies]
    prints += [of(1, method="PUT"), of(1, path="/v1/refunds/"), of(1, query="a=1"), of(1, query="a=2")]
    assert len(set(prints)) == len(prints)
