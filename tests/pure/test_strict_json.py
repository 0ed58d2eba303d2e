"""JSON that two parsers may read in two ways is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.api.refusals import BodyMalformed, BodyUnreadable
from refund_service.api.strict_json import DEEPEST, LONGEST_NUMBER, parse

NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_whatever_json_can_say_is_read_as_it_was_meant(value: object, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"1 2",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\x00"}',
        b'{"a": "line\nbreak"}',
    ],
)
def test_what_is_not_json_in_utf8_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BodyUnreadable):
        parse(body)


def test_a_byte_order_mark_is_called_by_its_name() -> None:
    with pytest.raises(BodyUnreadable, match="byte order mark"):
        parse(b"\xef\xbb\xbf{}")


@given(st.binary(max_size=200))
def test_no_bytes_at_all_lead_to_anything_but_a_value_or_a_refusal(body: bytes) -> None:
    with suppress(BodyUnreadable, BodyMalformed):
        parse(body)


def errors_of(body: bytes) -> list[tuple[str, str]]:
    with pytest.raises(BodyMalformed) as refused:
        parse(body)
    return [(error["pointer"], error["code"]) for error in refused.value.facts["errors"]]


def test_a_name_that_stands_twice_is_pointed_at() -> None:
    assert errors_of(b'{"amount": 1, "amount": 2}') == [("/amount", "duplicate-member")]
    assert errors_of(b'{"lines": [{}, {"a/b": 1, "c": 2, "a/b": 1}]}') == [
        ("/lines/1/a~1b", "duplicate-member")
    ]


def test_the_same_name_in_two_objects_is_no_repetition() -> None:
    assert parse(b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}') == {"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}


def test_a_name_is_the_same_however_it_is_escaped() -> None:
    assert errors_of(rb'{"amount": 1, "\u0061mount": 2}') == [("/amount", "duplicate-member")]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
def test_numbers_are_finite(number: bytes) -> None:  # NUM-04
    assert errors_of(b'{"amount": ' + number + b"}") == [("/amount", "not-finite")]


def test_the_largest_finite_number_is_read() -> None:
    assert parse(b"1.7976931348623157e308") == math.nextafter(math.inf, 0)


def test_a_number_may_have_as_many_digits_as_are_bearable_and_not_one_more() -> None:  # NUM-06
    assert parse(b"9" * LONGEST_NUMBER) == int("9" * LONGEST_NUMBER)
    with pytest.raises(BodyUnreadable):
        parse(b"9" * (LONGEST_NUMBER + 1))
    with pytest.raises(BodyUnreadable):
        parse(b"0." + b"1" * LONGEST_NUMBER)
    with pytest.raises(BodyUnreadable):
        parse(b'{"amount": ' + b"1" * 5000 + b"}")


def test_text_holds_no_nul_and_no_half_of_a_character() -> None:
    assert errors_of(rb'{"note": "a\u0000b"}') == [("/note", "nul-character")]
    assert errors_of(rb'["\ud800"]') == [("/0", "lone-surrogate")]
    assert errors_of(rb'{"x": {"\udfff": 1}}') == [("/x/�", "lone-surrogate")]
    assert parse(rb'"\ud83d\ude00"') == "\N{GRINNING FACE}"


def test_the_deepest_nesting_is_read_and_one_deeper_is_not() -> None:  # SEC-03
    assert parse(b"[" * DEEPEST + b"]" * DEEPEST)
    with pytest.raises(BodyUnreadable):
        parse(b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1))
    with pytest.raises(BodyUnreadable):
        parse(b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1))


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_depth_bomb_is_refused_at_once(depth: int, opening: bytes, closing: bytes) -> None:  # SEC-03
    body = opening * depth + b"1" + closing * depth
    began = process_time()
    with pytest.raises(BodyUnreadable):
        parse(body)
    assert process_time() - began < 0.05


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join([b"NaN"] * 16_000) + b"]",
        b"{" + b",".join(b'"%d":1' % (n // 2) for n in range(7_000)) + b"}",
        b"[" + rb'"\ud800",' * 7_000 + b"1]",
    ],
)
def test_a_body_full_of_mistakes_is_refused_soon_and_briefly(body: bytes) -> None:
    began = process_time()
    assert 1 <= len(errors_of(body)) <= 20
    assert process_time() - began < 5  # where each mistake is looked for from the start, it is minutes
