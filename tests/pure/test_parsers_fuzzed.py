"""Whatever a stranger sends to the edge: each parser against a second opinion, and never in its own time.

What each one says in its own words is in the tests beside it; here is what holds for any input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from refund_service import ids
from refund_service.api.deps import LONGEST_WAIT, preferred_wait
from refund_service.api.idempotency import read_key
from refund_service.api.pages import filters_fingerprint, open_cursor, sign_cursor
from refund_service.api.refusals import BodyMalformed, BodyUnreadable, CursorInvalid, IdempotencyKeyInvalid
from refund_service.api.strict_json import DEEPEST, LONGEST_NUMBER, parse
from refund_service.api.wire import Amount, Metadata, Moment
from refund_service.card_numbers import looks_like_card, mask_cards
from refund_service.clock import rfc3339
from refund_service.merchants.keys import KeyCabinet
from refund_service.money import LARGEST_AMOUNT
from refund_service.settings import _by_id

# --- JSON ------------------------------------------------------------------------------------------------

MARKS = ["{", "}", "[", "]", ",", ":", '"', " ", "\n", "\t", "\ufeff", "é", "😀"]
WORDS = ['"a"', '"a":', "true", "null", "NaN", "-Infinity", "\\u0000", '"\\u0000"', '"\\ud800"']
DIGITS = ["0", "1", "-", ".5", "e9", "1e999", "9" * (LONGEST_NUMBER + 1)]
TOKENS = st.sampled_from([*MARKS, *WORDS, *DIGITS])
NEARLY_JSON = st.lists(TOKENS, max_size=25).map(lambda tokens: "".join(tokens).encode())


MEMBERS = st.recursive(
    st.sampled_from(["1", "true", '"a"']),
    lambda inner: st.lists(st.tuples(st.sampled_from(["a", "b", "\\u0061"]), inner), max_size=3).map(
        lambda pairs: "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"
    ),
).map(str.encode)
"""Objects of few names, some of which stand twice, in one spelling or in two."""


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A document with one piece cut out, doubled or replaced."""
    inner: Any = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    )
    body = json.dumps(draw(inner), ensure_ascii=draw(st.booleans())).encode()
    start, stop = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    return (
        body[:start]
        + draw(st.sampled_from([b"", body[start:stop] * 2, b"\x00", b"\xff", b","]))
        + body[stop:]
    )


@dataclass
class Second:
    """What the standard library makes of a body."""

    told: Any = None
    readable: bool = True
    name_twice: bool = False
    longest_number: int = 0

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.name_twice |= len({name for name, _ in pairs}) < len(pairs)
        return dict(pairs)

    def number(self, digits: str) -> int | float:
        self.longest_number = max(self.longest_number, len(digits))
        return int(digits) if digits.lstrip("-").isdigit() else float(digits)


def second_opinion(body: bytes) -> Second:
    second = Second()
    reader = json.JSONDecoder(
        object_pairs_hook=second.members, parse_int=second.number, parse_float=second.number
    )
    try:
        second.told = reader.decode(body.decode())
    except ValueError:
        second.readable = False
    return second


@given(NEARLY_JSON | MEMBERS | spoiled() | st.binary(max_size=60))
def test_what_is_accepted_is_what_the_standard_library_reads_and_what_is_refused_has_its_reason(
    body: bytes,
) -> None:
    second = second_opinion(body)
    depth = body.count(b"[") + body.count(b"{")
    try:
        accepted = parse(body)
    except BodyMalformed:
        # JSON, and yet with what Python alone can say, or what cannot be stored.
        shown = json.dumps(second.told)
        assert second.readable
        assert second.name_twice or any(bad in shown for bad in ("NaN", "Infinity", "\\u0000", "\\ud"))
    except BodyUnreadable:
        assert not second.readable or second.longest_number > LONGEST_NUMBER or depth > DEEPEST
    else:
        assert second.readable
        assert repr(accepted) == repr(second.told)
        assert not second.name_twice
        assert second.longest_number <= LONGEST_NUMBER
        # It can be said again by anyone, and stored.
        assert b"\0" not in json.dumps(accepted, allow_nan=False, ensure_ascii=False).encode()
        assert "\\u0000" not in json.dumps(accepted)


# --- values ----------------------------------------------------------------------------------------------

ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
)
AMOUNT: TypeAdapter[int] = TypeAdapter(Amount)
MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)
METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(Metadata)


def read(adapter: TypeAdapter[Any], told: object) -> Any:
    """What is made of it; nothing where it is refused. Any other exception is a fault."""
    try:
        return adapter.validate_python(told, strict=True)
    except ValidationError:
        return None


@given(ANYTHING | st.integers(-2, LARGEST_AMOUNT + 2))
def test_an_amount_is_a_whole_number_from_1_to_the_largest_and_nothing_else(told: object) -> None:
    fits = type(told) is int and 1 <= told <= LARGEST_AMOUNT
    assert read(AMOUNT, told) == (told if fits else None)


DAYS, TWO = st.integers(0, 9999), st.integers(0, 99)
MOMENTS = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
    *(DAYS, TWO, TWO, st.sampled_from("Tt "), TWO, TWO, TWO),
    st.sampled_from(["", ".", ".5", ".123456789", ".1234567890"]),
    st.sampled_from(["", "Z", "z", "+01:00", "-23:59", "+24:00", "+0100"]),
)


@given(MOMENTS | st.datetimes(timezones=st.just(UTC)).map(rfc3339))
def test_a_moment_means_what_the_standard_library_says_and_comes_back_as_it_is_shown(told: str) -> None:
    moment = read(MOMENT, told)
    assume(moment is not None)
    assert moment is not None
    meant = datetime.fromisoformat(told.upper())
    assert moment == meant
    assert moment.tzinfo is UTC
    assert read(MOMENT, rfc3339(moment)) == moment


@given(st.dictionaries(st.text(max_size=41), st.text(max_size=501) | ANYTHING, max_size=52))
def test_metadata_is_kept_as_it_came_or_refused_as_a_whole(told: dict[str, Any]) -> None:
    kept = read(METADATA, told)
    assert kept in (told, None)
    if kept is not None:
        text = "".join([*kept, *kept.values()])
        assert text.isprintable() or not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)
        assert not any(looks_like_card(value) for value in [*kept, *kept.values()])


# --- headers ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=300) | st.from_regex(rb'[ \t]*"?[!-~]{0,300}"?[ \t]*', fullmatch=True))
def test_an_idempotency_key_is_what_stands_between_spaces_and_one_pair_of_quotes(value: bytes) -> None:
    bare = value.strip(b" \t")
    if len(bare) > 1 and bare.startswith(b'"') and bare.endswith(b'"'):
        bare = bare[1:-1]
    fits = 1 <= len(bare) <= 255 and all(33 <= byte <= 126 for byte in bare)
    try:
        key = read_key([(b"Idempotency-Key", value), (b"idempotency", b"other")])
    except IdempotencyKeyInvalid:
        assert not fits or looks_like_card(bare.decode())
    else:
        assert fits
        assert key == bare.decode()


def waits(*values: bytes) -> int:
    headers = [(b"prefer", value) for value in values]
    return preferred_wait(Request({"type": "http", "headers": headers}))


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"wait=5", b"wait", b"wait=", b"WAIT = 7", b"a,,b"]))
)
def test_whatever_is_preferred_no_one_waits_longer_than_is_allowed(values: list[bytes]) -> None:
    assert 0 <= waits(*values) <= LONGEST_WAIT


@given(st.integers(0, 10**40), st.integers(0, 30), st.text("abc;=\"' ", max_size=10))
def test_a_wait_is_found_among_other_preferences_and_cut_to_what_is_allowed(
    seconds: int, zeros: int, other: str
) -> None:
    told = f"{other}x, Wait={'0' * zeros}{seconds} ,handling=lenient".encode()
    assert waits(told) == min(seconds, LONGEST_WAIT)


class NoOne:
    """A database that must not be asked."""

    async def row(self, _statement: object, /, **_binds: object) -> None:
        raise AssertionError("a key without its checksum was looked up")


CABINET = KeyCabinet(NoOne(), {"one": "pepper"})  # type: ignore[arg-type]  # it asks no more of a database
KEY_LETTERS = st.text("rk_testlive0123456789ABCxyz", max_size=80)


@given(
    st.text() | KEY_LETTERS | st.from_regex(r"rk_(test|live)_[0-9A-Za-z]{61}", fullmatch=True), st.booleans()
)
async def test_no_text_makes_the_cabinet_ask_for_a_key_without_its_checksum(told: str, bearer: bool) -> None:
    assert await CABINET.authenticate(f"Bearer {told}" if bearer else told, at=0.0) is None


# --- what goes round -------------------------------------------------------------------------------------

LETTERS = st.text("0123456789abcdefghjkmnpqrstvwxyzilouA_", min_size=24, max_size=30)


@given(st.sampled_from(sorted(ids.PREFIXES)), LETTERS | st.text(max_size=30))
def test_an_id_has_one_spelling(kind: str, letters: str) -> None:
    text = f"{ids.PREFIXES[kind]}_{letters}"
    try:
        id_ = ids.read(kind, text)
    except ids.NotAnId:
        return
    assert ids.show(kind, id_) == text


NUMBERS = st.integers(0, 2**64 - 1)


@given(st.tuples(st.uuids()) | st.tuples(NUMBERS, NUMBERS, st.uuids()), st.binary(), st.binary(), st.text())
def test_a_cursor_is_good_for_its_secret_and_its_filters_alone(
    place: tuple[UUID] | tuple[int, int, UUID], secret: bytes, other: bytes, name: str
) -> None:
    filters = filters_fingerprint(list=name)
    cursor = sign_cursor(secret, filters, place)
    assert open_cursor(secret, filters, cursor) == place
    for key, bound in ((other, filters), (secret, filters_fingerprint(list=name + "s"))):
        # An HMAC fills its key up with zeros.
        if (key.rstrip(b"\0"), bound) != (secret.rstrip(b"\0"), filters):
            with pytest.raises(CursorInvalid):
                open_cursor(key, bound, cursor)


PAIRS = st.dictionaries(st.text("abc123", min_size=1), st.text("abc:=+/", min_size=1), min_size=1)


@given(PAIRS)
def test_secrets_by_id_are_read_as_they_are_written(pairs: dict[str, str]) -> None:
    read_again: Any = _by_id(" ,".join(f" {key_id} : {secret}" for key_id, secret in pairs.items()) + ",")
    assert [(key_id, secret.get_secret_value()) for key_id, secret in read_again.items()] == list(
        pairs.items()
    )


@given(st.text("ab:, \t\n\x00é"))
def test_what_are_no_secrets_by_id_are_refused_without_being_repeated(told: str) -> None:
    pairs = [pair.partition(":") for pair in told.split(",") if pair.strip()]
    names = [key_id.strip() for key_id, _, _ in pairs]
    if len(set(names)) == len(names) and all(
        key_id.strip() and secret.strip() for key_id, _, secret in pairs
    ):
        assert list(_by_id(told)) == names  # type: ignore[call-overload]  # settings hand over anything
    else:
        with pytest.raises(ValueError, match=r"^not written as id:secret,id:secret with each id once$"):
            _by_id(told)


# --- bounded work ----------------------------------------------------------------------------------------


def work(does: Callable[[Any], object], told: object) -> int:
    """The calls that are made, C functions included: a measure that no busy machine changes."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        does(told)
    finally:
        sys.setprofile(None)
    return calls


def parse_or_refuse(body: bytes) -> None:
    try:
        parse(body)
    except (BodyUnreadable, BodyMalformed):
        return


@pytest.mark.parametrize(
    ("does", "piece"),
    [
        pytest.param(parse_or_refuse, b"[" * 5, id="opened and never closed"),
        pytest.param(parse_or_refuse, b'{"a":', id="objects in objects"),
        pytest.param(parse_or_refuse, b'"\\u0000",', id="text after text"),
        pytest.param(parse_or_refuse, b"1e9", id="a long number"),
        pytest.param(lambda body: parse_or_refuse(b"[" + body + b"1]"), b"1,", id="a long list"),
        pytest.param(lambda body: parse_or_refuse(b"[" + body + b"1]"), b"NaN,", id="many mistakes"),
        pytest.param(
            lambda body: parse_or_refuse(b"{" + body + b'"z":1}'), b'"a":1,', id="one name again and again"
        ),
        pytest.param(looks_like_card, "4", id="digits"),
        pytest.param(looks_like_card, "4   ", id="digits far apart"),
        pytest.param(mask_cards, "4111 1111 1111 1112 ", id="nearly cards"),
        pytest.param(mask_cards, "4111111111111111 ", id="cards"),
        pytest.param(mask_cards, "0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10", id="ids end to end"),
    ],
)
def test_twice_as_much_is_twice_the_work_and_no_more(does: Callable[[Any], object], piece: Any) -> None:
    once, twice = work(does, piece * 1_000), work(does, piece * 2_000)
    # What is cut off at the end counts once; with the square it would be four times.
    assert twice <= 2.1 * once + 50
