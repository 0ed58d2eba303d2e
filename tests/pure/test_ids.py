"""Ids, keys for gateways, tokens: what they look like and what they are a function of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from hypothesis import assume, given
from hypothesis import strategies as st

from refund_service import ids
from refund_service.card_numbers import looks_like_card
from refund_service.logs import mask

any_id = st.integers(0, 2**128 - 1).map(lambda value: UUID(int=value))
any_key = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
kinds = st.sampled_from(sorted(ids.PREFIXES))


@given(kinds, any_id)
def test_an_id_that_is_shown_can_be_read_again(kind: str, id_: UUID) -> None:
    assert ids.read(kind, ids.show(kind, id_)) == id_


@given(kinds, any_id, any_id)
def test_ids_sort_as_they_are_shown(kind: str, one: UUID, other: UUID) -> None:
    assert (one < other) == (ids.show(kind, one) < ids.show(kind, other))


def test_no_two_kinds_share_a_prefix() -> None:
    assert len(set(ids.PREFIXES.values())) == len(ids.PREFIXES)


def test_the_first_and_the_last_id_there_can_be_are_ids() -> None:
    assert ids.show("refund", UUID(int=0)) == "rf_" + "0" * 26
    assert ids.read("refund", "rf_7" + "z" * 25) == UUID(int=2**128 - 1)


@pytest.mark.parametrize(
    "text",
    [
        "rf_8" + "0" * 25,  # 129 bits
        "rf_" + "0" * 25,
        "rf_" + "0" * 27,
        "pay_" + "0" * 26,
        "RF_" + "0" * 26,
        "rf-" + "0" * 26,
        "rf_" + "0" * 25 + "i",  # Crockford leaves out i, l, o and u
        "rf_" + "0" * 25 + "A",
        "rf_" + "0" * 25 + "٣",
        "rf_" + "0" * 25 + "\n",
        "rf_",
        "",
        "rf_00000000-0000-0000-0000-000000000000",
    ],
)
def test_what_is_no_id_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ids.NotAnId):
        ids.read("refund", text)


def test_later_ids_sort_after_earlier_ones() -> None:
    with time_machine.travel(datetime(2026, 3, 1, tzinfo=UTC), tick=False) as clock:
        drawn = []
        for _ in range(50):
            drawn.append(ids.new_id())
            clock.shift(timedelta(milliseconds=1))
    assert drawn == sorted(drawn)


def test_ids_of_one_millisecond_are_all_different_and_share_their_time() -> None:
    with time_machine.travel(datetime(2026, 3, 1, tzinfo=UTC), tick=False):
        drawn = [ids.new_id() for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert drawn == sorted(drawn)  # as they were named, within one process
    assert {id_.int >> 80 for id_ in drawn} == {int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)}


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(100):
        id_ = ids.new_id()
        assert (id_.version, id_.variant) == (7, "specified in RFC 4122")


MERCHANT = UUID("0193a4c5-6f00-7abc-8def-0123456789ab")


def test_the_gateways_key_is_frozen() -> None:
    """After a restore the gateway knows a retry by nothing else: no release may compute another."""
    assert ids.gateway_key(MERCHANT, "first-1", 1) == UUID("a3914f65-1042-48eb-b8bf-4cc895172850")


@given(any_id, any_key, st.integers(1, 1000))
def test_the_gateways_key_is_a_function_shaped_like_a_uuid_of_version_4(
    merchant_id: UUID, key: str, generation: int
) -> None:
    drawn = ids.gateway_key(merchant_id, key, generation)
    assert drawn == ids.gateway_key(merchant_id, key, generation)
    assert (drawn.version, drawn.variant) == (4, "specified in RFC 4122")


@given(st.tuples(any_id, any_key, st.integers(1, 1000)), st.tuples(any_id, any_key, st.integers(1, 1000)))
def test_no_two_attempts_share_a_gateways_key(
    one: tuple[UUID, str, int], other: tuple[UUID, str, int]
) -> None:
    assume(one != other)
    assert ids.gateway_key(*one) != ids.gateway_key(*other)


def test_each_part_tells_gateway_keys_apart() -> None:  # INC-04, INC-07, odoo#101243, hexclave#1429
    keys = {
        ids.gateway_key(merchant, key, generation)
        for merchant in (MERCHANT, uuid4())
        for key in ("a", "A", "a1", "1")
        for generation in (1, 2, 11)
    }
    assert len(keys) == 2 * 4 * 3


@given(any_id)
def test_no_id_and_no_uuid_of_a_client_is_taken_for_a_card_number(id_: UUID) -> None:
    for text in (str(id_), id_.hex, f"return {id_}, again", str(id_).upper()):
        assert not looks_like_card(text)
        assert mask(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "07045483-f17b-4766-9377-06461174b813",  # its digits pass for a card of sixteen
        "1386dec39096466792408b9b144a6ce6",
        "ef9e3907-7970-4674-9809-837d065cd30e",
    ],
)
def test_digits_inside_a_uuid_are_no_card_number(text: str) -> None:
    assert not looks_like_card(text)
    assert looks_like_card(f"{text} 4111111111111111")
    assert looks_like_card(text[:-1])


def test_tokens_are_of_the_length_and_the_letters_asked_for() -> None:
    tokens = {ids.secret_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 and token.isalnum() and token.isascii() for token in tokens)
    assert len(ids.secret_token(12)) == 12


@pytest.mark.parametrize(
    ("value", "length", "shown"),
    [(0, 6, "000000"), (61, 6, "00000z"), (62, 6, "000010"), (2**32 - 1, 6, "4gfFC3")],
)
def test_base_62_is_padded(value: int, length: int, shown: str) -> None:
    assert ids.base62(value, length) == shown


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_jitter_waits_a_little_longer_and_never_less(seconds: float, share: float) -> None:  # GWP-19
    jittered = ids.jitter(seconds, share)
    assert seconds <= jittered <= seconds * (1 + share) * (1 + 1e-9)


def test_jitter_keeps_apart_what_failed_together() -> None:
    assert len({ids.jitter(60) for _ in range(100)}) > 90


def test_ids_of_one_process_are_in_the_order_in_which_they_were_given_out() -> None:
    given_out = [ids.new_id() for _ in range(5000)]

    assert given_out == sorted(given_out)
    assert len(set(given_out)) == len(given_out)
    assert {(id_.version, id_.variant) for id_ in given_out} == {(7, "specified in RFC 4122")}
