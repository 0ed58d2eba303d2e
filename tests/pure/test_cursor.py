"""A cursor is ours, unchanged, and for this very list, or it is refused."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from refund_service.api.pages import Limit, Page, filters_fingerprint, open_cursor, sign_cursor
from refund_service.api.refusals import CursorInvalid

SECRET = b"s" * 32
FILTERS = filters_fingerprint(merchant=UUID(int=1), list="refunds", status=["queued"])
IDS = st.uuids()
NUMBERS = st.integers(0, 2**64 - 1)
PLACES = st.tuples(IDS) | st.tuples(NUMBERS, NUMBERS, IDS)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(PLACES)
def test_a_cursor_leads_back_to_its_place(place: tuple[UUID] | tuple[int, int, UUID]) -> None:
    assert open_cursor(SECRET, FILTERS, sign_cursor(SECRET, FILTERS, place)) == place


def refused(cursor: str, filters: bytes = FILTERS, secret: bytes = SECRET) -> bool:
    with pytest.raises(CursorInvalid):
        open_cursor(secret, filters, cursor)
    return True


@given(PLACES, st.data())
def test_a_cursor_with_one_letter_changed_is_refused(  # SEC-08
    place: tuple[UUID] | tuple[int, int, UUID], data: st.DataObject
) -> None:
    cursor = sign_cursor(SECRET, FILTERS, place)
    at = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.sampled_from(LETTERS.replace(cursor[at], "")))
    assert refused(cursor[:at] + letter + cursor[at + 1 :])


@given(st.text(max_size=80))
def test_what_we_never_made_is_refused(cursor: str) -> None:
    assert refused(cursor)


@pytest.mark.parametrize("cursor", ["' OR 1=1 --", "", "=", "A", "%00", "é", "A" * 10_000])
def test_metacharacters_and_rubbish_are_refused(cursor: str) -> None:  # SEC-08
    assert refused(cursor)


def test_a_cursor_is_good_for_its_own_list_only() -> None:  # SEC-08
    cursor = sign_cursor(SECRET, FILTERS, (uuid4(),))
    assert refused(cursor, filters_fingerprint(merchant=UUID(int=2), list="refunds", status=["queued"]))
    assert refused(cursor, filters_fingerprint(merchant=UUID(int=1), list="refunds", status=["failed"]))
    assert refused(cursor, filters_fingerprint(merchant=UUID(int=1), list="payments", status=["queued"]))
    assert refused(cursor, secret=b"t" * 32)
    assert filters_fingerprint(a=1, b=2) == filters_fingerprint(b=2, a=1)


def test_the_last_letter_has_no_spare_bits() -> None:
    cursor = sign_cursor(SECRET, FILTERS, (uuid4(),))
    assert all(refused(cursor[:-1] + letter) for letter in LETTERS if letter != cursor[-1])


def test_shortened_or_lengthened_cursors_are_refused() -> None:
    cursor = sign_cursor(SECRET, FILTERS, (uuid4(),))
    assert refused(cursor[:-1])
    assert refused(cursor[:-4])
    assert refused(cursor + "A")
    assert refused(cursor + "AAAA")
    assert refused(cursor + "=")


@pytest.mark.parametrize(("limit", "fits"), [(1, True), (100, True), ("20", True), (0, False), (101, False)])
def test_a_page_has_1_to_100_rows(limit: object, fits: bool) -> None:  # SEC-26
    if fits:
        assert TypeAdapter(Limit).validate_python(limit) == int(str(limit))
    else:
        with pytest.raises(ValidationError):
            TypeAdapter(Limit).validate_python(limit)


@pytest.mark.parametrize("limit", [" 20", "2_0", "20.0", "+20", "2e1", "٢٠", "", "-1"])
def test_only_plain_digits_are_a_limit(limit: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Limit).validate_python(limit)


def test_a_page_tells_where_it_ends() -> None:
    assert Page[int](data=[1], next_cursor=None).model_dump_json() == '{"data":[1],"next_cursor":null}'
