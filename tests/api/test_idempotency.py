"""The same key never acts twice, over HTTP: what is replayed, what is refused, what is no first use."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from house import House, Shop, open_house, settings_for
from over_http import problem, speak, wrong
from sandbox_fixture import Sandbox
from sqlalchemy import text
from structlog.testing import capture_logs

from refund_service import clock
from refund_service.merchants.keys import CACHED_FOR, KeyCabinet
from refund_service.merchants.roles import Role

REPLAYED = "idempotency-replayed"


async def post(shop: Shop, key: str, body: bytes | dict[str, Any], **more: Any) -> httpx.Response:
    """Ask for a refund with a body as these very bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    client = more.pop("client", shop.client)
    return await client.post("/v1/refunds", content=content, headers=headers, **more)


async def kept(shop: Shop) -> list[tuple[Any, ...]]:
    """What is kept of every key of the merchant."""
    async with shop.house.parts.db.transaction() as tx:
        statement = text("SELECT * FROM idempotency_keys WHERE merchant_id = :m ORDER BY key")
        return [tuple(row) for row in await tx.execute(statement, {"m": shop.merchant_id})]


# -- first use and replay


async def test_the_first_use_of_a_key_is_acknowledged_before_anything_is_sent(  # IDM-01
    own_house: House, own_shop: Shop
) -> None:
    payment = await own_shop.pay(5990)

    reply = await own_shop.ask(payment, 1250, key="first-1")

    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v1/refunds/{reply.json()['id']}"
    assert reply.headers["idempotency-key"] == "first-1"
    assert REPLAYED not in reply.headers
    assert await own_shop.count("refunds") == 1
    assert own_shop.executions() == []

    await own_house.start_worker()
    await own_shop.until(reply.json(), "succeeded")
    assert len(own_shop.executions()) == 1


async def test_a_replay_answers_the_same_refund_as_it_now_is_and_writes_nothing(shop: Shop) -> None:  # IDM-02
    payment = await shop.pay(5990)
    first = await shop.ask(payment, 1250, key="again")
    await shop.until(first.json(), "succeeded")
    before = {table: await shop.count(table) for table in ("refunds", "events", "decisions", "attempts")}

    again = await shop.ask(payment, 1250, key="again")

    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])
    assert again.headers[REPLAYED] == "true"
    assert (first.json()["status"], again.json()["status"]) == ("queued", "succeeded")
    assert again.json()["id"] == first.json()["id"]
    assert {table: await shop.count(table) for table in before} == before
    assert len(shop.executions()) == 1


@pytest.mark.parametrize("other", ["amount", "payment", "reason", "member", "query"])
async def test_a_key_with_another_request_is_refused_and_forgets_nothing(  # IDM-03
    shop: Shop, other: str
) -> None:
    payment, elsewhere = await shop.pay(5990), await shop.pay(5990)
    body = {"payment_id": payment["id"], "amount": 1250, "reason": "damaged"}
    changed = (
        body
        | {
            "amount": {"amount": 1300},
            "payment": {"payment_id": elsewhere["id"]},
            "reason": {"reason": "returned"},
            "member": {"ticket": "T-1"},
            "query": {},
        }[other]
    )
    first = await post(shop, "one", body)
    was = await kept(shop)

    refused = await post(shop, "one", changed, params={"x": "1"} if other == "query" else {})

    assert problem(refused, 422, "idempotency-key-reused")["idempotency_key"] == "one"
    assert await kept(shop) == was
    again = await post(shop, "one", body)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert again.headers[REPLAYED] == "true"
    assert await shop.count("refunds") == 1


async def test_a_request_is_the_same_however_its_json_is_spelled(shop: Shop) -> None:  # IDM-04
    payment = await shop.pay(5990)
    told = f'{{"payment_id":"{payment["id"]}","amount":1250,"metadata":{{"a":"é","b":"/"}}}}'
    spelled = (
        '\n{ "metadata" : {"b": "\\/", "a": "\\u00e9"},\t"amount" : 1250 , '
        f'"payment_id": "{payment["id"]}" }} '
    )

    first, again = await post(shop, "one", told.encode()), await post(shop, "one", spelled.encode())

    assert (first.status_code, again.status_code) == (201, 201), again.text
    assert again.headers[REPLAYED] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert await shop.count("refunds") == 1


async def test_a_replay_of_a_failed_refund_shows_it_and_how_to_go_on_and_tries_nothing(  # IDM-16
    shop: Shop,
) -> None:
    payment = await shop.pay(5990)
    asked = {"metadata": {"sandbox": "decline"}, "key": "declined"}
    first = await shop.refund(payment, 1250, **asked)
    assert first["status"] == "failed"
    sends = len(shop.sandbox.record(account=shop.remote)["requests"])

    again = await shop.ask(payment, 1250, wait=2, **asked)

    assert again.status_code == 201
    assert again.headers[REPLAYED] == "true"
    assert (again.json()["id"], again.json()["status"]) == (first["id"], "failed")
    assert again.json()["links"]["retry"] == f"/v1/refunds/{first['id']}/retry"
    assert (again.json()["generation"], shop.executions()) == (1, [])
    assert len(shop.sandbox.record(account=shop.remote)["requests"]) == sends


# -- what is no first use


async def test_what_committed_nothing_leaves_the_key_free(shop: Shop) -> None:  # IDM-19, INC-29
    payment = await shop.pay(5990)
    right = {"payment_id": payment["id"], "amount": 1250}
    problem(await post(shop, "one", b"{"), 400, "body-unreadable")
    assert wrong(await post(shop, "one", right | {"amount": "1250"})) == {"/amount": "wrong-type"}
    problem(await post(shop, "one", right | {"amount": 5991}), 422, "amount-exceeds-available")
    problem(await post(shop, "one", right | {"expected_available": 1}), 412, "available-changed")
    problem(await post(shop, "one", right | {"reason": "unheard_of"}), 422, "reason-unknown")
    assert await kept(shop) == []

    reply = await post(shop, "one", right)

    assert reply.status_code == 201
    assert REPLAYED not in reply.headers
    assert await shop.count("refunds") == 1


async def test_too_many_requests_are_refused_before_the_key_is_used(  # IDM-20, SEC-27, FRD-12
    house: House, shop: Shop
) -> None:
    payment = await shop.pay(5990)
    strict = settings_for(house.parts.settings.database_url.get_secret_value())
    # Two, because keys that are not known yet share one such limit, and two of them come here.
    strict = strict.model_copy(update={"rate_limit": 0.001, "rate_burst": 2})
    async with open_house(strict, work=False) as slow, shop.at(slow.url) as client:
        await client.get("/v1/me")
        allowed = await client.get("/v1/me")
        assert allowed.headers["ratelimit"].startswith('"key";r=0;')
        limited = await shop.ask(payment, 1250, key="limited", client=client)
        async with shop.at(slow.url, await shop.new_key(Role.AGENT)) as colleague:
            assert (await colleague.get("/v1/me")).status_code == 200  # each key has its own limit

    told = problem(limited, 429, "rate-limited")
    assert told["retryable"] is True
    assert int(limited.headers["retry-after"]) > 0
    reply = await shop.ask(payment, 1250, key="limited")
    assert reply.status_code == 201
    assert REPLAYED not in reply.headers
    assert await shop.count("refunds") == 1


async def test_who_may_not_ask_does_not_use_the_key_up(shop: Shop) -> None:  # IDM-21
    payment = await shop.pay(5990)
    async with shop.at(shop.house.url, shop.key[:-1] + "-") as stranger:
        problem(await shop.ask(payment, 1250, key="mine", client=stranger), 401, "unauthorized")
    async with shop.at(shop.house.url, await shop.new_key(Role.AUDITOR)) as auditor:
        told = problem(await shop.ask(payment, 1250, key="mine", client=auditor), 403, "forbidden")
        assert told["scope"] == "refunds:write"
    assert await kept(shop) == []

    assert REPLAYED not in (await shop.ask(payment, 1250, key="mine")).headers
    assert await shop.count("refunds") == 1


async def test_a_breakdown_before_the_commit_leaves_the_key_free(  # IDM-22, INC-29
    own_house: House, own_shop: Shop
) -> None:
    db, payment = own_house.parts.db, await own_shop.pay(5990)
    await db.rows(
        text(
            "CREATE FUNCTION break_down() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'a mistake of ours with rk_live_0123456789abcdef in it'; END $$"
        )
    )
    await db.rows(text("CREATE TRIGGER bug BEFORE INSERT ON notes EXECUTE FUNCTION break_down()"))

    with capture_logs() as lines:
        broken = await own_shop.ask(payment, 1250, key="unlucky", note="for the staff")

    assert lines[0]["event"] == "request.failed"

    told = problem(broken, 500, "internal-error")
    assert (told["retryable"], "mistake" in broken.text, "rk_live" in broken.text) == (True, False, False)
    for table in ("refunds", "idempotency_keys", "decisions", "jobs", "refund_transitions"):
        assert await own_shop.count(table) == 0, table
    assert (await own_shop.payment(payment))["held"] == 0

    await db.rows(text("DROP TRIGGER bug ON notes"))
    reply = await own_shop.ask(payment, 1250, key="unlucky", note="for the staff")
    assert reply.status_code == 201
    assert REPLAYED not in reply.headers
    assert await own_shop.count("refunds") == 1


# -- whose key it is


async def test_a_key_is_one_merchants_own(shop: Shop, new_shop: Any) -> None:  # IDM-26, SEC-17, INC-30
    other: Shop = await new_shop()
    mine = await shop.pay(5990, gateway_payment_id="pi_same")
    theirs = await other.pay(5990, gateway_payment_id="pi_same")
    body = {"gateway_payment_id": "pi_same", "amount": 1250}

    first, second = await post(shop, "same", body), await post(other, "same", body)

    assert (first.status_code, second.status_code) == (201, 201)
    assert REPLAYED not in second.headers
    assert first.json()["payment"]["id"] == mine["id"]
    assert second.json()["payment"]["id"] == theirs["id"]
    for id_ in (first.json()["id"], mine["id"], first.json()["decision"]["id"]):
        assert id_ not in second.text
    await shop.until(first.json(), "succeeded")
    await other.until(second.json(), "succeeded")
    assert (len(shop.executions()), len(other.executions())) == (1, 1)


async def test_a_key_in_test_mode_is_another_than_in_live_mode(  # IDM-28, SEC-34
    house: House, shop: Shop, sandbox: Sandbox
) -> None:
    async with house.new_shop(sandbox, livemode=True) as live:
        replies = []
        for each in (shop, live):
            await each.pay(5990, gateway_payment_id="pi_same")
            replies.append(await post(each, "same", {"gateway_payment_id": "pi_same", "amount": 1250}))

        assert [reply.status_code for reply in replies] == [201, 201]
        assert [reply.json()["livemode"] for reply in replies] == [False, True]
        assert not any(REPLAYED in reply.headers for reply in replies)
        await live.until(replies[1].json(), "succeeded")


async def test_a_revoked_key_gets_no_replay(shop: Shop) -> None:  # IDM-32
    payment, key = await shop.pay(5990), await shop.new_key(Role.AGENT)
    settings = shop.house.parts.settings
    async with shop.at(shop.house.url, key) as client:
        assert (await shop.ask(payment, 1250, key="mine", client=client)).status_code == 201
    assert await shop.house.parts.cabinet.revoke(key[8:20], now=clock.utc_now())

    async with open_house(settings, work=False) as fresh, shop.at(fresh.url, key) as client:
        problem(await shop.ask(payment, 1250, key="mine", client=client), 401, "unauthorized")


async def test_a_revoked_key_is_believed_for_five_seconds_at_most(shop: Shop) -> None:  # IDM-32
    parts, key = shop.house.parts, await shop.new_key(Role.AGENT)
    peppers = {id_: pepper.get_secret_value() for id_, pepper in parts.settings.key_peppers.items()}
    cabinet = KeyCabinet(parts.db, peppers)
    assert await cabinet.authenticate(f"Bearer {key}", at=100.0)
    assert await cabinet.revoke(key[8:20], now=clock.utc_now())

    assert CACHED_FOR == 5
    assert await cabinet.authenticate(f"Bearer {key}", at=104.999)
    assert await cabinet.authenticate(f"Bearer {key}", at=105.0) is None
    assert not await cabinet.revoke(key[8:20], now=clock.utc_now())


# -- the shape of a key


async def test_case_counts_and_the_space_around_a_key_does_not(shop: Shop) -> None:  # IDM-33
    payment = await shop.pay(5990)
    body = {"payment_id": payment["id"], "amount": 100}
    first, second = await post(shop, "abc", body), await post(shop, "ABC", body)
    authorization = f"Authorization: Bearer {shop.key}".encode()

    for header in (b"Idempotency-Key: abc ", b"Idempotency-Key:\t abc\t ", b"idempotency-key:abc"):
        status, head, told = await speak(shop.house.url, "POST /v1/refunds", authorization, header, body=body)
        assert (status, json.loads(told)["id"]) == (201, first.json()["id"])
        assert b"idempotency-replayed: true" in head

    assert second.json()["id"] != first.json()["id"]
    assert await shop.count("refunds") == 2


async def test_one_pair_of_quotes_is_not_part_of_the_key(shop: Shop) -> None:  # IDM-34
    payment = await shop.pay(5990)
    first = await shop.ask(payment, 100, key='"abc"')
    again = await shop.ask(payment, 100, key="abc")
    twice = await shop.ask(payment, 100, key='""abc""')

    assert again.json()["id"] == first.json()["id"]
    assert again.headers[REPLAYED] == "true"
    assert twice.json()["id"] != first.json()["id"]


async def test_a_key_has_one_to_255_characters(shop: Shop) -> None:  # IDM-35
    payment = await shop.pay(5990)
    for key in ("a", "a" * 255, '"' + "b" * 255 + '"'):
        assert (await shop.ask(payment, 100, key=key)).status_code == 201
    before = await shop.count("idempotency_keys")

    for key in ('""', "a" * 256, "a" * 8192):
        problem(await shop.ask(payment, 100, key=key), 400, "idempotency-key-invalid")
    body = {"payment_id": payment["id"], "amount": 100}
    problem(await post(shop, "", body), 400, "idempotency-key-invalid")
    problem(await shop.client.post("/v1/refunds", json=body), 400, "idempotency-key-missing")
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    problem(await shop.client.post("/v1/refunds", json=body, headers=two), 400, "idempotency-key-invalid")

    assert before == await shop.count("idempotency_keys") == await shop.count("refunds") == 3


@pytest.mark.parametrize(
    "key",
    [
        b"a\x01b",
        b"a\x7fb",
        b"a\x00b",
        b"a b",
        b"a\tb",
        "ä".encode(),
        b"\xff",
        b"a\x1b[31mb",
        b"a\rb",
        b"a\nb",
    ],
)
async def test_a_key_that_is_not_visible_ascii_is_refused(shop: Shop, key: bytes) -> None:  # IDM-36
    payment = await shop.pay(5990)

    status, head, _ = await speak(
        shop.house.url,
        "POST /v1/refunds",
        f"Authorization: Bearer {shop.key}".encode(),
        b"Idempotency-Key: " + key,
        body={"payment_id": payment["id"], "amount": 100},
    )

    assert status == 400
    assert b"location" not in head
    assert await shop.count("idempotency_keys") == await shop.count("refunds") == 0


async def test_a_key_means_nothing_but_itself(shop: Shop) -> None:  # IDM-38
    payment = await shop.pay(5990)
    keys = (
        "';DROP/**/TABLE/**/refunds;--",
        "*)(uid=*))(|(uid=*",
        "../../etc/passwd",
        "__proto__",
        "constructor",
        "%00%0d%0aX-Evil:1",
        "${jndi:ldap://x}",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "%(in_key)s",
        ":in_key",
        "null",
        "\\",
    )
    made = {key: (await shop.ask(payment, 100, key=key)).json()["id"] for key in keys}
    assert len(set(made.values())) == len(keys) == await shop.count("refunds")

    for key in keys:
        again = await shop.ask(payment, 100, key=key)
        assert (again.json()["id"], again.headers["idempotency-key"]) == (made[key], key)


# -- references and twins


async def test_a_reference_names_one_refund_whatever_the_keys(shop: Shop) -> None:  # IDM-40
    payment = await shop.pay(5990)

    replies = await asyncio.gather(
        *(shop.ask(payment, 1250, key=f"key-{n}", reference="RMA-7") for n in range(2))
    )

    made, refused = sorted(replies, key=lambda reply: reply.status_code)
    assert made.status_code == 201
    told = problem(refused, 409, "reference-exists")
    assert (told["refund_id"], told["reference"]) == (made.json()["id"], "RMA-7")
    assert told["links"]["refund"] == f"/v1/refunds/{made.json()['id']}"
    await shop.until(made.json(), "succeeded")
    assert len(shop.executions()) == 1
    assert await shop.count("idempotency_keys") == 1


async def test_a_reference_may_stand_in_for_the_key(shop: Shop) -> None:  # IDM-40
    payment = await shop.pay(5990)
    body = {"payment_id": payment["id"], "amount": 1250, "reference": "RMA-8"}

    first = await shop.client.post("/v1/refunds", json=body)
    again = await shop.client.post("/v1/refunds", json=body)
    other = await shop.client.post("/v1/refunds", json=body | {"amount": 1300})

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers[REPLAYED] == "true"
    assert again.json()["id"] == first.json()["id"]
    problem(other, 422, "idempotency-key-reused")
    # The header's keys and the references are two kinds of key.
    assert (await shop.ask(payment, 100, key="RMA-8")).status_code == 201
    assert await shop.count("refunds") == 2


async def test_twins_under_two_keys_are_two_refunds(shop: Shop) -> None:  # IDM-41, INC-06, saleor/apps#2446
    payment = await shop.pay(300)

    twins = [await shop.refund(payment, 100) for _ in range(2)]
    third, fourth = await shop.ask(payment, 100), await shop.ask(payment, 100)

    assert len({twin["id"] for twin in twins}) == 2
    assert third.status_code == 201
    problem(fourth, 422, "amount-exceeds-available")
    await shop.until(third.json(), "succeeded")
    assert [paid["amount"] for paid in shop.executions()] == [100, 100, 100]


# -- keys on what comes after


async def test_a_retried_cancel_is_replayed_and_not_refused(shop: Shop) -> None:
    await shop.stop_sends()
    payment = await shop.pay(5990)
    refund = (await shop.ask(payment, 1250, key="create")).json()
    path = f"/v1/refunds/{refund['id']}/cancel"

    first = await shop.client.post(path, headers={"Idempotency-Key": "cancel"})
    again = await shop.client.post(path, headers={"Idempotency-Key": "cancel"})

    assert [(reply.status_code, reply.json()["status"]) for reply in (first, again)] == [
        (200, "canceled")
    ] * 2
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    problem(await shop.client.post(path), 409, "refund-not-in-status")
    # The key of the creation is no key for a cancellation.
    reused = await shop.client.post(path, headers={"Idempotency-Key": "create"})
    problem(reused, 422, "idempotency-key-reused")


async def test_a_retried_registration_is_replayed(shop: Shop) -> None:
    body = {"gateway_payment_id": f"pi_{uuid4().hex}", "captured": 500, "currency": "EUR"}
    headers = {"Idempotency-Key": "register"}

    first = await shop.client.post("/v1/payments", json=body, headers=headers)
    again = await shop.client.post("/v1/payments", json=body, headers=headers)
    other = await shop.client.post("/v1/payments", json=body | {"captured": 600}, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers[REPLAYED] == "true"
    assert again.headers["location"] == first.headers["location"]
    problem(other, 422, "idempotency-key-reused")
    assert await shop.count("payments") == 1
