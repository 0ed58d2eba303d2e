"""Money loses nothing: exponents as ISO 4217 has them, sums exact, currencies never mixed."""

from __future__ import annotations

from decimal import Decimal

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.money import (
    EXPONENTS,
    LARGEST_AMOUNT,
    CurrencyMismatch,
    Money,
    UnknownCurrency,
    decimal_of,
)

minor_units = st.integers(-LARGEST_AMOUNT, LARGEST_AMOUNT)
currencies = st.sampled_from(sorted(EXPONENTS))
weights = st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any)


def test_the_exponents_are_those_of_iso_4217() -> None:  # NUM-10
    published = {one.code: one.exponent for one in iso4217.Currency if one.exponent is not None}
    assert published == EXPONENTS


@pytest.mark.parametrize("code", ["XXX", "XTS", "XAU", "usd", "US", "USDT", "€", ""])
def test_what_is_no_currency_holds_no_money(code: str) -> None:  # NUM-11
    with pytest.raises(UnknownCurrency):
        Money(1, code)


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (1250, "EUR", "12.50"),
        (5, "EUR", "0.05"),
        (0, "EUR", "0.00"),
        (-5, "EUR", "-0.05"),
        (-1250, "EUR", "-12.50"),
        (1250, "JPY", "1250"),
        (-1250, "JPY", "-1250"),
        (1250, "KWD", "1.250"),
        (1, "KWD", "0.001"),
        (12_345, "CLF", "1.2345"),
        (1250, "HUF", "12.50"),
        (1250, "UGX", "1250"),
        (LARGEST_AMOUNT, "EUR", "9999999999.99"),
    ],
)
def test_an_amount_is_shown_with_its_currencys_decimals(
    minor: int, currency: str, shown: str
) -> None:  # NUM-10
    assert decimal_of(minor, currency) == shown
    assert Money(minor, currency).decimal == shown


@given(minor_units, currencies)
def test_what_is_shown_is_the_amount_itself(minor: int, currency: str) -> None:  # NUM-10
    shown = decimal_of(minor, currency)
    assert Decimal(shown).scaleb(EXPONENTS[currency]) == minor
    assert len(shown.partition(".")[2]) == EXPONENTS[currency]


@given(minor_units, minor_units, currencies)
def test_sums_and_comparisons_are_those_of_whole_numbers(a: int, b: int, currency: str) -> None:
    one, other = Money(a, currency), Money(b, currency)
    assert one + other == Money(a + b, currency)
    assert one - other == Money(a - b, currency)
    assert (one < other, one <= other, one > other, one >= other) == (a < b, a <= b, a > b, a >= b)


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__lt__", "__le__"])
def test_two_currencies_never_meet_in_one_sum(operation: str) -> None:  # NUM-11
    with pytest.raises(CurrencyMismatch, match="EUR and USD"):
        getattr(Money(1, "EUR"), operation)(Money(1, "USD"))


def test_the_same_number_of_another_currency_is_not_the_same_money() -> None:
    assert Money(100, "EUR") != Money(100, "USD")


@pytest.mark.parametrize(
    ("minor", "shares", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),  # three thirds: the first of equals gets the spare cent
        (200, [1, 1, 1], [67, 67, 66]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (100, [2, 3, 1], [33, 50, 17]),  # 33.3, 50, 16.7: who was cut the most gets it
        (1, [1, 1], [1, 0]),
        (0, [1, 2], [0, 0]),
        (10, [0, 1, 0], [0, 10, 0]),  # a line that cost nothing gets nothing
        (7, [5], [7]),
        (LARGEST_AMOUNT, [LARGEST_AMOUNT, 1], [LARGEST_AMOUNT - 1, 1]),
    ],
)
def test_money_is_shared_by_largest_remainder(  # NUM-12, INC-23
    minor: int, shares: list[int], parts: list[int]
) -> None:
    assert [part.minor for part in Money(minor, "EUR").split(shares)] == parts


@given(minor_units, currencies, weights)
def test_the_parts_add_up_to_the_whole(minor: int, currency: str, shares: list[int]) -> None:  # NUM-12
    parts = Money(minor, currency).split(shares)
    assert [part.currency for part in parts] == [currency] * len(shares)
    assert sum(part.minor for part in parts) == minor


@given(minor_units, weights)
def test_each_part_is_its_exact_share_but_for_less_than_a_unit(  # NUM-12
    minor: int, shares: list[int]
) -> None:
    total = sum(shares)
    for part, share in zip(Money(minor, "EUR").split(shares), shares, strict=True):
        assert abs(part.minor * total - minor * share) < total


@given(st.integers(0, LARGEST_AMOUNT), weights)
def test_who_lost_more_by_rounding_is_never_passed_over(minor: int, shares: list[int]) -> None:  # NUM-12
    total = sum(shares)
    rounded = [
        (minor * share % total, part.minor - minor * share // total)
        for part, share in zip(Money(minor, "EUR").split(shares), shares, strict=True)
    ]
    got = [lost for lost, extra in rounded if extra]
    not_got = [lost for lost, extra in rounded if not extra]
    assert all(extra in (0, 1) for _, extra in rounded)
    assert not got or not not_got or min(got) >= max(not_got)


@given(minor_units, weights)
def test_giving_back_line_by_line_ends_at_nothing(minor: int, shares: list[int]) -> None:  # NUM-12
    """The last partial refund takes the remainder: what was shared out is all there was."""
    rest = Money(minor, "EUR")
    for part in Money(minor, "EUR").split(shares):
        rest = rest - part
    assert rest == Money(0, "EUR")


@pytest.mark.parametrize("shares", [[], [0], [0, 0], [1, -1], [-1], [2, -1]])
def test_nothing_is_shared_by_weights_that_are_none(shares: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Money(100, "EUR").split(shares)
