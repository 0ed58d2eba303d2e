"""Amounts at gateways: their decimals, their strings, and nothing that is not a plain amount."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.gateways.units import from_decimal, from_gateway_minor, to_decimal, to_gateway_minor
from refund_service.money import EXPONENTS, LARGEST_AMOUNT, Money

ODD = {"HUF": 0, "TWD": 0, "ISK": 2, "KWD": 2}
"""A gateway that counts fewer decimals than ISO 4217 in some currencies, and more in one."""

amounts = st.builds(Money, st.integers(-LARGEST_AMOUNT, LARGEST_AMOUNT), st.sampled_from(sorted(EXPONENTS)))


@pytest.mark.parametrize(
    ("money", "minor", "decimal"),
    [
        (Money(1250, "EUR"), 1250, "12.50"),
        (Money(5, "EUR"), 5, "0.05"),
        (Money(-5, "EUR"), -5, "-0.05"),
        (Money(500, "JPY"), 500, "500"),
        (Money(1250, "KWD"), 125, "1.25"),
        (Money(1251, "KWD"), None, None),
        (Money(125_000, "HUF"), 1250, "1250"),
        (Money(125_050, "HUF"), None, None),
        (Money(7, "ISK"), 700, "7.00"),
    ],
)
def test_an_amount_is_written_with_the_gateway_s_decimals_or_not_at_all(
    money: Money, minor: int | None, decimal: str | None
) -> None:
    assert to_gateway_minor(money, ODD) == minor
    assert to_decimal(money, ODD) == decimal


@given(amounts, st.sampled_from([{}, ODD]))
def test_what_was_written_is_read_as_it_was(money: Money, exponents: dict[str, int]) -> None:
    minor, decimal = to_gateway_minor(money, exponents), to_decimal(money, exponents)
    assert (minor is None) == (decimal is None)
    if decimal is not None:
        assert from_gateway_minor(minor, money.currency.lower(), exponents) == money
        assert from_decimal(decimal, money.currency, exponents) == money


@pytest.mark.parametrize("text", ["12.5", "12.50", "12.500000", "00012.50"])
def test_decimals_that_say_nothing_may_be_left_out_or_added(text: str) -> None:
    assert from_decimal(text, "EUR", {}) == Money(1250, "EUR")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "1.", ".5", "+1", "1,50", "1 000", "1_000", "1e3", "1E3", "0x10", "NaN", "Infinity",
        "-", "--1", "12.505", "1.2.3", "\uff11\uff12.\uff15\uff10", "\u0661\u0662", "12.50\n", "\x00", "9" * 40, "0." + "0" * 39 + "1",
        None, True, 1250, 12.5, [], {},
    ],
)  # fmt: skip
def test_what_is_no_plain_amount_is_none(text: Any) -> None:  # NUM-04
    assert from_decimal(text, "EUR", {}) is None


@pytest.mark.parametrize("minor", [None, True, 12.0, "1250", [], {}, LARGEST_AMOUNT + 1, -LARGEST_AMOUNT - 1])
def test_what_is_no_whole_number_of_a_sane_size_is_none(minor: Any) -> None:
    assert from_gateway_minor(minor, "EUR", {}) is None


@pytest.mark.parametrize("currency", [None, 978, "", "EURO", "XXX", "\u0415UR"])
def test_a_currency_that_no_one_knows_is_none(currency: Any) -> None:
    assert from_gateway_minor(1, currency, {}) is None
    assert from_decimal("1", currency, {}) is None


@given(
    st.text() | st.from_regex(r"-?[0-9]{0,20}[.,]?[0-9]{0,45}"), st.text() | st.sampled_from(["EUR", "JPY"])
)
def test_no_text_makes_a_reader_raise(text: str, currency: str) -> None:
    read = from_decimal(text, currency, ODD)
    assert read is None or isinstance(read, Money)
