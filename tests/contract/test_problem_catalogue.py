"""The codes that clients compare: each of one refusal, with a page, and never changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from refund_service.api.problem_pages import catalogue
from refund_service.app import bare_app
from refund_service.errors import RefundServiceError

# Clients compare these. A line may be added; one that changes or goes breaks whoever relies on it.
CODES = {
    "actor-invalid": 400,
    "amount-exceeds-available": 422,
    "available-changed": 412,
    "body-malformed": 422,
    "body-too-large": 413,
    "body-unreadable": 400,
    "busy": 503,
    "currency-differs": 422,
    "cursor-invalid": 400,
    "database-unavailable": 503,
    "decision-not-found": 404,
    "forbidden": 403,
    "gateway-account-needed": 422,
    "gateway-account-unknown": 422,
    "gateway-unknown": 422,
    "head-too-large": 431,
    "idempotency-key-in-use": 409,
    "idempotency-key-invalid": 400,
    "idempotency-key-missing": 400,
    "idempotency-key-reused": 422,
    "internal-error": 500,
    "invariant-broken": 500,
    "media-type-unsupported": 415,
    "method-not-allowed": 405,
    "not-found": 404,
    "nothing-available": 422,
    "order-exists": 409,
    "order-not-found": 404,
    "overloaded": 503,
    "payment-ambiguous": 409,
    "payment-contradictory": 422,
    "payment-exists": 409,
    "payment-not-captured": 409,
    "payment-not-found": 404,
    "rate-limited": 429,
    "reason-unknown": 422,
    "reference-exists": 409,
    "refund-not-found": 404,
    "refund-not-in-status": 409,
    "refund-not-replaceable": 422,
    "refund-refused": 422,
    "refund-unclear": 409,
    "request-invalid": 422,
    "request-too-slow": 408,
    "request-unreadable": 400,
    "route-not-found": 404,
    "sandbox-only": 422,
    "unauthorized": 401,
}
CATALOGUE = catalogue()
every_refusal = pytest.mark.parametrize("refusal", CATALOGUE, ids=lambda refusal: refusal.code)


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=bare_app("https://refunds.example"))
    async with httpx.AsyncClient(transport=transport, base_url="https://refunds.example") as opened:
        yield opened


def test_the_codes_are_those_that_clients_know() -> None:
    assert {refusal.code: refusal.status for refusal in CATALOGUE} == CODES


def test_no_two_refusals_share_a_code() -> None:
    below, told = [RefundServiceError], []
    while below:
        for one in below.pop().__subclasses__():
            below.append(one)
            if one.__module__.startswith("refund_service.") and "code" in vars(one):
                told.append(one)
    assert {code: n for code, n in Counter(one.code for one in set(told)).items() if n > 1} == {}


@every_refusal
def test_a_refusal_says_what_it_is_and_what_can_be_done(refusal: type[RefundServiceError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", refusal.code)
    assert 400 <= refusal.status <= 599
    assert refusal.title
    assert refusal.title[-1] not in ".!"
    assert refusal.help.endswith(".")
    assert "\n" not in refusal.title + refusal.help


@every_refusal
def test_what_may_be_right_later_says_when(refusal: type[RefundServiceError]) -> None:
    if refusal.status in {429, 503}:
        assert refusal.retryable
        assert refusal.retry_after
    if refusal.retry_after:
        assert refusal.retryable


@every_refusal
async def test_a_refusal_has_its_page(refusal: type[RefundServiceError], client: httpx.AsyncClient) -> None:
    told = await client.get(f"/problems/{refusal.code}")
    assert told.json() == {
        "code": refusal.code,
        "status": refusal.status,
        "title": refusal.title,
        "help": refusal.help,
        "retryable": refusal.retryable,
    }
    shown = await client.get(f"/problems/{refusal.code}", headers={"Accept": "text/html"})
    assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f"<code>{refusal.code}</code>" in shown.text


async def test_every_page_is_found_from_the_list(client: httpx.AsyncClient) -> None:
    told = (await client.get("/problems")).json()["data"]
    assert [one["code"] for one in told] == sorted(CODES)
    shown = await client.get("/problems", headers={"Accept": "text/html"})
    for code in CODES:
        page = re.search(rf'href="(problems/{code})"', shown.text)
        assert page is not None
        assert (await client.get(f"/{page[1]}")).status_code == 200


async def test_a_code_that_is_none_has_no_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/problems/no-such-code")).json()["code"] == "route-not-found"
