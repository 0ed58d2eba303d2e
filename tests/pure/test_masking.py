"""No card number, no key and no line break leaves through the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from refund_service import logs
from refund_service.card_numbers import MASK, looks_like_card, mask_cards

CARDS = [
    "4111111111111111",
    "4242 4242 4242 4242",
    "5555-5555-5555-4444",
    "2223003122003222",
    "3782 822463 10005",
    "30569309025904",
    "3530111333300000",
    "6011.0009.9013.9424",
    "6200000000000005",
    "4222222222222",
    "4111\u00a01111\u20131111 - 1111",
    "\uff14" + "\uff11" * 15,
    "\u0664" + "\u0661" * 15,
    "1234567812345670",
]


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("around", ["{}", "card {}, thanks", "PAN:{} 12/27 123", "visa{}x", "卡{}号"])
def test_a_card_number_is_found_wherever_it_stands_and_masked(
    card: str, around: str
) -> None:  # SEC-20, INC-36
    text = around.format(card)
    assert looks_like_card(text)
    assert mask_cards(text) == around.format(MASK)


@pytest.mark.parametrize("card", [c for c in CARDS if c.isascii() and c.isdigit()])
def test_a_number_with_one_digit_wrong_is_no_card(card: str) -> None:
    assert not looks_like_card(card[:-1] + str((int(card[-1]) + 1) % 10))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ORDER-1001",
        "0000000000000000",
        "490154203237518",  # IMEI, Luhn-valid by design
        "8944501207218001234",  # SIM card
        "4006381333931",  # bar code
        "1763790123455",  # milliseconds
        "41111111111111111111",  # twenty digits
        "DE89 3704 0044 0532 0130 00",
        "2024-11-22 12:30:45 and 2024-11-23 08:15:00",
        "40.00 20.00 30.00 40.12",  # sixteen digits, Luhn-valid, beginning like a Visa
        "12345 67890 123452",  # sixteen digits again, in groups that no card has
        "0193a4c5-6f00-7abc-8def-0123456789ab",
        "+49 170 1234567",
        "½⅓²³",
    ],
)
def test_other_numbers_of_honest_notes_are_left_alone(text: str) -> None:
    assert not looks_like_card(text)
    assert mask_cards(text) == text


@given(st.text(st.sampled_from("0123456789 -.ax"), max_size=60))
def test_what_is_masked_holds_no_card_any_more(text: str) -> None:
    assert not looks_like_card(mask_cards(text))
    assert looks_like_card(text) == (mask_cards(text) != text)


def test_a_key_keeps_its_prefix_and_loses_its_secret() -> None:
    assert (
        logs.mask("Bearer rk_live_AbCdEf0123456789, rk_test_xyzxyz99")
        == "Bearer rk_live_[masked], rk_test_[masked]"
    )
    assert (
        logs.mask("sk_live_4eC39HqLyjWD sk_abcdefgh whsec_C2FVsBQIhr")
        == "sk_live_[masked] sk_[masked] whsec_[masked]"
    )
    assert (
        logs.mask("risk_assessment task_abcdefgh rf_01k8abcdefgh")
        == "risk_assessment task_abcdefgh rf_01k8abcdefgh"
    )


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure("info", stream=stream)
    yield stream
    root.handlers, root.level = before, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def read(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_line_whatever_is_in_it(lines: io.BytesIO) -> None:  # SEC-10
    structlog.get_logger().info("first\r\nsecond", note="a\nb\u2028c\x00\ud800", **{"x\ny": 1})
    assert lines.getvalue().count(b"\n") == 1
    assert b"\r" not in lines.getvalue()
    assert read(lines)[0]["note"] == "a\nb\u2028c\x00\ud800"


def test_values_are_masked_however_deep_they_lie(lines: io.BytesIO) -> None:  # SEC-20, INC-36
    structlog.get_logger().info(
        "told rk_test_0123456789",
        deep={"4111111111111111": ["sk_live_0123456789", ("4242424242424242",)]},
        bare=4111111111111111,
    )
    told = lines.getvalue()
    assert b"0123456789" not in told
    assert b"4111111111111111" not in told
    assert b"4242" not in told


def test_numbers_stay_numbers(lines: io.BytesIO) -> None:
    structlog.get_logger().info("told", status=201, took=1.25, ok=True, nothing=None)
    (line,) = read(lines)
    assert (line["status"], line["took"], line["ok"], line["nothing"]) == (201, 1.25, True, None)
    assert line["level"] == "info"
    assert line["at"].endswith("Z")


def test_an_exception_is_told_without_local_variables_and_without_what_drivers_print_below(  # SEC-23
    lines: io.BytesIO,
) -> None:
    def pay(secret: str) -> None:
        try:
            raise KeyError("4111111111111111")  # noqa: TRY301 - the test is about the cause
        except KeyError as cause:
            raise ValueError("refused rk_live_0123456789\nDETAIL: (Ada, " + secret + ")") from cause

    try:
        pay("hidden" + "-in-a-local")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = read(lines)
    assert line["exception"]["type"] == "builtins.ValueError"
    assert line["exception"]["message"] == "refused rk_live_[masked]"
    assert line["exception"]["frames"][-1].endswith(" pay")
    assert line["exception"]["cause"]["message"] == f"'{MASK}'"
    assert b"hidden-in-a-local" not in lines.getvalue()


def test_what_others_log_goes_the_same_way(lines: io.BytesIO) -> None:
    logging.getLogger("uvicorn.error").error("card %s\n", "4111111111111111", exc_info=ValueError("a\nb"))
    logging.getLogger("sqlalchemy.engine").debug("not told")
    (line,) = read(lines)
    assert line["event"] == f"card {MASK}\n"
    assert (line["level"], line["logger"], line["exception"]["message"]) == ("error", "uvicorn.error", "a")


async def test_a_call_to_a_gateway_leaves_no_line_with_its_address(lines: io.BytesIO) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("http://gateway.invalid/v1/refunds?payment=pi_of_a_customer")
    assert lines.getvalue() == b""


def test_what_is_below_the_threshold_is_not_written(lines: io.BytesIO) -> None:
    structlog.get_logger().debug("not told")
    assert lines.getvalue() == b""
