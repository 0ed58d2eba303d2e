"""Lists: every filter from both sides, pages that stay as they are, cursors that cannot be bent."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from house import Shop
from over_http import problem, wrong

from refund_service.merchants.roles import Role


async def ids_of(shop: Shop, path: str = "/v1/refunds", **query: Any) -> list[str]:
    """The ids of one page, in its order."""
    return [each["id"] for each in (await shop.get(path, limit=100, **query))["data"]]


async def walk(shop: Shop, path: str, limit: int, **query: Any) -> list[str]:
    """Every id, page by page."""
    found, cursor = [], None
    while True:
        page = await shop.get(path, limit=limit, **query, **({"cursor": cursor} if cursor else {}))
        assert len(page["data"]) <= limit
        shown = [each["id"] for each in page["data"]]
        assert not set(shown) & set(found), "the cursor goes back"
        found += shown
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.fixture
async def desk(shop: Shop) -> dict[str, dict[str, Any]]:
    """Refunds that differ in everything that can be filtered."""
    first = await shop.pay(5990, order={"id": "A-1"}, customer={"id": "c-1"})
    second = await shop.pay(5990, order={"id": "A-2"}, customer={"id": "c-2"})
    found = {
        "done": await shop.refund(first, 100, reference="R-1", reason="damaged"),
        "failed": await shop.refund(first, 200, metadata={"sandbox": "decline"}),
        "lost": await shop.refund(second, 300, metadata={"sandbox": "lose_answer"}),
    }
    await shop.stop_sends()
    async with shop.at(shop.house.url, await shop.new_key(Role.AGENT, "agent-7")) as agent:
        found["queued"] = (await shop.ask(second, 400, client=agent)).json()
    stopped = (await shop.ask(first, 500)).json()
    found["canceled"] = (await shop.client.post(stopped["links"]["cancel"])).json()
    return found


async def test_every_filter_finds_what_it_names_and_nothing_else(
    shop: Shop, desk: dict[str, dict[str, Any]]
) -> None:
    by_id = {refund["id"]: name for name, refund in desk.items()}
    done, queued = desk["done"], desk["queued"]
    assert (await shop.see(desk["lost"]))["attention"] is None

    async def found(**query: Any) -> list[str]:
        return [by_id[id_] for id_ in await ids_of(shop, **query)]

    everything = ["canceled", "queued", "lost", "failed", "done"]
    for query, expected in (
        ({}, everything),
        ({"status": "succeeded"}, ["done"]),
        ({"status": ["failed", "unknown"]}, ["lost", "failed"]),
        ({"status": "reversed"}, []),
        ({"outcome": "open"}, ["queued", "lost"]),
        ({"outcome": "succeeded"}, ["done"]),
        ({"outcome": "failed"}, ["failed"]),
        ({"outcome": "stopped"}, ["canceled"]),
        ({"payment_id": done["payment"]["id"]}, ["canceled", "failed", "done"]),
        ({"payment_id": queued["payment"]["id"]}, ["queued", "lost"]),
        ({"order_id": "A-1"}, ["canceled", "failed", "done"]),
        ({"order_id": "A-2"}, ["queued", "lost"]),
        ({"order_id": "A-3"}, []),
        ({"customer_id": "c-2"}, ["queued", "lost"]),
        ({"customer_id": "c-3"}, []),
        ({"reference": "R-1"}, ["done"]),
        ({"reference": "R-2"}, []),
        ({"gateway_refund_id": done["gateway_refund_id"]}, ["done"]),
        ({"gateway_refund_id": "re_none"}, []),
        ({"bank_reference": done["bank_reference"]["value"]}, ["done"]),
        ({"bank_reference": "arn_none"}, []),
        ({"reason": "damaged"}, ["done"]),
        ({"reason": "customer_request"}, ["canceled", "queued", "lost", "failed"]),
        ({"requested_by": "agent-7"}, ["queued"]),
        ({"requested_by": "tester"}, ["canceled", "lost", "failed", "done"]),
        ({"gateway_account": "sandbox"}, everything),
        ({"gateway_account": "other"}, []),
        ({"amount": 300}, ["lost"]),
        ({"amount": 301}, []),
        ({"attention": "true"}, []),
        ({"attention": "false"}, everything),
        # Together they narrow together.
        ({"order_id": "A-1", "outcome": "failed"}, ["failed"]),
        ({"order_id": "A-2", "reference": "R-1"}, []),
        ({"status": ["queued", "canceled"], "outcome": "open"}, ["queued"]),
    ):
        assert await found(**query) == expected, query


async def test_a_range_of_time_begins_with_its_first_moment_and_ends_before_its_last(
    shop: Shop, desk: dict[str, dict[str, Any]]
) -> None:
    failed, lost = desk["failed"], desk["lost"]
    first, last = failed["created_at"], lost["created_at"]

    assert await ids_of(shop, created_from=first, created_to=last) == [failed["id"]]
    assert lost["id"] in await ids_of(shop, created_from=last)
    assert failed["id"] not in await ids_of(shop, created_from=last)
    assert await ids_of(shop, created_from=first, created_to=first) == []
    await shop.client.patch(f"/v1/refunds/{failed['id']}", json={"metadata": {"a": "b"}})
    updated = (await shop.see(failed))["updated_at"]
    assert await ids_of(shop, updated_from=updated) == [failed["id"]]
    assert failed["id"] not in await ids_of(shop, updated_to=updated)
    for name in ("created_from", "created_to", "updated_from", "updated_to"):
        refused = await shop.client.get("/v1/refunds", params={name: "2026-03-01T12:00:00"})
        assert wrong(refused) == {f"/{name}": "zone-missing"}


async def test_a_refund_that_needs_a_person_is_found(new_shop: Any) -> None:
    shop: Shop = await new_shop(looks_up=False, deduplicates=False)
    refund = await shop.refund(await shop.pay(5990), 100, metadata={"sandbox": "lose_answer"})
    calm = await shop.refund(await shop.pay(5990), 200)
    async with asyncio.timeout(20):
        while (await shop.see(refund))["attention"] is None:
            await asyncio.sleep(0.02)

    assert await ids_of(shop, attention="true") == [refund["id"]]
    assert await ids_of(shop, attention="false") == [calm["id"]]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"status": "done"}, "/status/0"),
        ({"outcome": "maybe"}, "/outcome"),
        ({"payment_id": "pay_1"}, "/payment_id"),
        ({"payment_id": "rf_01m80z2jwte94t02fnnabcdefg"}, "/payment_id"),
        ({"order_id": ""}, "/order_id"),
        ({"attention": "perhaps"}, "/attention"),
        ({"created_from": "yesterday"}, "/created_from"),
        ({"limit": "0"}, "/limit"),
        ({"limit": "101"}, "/limit"),
        ({"limit": "1_0"}, "/limit"),
        ({"limit": ""}, "/limit"),
        ({"cursor": "x" * 201}, "/cursor"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_named(shop: Shop, query: Any, pointer: str) -> None:
    assert list(wrong(await shop.client.get("/v1/refunds", params=query))) == [pointer]


async def test_payments_are_found_by_their_names_and_times(shop: Shop) -> None:
    first = await shop.pay(100, reference="P-1", order={"id": "A-1"}, customer={"id": "c-1"})
    second = await shop.pay(200, order={"id": "A-1"}, customer={"id": "c-2"})
    path = "/v1/payments"
    for query, expected in (
        ({}, [second, first]),
        ({"order_id": "A-1"}, [second, first]),
        ({"order_id": "A-2"}, []),
        ({"customer_id": "c-1"}, [first]),
        ({"customer_id": "c-3"}, []),
        ({"reference": "P-1"}, [first]),
        ({"reference": "P-2"}, []),
        ({"gateway_payment_id": second["gateway_payment_id"]}, [second]),
        ({"gateway_payment_id": "pi_none"}, []),
        ({"created_from": second["created_at"]}, [second]),
        ({"created_to": second["created_at"]}, [first]),
        ({"order_id": "A-1", "customer_id": "c-2"}, [second]),
    ):
        assert await ids_of(shop, path, **query) == [payment["id"] for payment in expected], query
    assert await walk(shop, path, 1) == [second["id"], first["id"]]


# -- pages


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_add_up_to_the_list_newest_first(shop: Shop, limit: int) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990)
    made = [(await shop.ask(payment, 1)).json()["id"] for _ in range(7)]

    assert await walk(shop, "/v1/refunds", limit) == made[::-1]
    assert await walk(shop, "/v1/refunds", limit, status="queued", payment_id=payment["id"]) == made[::-1]
    assert await walk(shop, "/v1/refunds", limit, status="failed") == []


async def test_without_a_limit_a_page_has_twenty(shop: Shop) -> None:  # SEC-26
    await shop.stop_sends()
    payment = await shop.pay(5990)
    await asyncio.gather(*(shop.ask(payment, 1) for _ in range(21)))

    page = await shop.get("/v1/refunds")

    assert len(page["data"]) == 20
    assert page["next_cursor"]
    rest = await shop.get("/v1/refunds", cursor=page["next_cursor"])
    assert (len(rest["data"]), rest["next_cursor"]) == (1, None)
    assert (await shop.get("/v1/refunds", limit=21))["next_cursor"] is None


async def test_nothing_is_missed_or_shown_twice_while_refunds_are_added(shop: Shop) -> None:  # CON-17
    await shop.stop_sends()
    payment = await shop.pay(5990)
    there = [reply.json()["id"] for reply in await asyncio.gather(*(shop.ask(payment, 1) for _ in range(30)))]
    reading = True

    async def add() -> list[str]:
        added = []
        while reading:
            added.append((await shop.ask(payment, 1)).json()["id"])
        return added

    adders = [asyncio.create_task(add()) for _ in range(4)]
    try:
        found = await walk(shop, "/v1/refunds", 4)
    finally:
        reading = False
        added = [id_ for each in await asyncio.gather(*adders) for id_ in each]

    assert len(added) > 8
    assert len(found) == len(set(found))
    assert set(there) <= set(found) <= set(there) | set(added)
    assert [id_ for id_ in found if id_ in there] == sorted(there, reverse=True)
    assert found == sorted(found, reverse=True)


# -- cursors


async def test_a_cursor_that_was_changed_is_refused(shop: Shop) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990)
    for _ in range(2):
        await shop.ask(payment, 1)
    cursor = (await shop.get("/v1/refunds", limit=1))["next_cursor"]
    signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert len((await shop.get("/v1/refunds", cursor=cursor))["data"]) == 1

    for place in range(len(signed)):
        bent = bytearray(signed)
        bent[place] ^= 1
        told = base64.urlsafe_b64encode(bent).decode().rstrip("=")
        problem(await shop.client.get("/v1/refunds", params={"cursor": told}), 400, "cursor-invalid")
    for told in (cursor[:-1], cursor + "A", cursor + "=", cursor.upper(), " " + cursor, "", "null", "ä"):
        problem(await shop.client.get("/v1/refunds", params={"cursor": told}), 400, "cursor-invalid")


async def test_a_cursor_belongs_to_its_list_and_filters(shop: Shop) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990, order={"id": "A-1"})
    await shop.pay(100, order={"id": "A-1"})
    for _ in range(2):
        await shop.ask(payment, 1)
    query = {"order_id": "A-1", "status": ["queued", "failed"]}
    cursor = (await shop.get("/v1/refunds", limit=1, **query))["next_cursor"]
    assert len((await shop.get("/v1/refunds", cursor=cursor, limit=5, **query))["data"]) == 1

    for other in (
        {},
        {"order_id": "A-1"},
        {"order_id": "A-2", "status": ["queued", "failed"]},
        {"order_id": "A-1", "status": ["queued"]},
        query | {"amount": 1},
    ):
        refused = await shop.client.get("/v1/refunds", params=other | {"cursor": cursor})
        problem(refused, 400, "cursor-invalid")
    for path in ("/v1/payments", "/v1/events"):
        problem(await shop.client.get(path, params={"cursor": cursor}), 400, "cursor-invalid")
    events = (await shop.get("/v1/events", limit=1))["next_cursor"]
    for path in ("/v1/payments", "/v1/refunds"):
        problem(await shop.client.get(path, params={"cursor": events}), 400, "cursor-invalid")


@pytest.mark.parametrize("path", ["/v1/refunds", "/v1/payments"])
async def test_a_range_may_reach_to_the_ends_of_the_calendar(shop: Shop, path: str) -> None:
    await shop.refund(await shop.pay(), 100)

    whole = await shop.get(path, created_from="0001-01-01T00:00:00Z", created_to="9999-12-31T23:59:59Z")

    assert len(whole["data"]) == 1
    assert (await shop.get(path, created_to="0001-01-01T00:00:00Z"))["data"] == []
    assert (await shop.get(path, created_from="9999-12-31T23:59:59Z"))["data"] == []
