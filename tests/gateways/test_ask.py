"""Look-ups that lead further: page after page, within the time of one call, and never without end."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest

from refund_service.gateways import ask
from refund_service.gateways.answers import Absent, CannotTell, Found, PaymentRecord
from refund_service.gateways.ask import MOST_PAGES, look_up, read_payment
from refund_service.gateways.protocol import Account, RefundProbe
from refund_service.gateways.send import Sender
from refund_service.gateways.stripe import StripeGateway
from refund_service.money import Money

KEY = UUID("0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10")
PROBE = RefundProbe(KEY, "pi_1", None)
ACCOUNT = Account(
    UUID(int=1),
    "stripe",
    "https://stripe.example",
    {"stripe_account": "acct_9"},
    {"secret_key": "sk_test_12345678"},
)
STRIPE = StripeGateway()


def refund(number: int, key: str = "another") -> dict[str, Any]:
    return {
        "id": f"re_{number}", "object": "refund", "status": "succeeded", "payment_intent": "pi_1",
        "charge": "ch_1", "amount": 1250, "currency": "eur", "metadata": {"refund_attempt": key},
    }  # fmt: skip


class Pages:
    """A list of refunds in pages of two, and who asked for them."""

    def __init__(
        self, refunds: list[dict[str, Any]], before_answering: Callable[[], None] = lambda: None
    ) -> None:
        self.asked: list[httpx.Request] = []
        self._refunds, self._before = refunds, before_answering
        self.sender = Sender(httpx.AsyncClient(transport=httpx.MockTransport(self._answer)))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self._before()
        after = parse_qs(urlsplit(str(request.url)).query).get("starting_after", [None])[0]
        first = 1 + next((i for i, one in enumerate(self._refunds) if one["id"] == after), -1)
        told = {"data": self._refunds[first : first + 2], "has_more": first + 2 < len(self._refunds)}
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(told).encode()))

    async def look(self) -> Any:
        return await look_up(self.sender, STRIPE, ACCOUNT, PROBE, STRIPE.render_look_up(PROBE, ACCOUNT))


@pytest.mark.parametrize("place", range(5))
async def test_a_refund_is_found_on_whatever_page_it_stands(place: int) -> None:
    pages = Pages([refund(number, str(KEY) if number == place else "another") for number in range(5)])
    found = await pages.look()
    assert isinstance(found, Found)
    assert found.refund.id == f"re_{place}"
    assert len(pages.asked) == 3, "to its end: there may be another one"
    assert {one.headers["stripe-account"] for one in pages.asked} == {"acct_9"}


async def test_two_under_one_key_are_seen_across_pages() -> None:
    pages = Pages([refund(0, str(KEY)), refund(1), refund(2), refund(3, str(KEY))])
    told = await pages.look()
    assert isinstance(told, CannotTell)
    assert told.differs


@pytest.mark.parametrize(
    ("refunds", "comes_to"), [(2 * MOST_PAGES, Absent), (2 * MOST_PAGES + 1, CannotTell)]
)
async def test_a_list_beyond_all_measure_says_nothing(refunds: int, comes_to: type) -> None:
    pages = Pages([refund(number) for number in range(refunds)])
    assert isinstance(await pages.look(), comes_to)
    assert len(pages.asked) == MOST_PAGES


async def test_all_pages_together_take_no_longer_than_one_call_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(ask, "seconds", lambda: now)
    limit = STRIPE.traits({}).time_limit

    def take_a_while() -> None:
        nonlocal now
        now += (limit / 2 + timedelta(milliseconds=1)).total_seconds()

    pages = Pages([refund(number) for number in range(9)], take_a_while)
    assert isinstance(await pages.look(), CannotTell)
    assert len(pages.asked) == 2


async def test_an_intent_is_followed_to_its_charge() -> None:
    shown = {
        "/v1/payment_intents/pi_1": {"object": "payment_intent", "id": "pi_1", "latest_charge": "ch_1"},
        "/v1/charges/ch_1": {
            "object": "charge", "id": "ch_1", "payment_intent": "pi_1", "amount_captured": 5000,
            "amount_refunded": 0, "currency": "eur", "disputed": False,
        },
    }  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(shown[request.url.path]).encode()))

    sender = Sender(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    read = await read_payment(sender, STRIPE, ACCOUNT, "pi_1")
    assert isinstance(read, PaymentRecord)
    assert read.captured == Money(5000, "EUR")
