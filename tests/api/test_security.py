"""Who may do what, whose things are whose, and what the edge does not let in, over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from house import House, Process, Shop, open_house
from over_http import problem, speak, wrong
from sandbox_fixture import Sandbox
from sqlalchemy import text

from refund_service import ids
from refund_service.merchants.keys import new_key
from refund_service.merchants.roles import Role

CARD = "4111 1111 1111 1111"
DIGITS = CARD.replace(" ", "")


def nowhere(kind: str) -> str:
    """An id that no one has."""
    return ids.show(kind, ids.new_id())


async def post(shop: Shop, path: str, body: dict[str, Any]) -> httpx.Response:
    """With a new key where the path wants one."""
    return await shop.client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})


# -- who calls


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {cut}",
        "Bearer {mistyped}",
        "Bearer {live}",
        "Bearer {unknown}",
        "Bearer {key} {key}",
        "Bearer {key},Bearer {key}",
        "bearer: {key}",
    ],
)
async def test_who_cannot_be_known_is_told_nothing(shop: Shop, header: str) -> None:  # SEC-34
    key = shop.key
    told = header.format(
        key=key,
        cut=key[:-1],
        mistyped=key[:30] + ("a" if key[30] != "a" else "b") + key[31:],
        live=key.replace("rk_test_", "rk_live_"),
        unknown="rk_test_" + "0" * 61,
    )
    reply = await shop.client.get("/v1/me", headers={"Authorization": told})

    problem(reply, 401, "unauthorized")
    assert reply.headers["www-authenticate"] == 'Bearer realm="refund-service"'
    assert key[20:60] not in reply.text


async def test_a_flood_of_made_up_keys_is_turned_away_and_holds_up_no_one_who_is_known(  # SEC-27
    house: House, shop: Shop
) -> None:
    few = {"rate_limit": 0.001, "rate_burst": 10}
    settings = house.parts.settings.model_copy(update=few)
    async with open_house(settings, work=False) as slow, shop.at(slow.url) as known:
        assert (await known.get("/v1/me")).status_code == 200  # the first of the ten who were not known

        for number in range(12):
            made_up, _ = new_key(livemode=False)
            async with shop.at(slow.url, made_up) as stranger:
                reply = await stranger.get("/v1/me")
            if number < 9:
                problem(reply, 401, "unauthorized")
            else:
                told = problem(reply, 429, "rate-limited")
                assert (told["retryable"], told["limit"]) == (True, 10)
                assert int(reply.headers["retry-after"]) > 0

        assert (await known.get("/v1/me")).status_code == 200


async def test_a_key_is_sent_once_and_its_scheme_in_any_case(shop: Shop) -> None:
    authorization = f"Authorization: Bearer {shop.key}".encode()
    lower = f"authorization: bearer {shop.key}".encode()

    assert (await speak(shop.house.url, "GET /v1/me", lower))[0] == 200
    assert (await speak(shop.house.url, "GET /v1/me", authorization, authorization))[0] == 401
    in_query = await speak(shop.house.url, f"GET /v1/me?api_key={shop.key}&authorization={shop.key}")
    assert in_query[0] == 401


async def operations(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """Every path of the API with its operations, as the OpenAPI document has them."""
    document = (await client.get("/openapi.json")).json()
    return {path: told for path, told in document["paths"].items() if path.startswith("/v1/")}


def filled(path: str) -> str:
    """A path with ids of nothing in place of its parameters."""
    for name, id_ in (
        ("{refund_id}", nowhere("refund")),
        ("{payment_id}", nowhere("payment")),
        ("{decision_id}", nowhere("decision")),
        ("{order_id}", "A-404"),
        ("{code}", "damaged"),
    ):
        path = path.replace(name, id_)
    assert "{" not in path
    return path


async def test_every_operation_asks_for_a_key(shop: Shop) -> None:
    paths = await operations(shop.client)
    assert len(paths) > 10

    for path, told in paths.items():
        for method in told.keys() & {"get", "post", "put", "patch", "delete"}:
            reply = await shop.client.request(method, filled(path), headers={"Authorization": ""})
            problem(reply, 401, "unauthorized")


READS = {
    "GET /v1/refunds": "refunds:read",
    "GET /v1/refunds/{refund_id}": "refunds:read",
    "GET /v1/refunds/{refund_id}/attempts": "refunds:read",
    "GET /v1/refunds/{refund_id}/events": "refunds:read",
    "GET /v1/payments": "payments:read",
    "GET /v1/payments/{payment_id}": "payments:read",
    "GET /v1/orders/{order_id}": "payments:read",
    "GET /v1/policies/current": "policies:read",
    "GET /v1/reasons": "policies:read",
    "GET /v1/decisions/{decision_id}": "policies:read",
    "GET /v1/events": "events:read",
}
WRITES = {
    "POST /v1/refunds": "refunds:write",
    "PATCH /v1/refunds/{refund_id}": "refunds:write",
    "POST /v1/refunds/{refund_id}/cancel": "refunds:write",
    "POST /v1/refunds/{refund_id}/retry": "refunds:write",
    "POST /v1/refunds/{refund_id}/refresh": "refunds:write",
    "POST /v1/payments": "payments:write",
    "PATCH /v1/orders/{order_id}": "payments:write",
    "POST /v1/policies": "policies:write",
    "PUT /v1/reasons/{code}": "policies:write",
}
MAY_WRITE = {
    Role.INTEGRATION: {"refunds:write", "payments:write"},
    Role.AGENT: {"refunds:write"},
    Role.APPROVER: set[str](),
    Role.ACCOUNTANT: set[str](),
    Role.AUDITOR: set[str](),
    Role.ADMIN: {"refunds:write", "payments:write", "policies:write"},
}


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_may_what_its_scopes_say_and_a_refusal_names_what_is_missing(
    shop: Shop, role: Role
) -> None:
    listed = await operations(shop.client)
    known = {f"{method.upper()} {path}" for path, told in listed.items() for method in told}
    assert known - {"GET /v1/me"} == READS.keys() | WRITES.keys()

    async with shop.at(shop.house.url, await shop.new_key(role)) as client:
        for operation, scope in (READS | WRITES).items():
            method, path = operation.split(" ")
            # What is refused for want of a scope is refused before its body is looked at.
            body = {"json": {"nonsense": 1}} if method in ("POST", "PATCH", "PUT") else {}
            if path.endswith(("cancel", "retry", "refresh")):
                body = {}
            reply = await client.request(method, filled(path), **body)
            if operation in READS or scope in MAY_WRITE[role]:
                assert reply.status_code in (200, 404, 422), f"{operation}: {reply.text}"
            else:
                assert problem(reply, 403, "forbidden")["scope"] == scope, operation
                assert f'scope="{scope}"' in reply.headers["www-authenticate"]
        me = (await client.get("/v1/me")).json()
        assert (me["role"], me["subject"], me["livemode"]) == (role, "someone", False)
        assert set(me["scopes"]) - {"act_as"} == set(READS.values()) | MAY_WRITE[role]
        assert [account["name"] for account in me["gateway_accounts"]] == ["sandbox"]
    assert await shop.count("policies") == await shop.count("refunds") == 0


@pytest.mark.parametrize("role", [Role.INTEGRATION, Role.ADMIN])
async def test_who_acts_for_others_says_for_whom(shop: Shop, role: Role) -> None:
    payment = await shop.pay(5990)
    async with shop.at(shop.house.url, await shop.new_key(role, "shop backend")) as client:
        alone = await shop.ask(payment, 100, client=client)
        client.headers["Refund-Actor"] = "agent-7"
        acting = await shop.ask(payment, 100, client=client)
        me = (await client.get("/v1/me")).json()

    assert (alone.json()["requested_by"], acting.json()["requested_by"]) == ("shop backend", "agent-7")
    assert (me["subject"], me["actor"]) == ("shop backend", "agent-7")
    told = (await shop.get(f"/v1/refunds/{acting.json()['id']}/events"))["data"]
    assert told[0]["caused_by"] == "agent-7"
    decision = await shop.get(acting.json()["links"]["decision"])
    assert decision["decided_for"] == "agent-7"
    row = await shop.house.parts.db.value(
        text(
            "SELECT k.subject FROM refunds r JOIN api_keys k ON k.id = r.requested_with WHERE r.id = :in_id"
        ),
        id=ids.read("refund", acting.json()["id"]),
    )
    assert row == "shop backend"  # the key is kept beside the person


@pytest.mark.parametrize("role", [Role.AGENT, Role.APPROVER, Role.ACCOUNTANT, Role.AUDITOR])
async def test_who_may_not_act_for_others_cannot_say_so(shop: Shop, role: Role) -> None:
    payment = await shop.pay(5990)
    async with shop.at(shop.house.url, await shop.new_key(role)) as client:
        client.headers["Refund-Actor"] = "the-owner"
        assert problem(await shop.ask(payment, 100, client=client), 403, "forbidden")["scope"] == "act_as"
        problem(await client.get("/v1/me"), 403, "forbidden")
    assert await shop.count("refunds") == 0


@pytest.mark.parametrize("actor", ["", "x" * 256, "Ada Lovelace", "ä", "a\tb", DIGITS])
async def test_an_actor_is_an_id_of_visible_ascii(shop: Shop, actor: str) -> None:
    headers = [(b"Refund-Actor", actor.encode())]
    problem(await shop.client.get("/v1/me", headers=headers), 400, "actor-invalid")
    twice = [("Refund-Actor", "a"), ("Refund-Actor", "a")]
    problem(await shop.client.get("/v1/me", headers=twice), 400, "actor-invalid")

    longest = await shop.client.get("/v1/me", headers={"Refund-Actor": "x" * 255})
    assert longest.json()["actor"] == "x" * 255


# -- whose things are whose (promise 9)


@pytest.fixture
async def other(new_shop: Callable[..., Any]) -> Shop:
    """Another merchant."""
    shop: Shop = await new_shop()
    return shop


def same_answer(theirs: httpx.Response, their_name: str, none: httpx.Response, no_name: str) -> None:
    """Not a letter tells what belongs to another from what is not there."""
    assert theirs.status_code == none.status_code == 404, f"{theirs.text} {none.text}"
    documents = []
    for reply, name in ((theirs, their_name), (none, no_name)):
        document = json.loads(reply.text.replace(name, "it"))
        assert document.pop("request_id")
        documents.append(document)
    assert documents[0] == documents[1]
    assert theirs.headers.keys() == none.headers.keys()


async def test_what_is_anothers_is_not_there(shop: Shop, other: Shop) -> None:  # promise 9
    payment = await shop.pay(5990, reference="P-1", order={"id": "A-1"}, customer={"id": "c-1"})
    refund = await shop.refund(payment, 1250, reference="R-1")
    failed = await shop.refund(payment, 100, metadata={"sandbox": "decline"})
    assert failed["status"] == "failed"
    decision = refund["decision"]["id"]

    async def both(method: str, path: str, name: str, none: str, **more: Any) -> None:
        theirs = await other.client.request(method, path.format(name), **more)
        nothing = await other.client.request(method, path.format(none), **more)
        same_answer(theirs, name, nothing, none)

    no_refund = nowhere("refund")
    await both("GET", "/v1/refunds/{}", refund["id"], no_refund)
    await both("GET", "/v1/refunds/{}/attempts", refund["id"], no_refund)
    await both("GET", "/v1/refunds/{}/events", refund["id"], no_refund)
    await both("PATCH", "/v1/refunds/{}", refund["id"], no_refund, json={"metadata": {"a": "b"}})
    await both("POST", "/v1/refunds/{}/cancel", refund["id"], no_refund)
    await both("POST", "/v1/refunds/{}/retry", failed["id"], no_refund)
    await both("POST", "/v1/refunds/{}/refresh", refund["id"], no_refund)
    await both("GET", "/v1/payments/{}", payment["id"], nowhere("payment"))
    await both("GET", "/v1/decisions/{}", decision, nowhere("decision"))
    await both("GET", "/v1/orders/{}", "A-1", "A-2")
    await both("PATCH", "/v1/orders/{}", "A-1", "A-2", json={"facts": {"a": 1}})
    for member, theirs, none in (
        ("payment_id", payment["id"], nowhere("payment")),
        ("payment_reference", "P-1", "P-2"),
        ("gateway_payment_id", payment["gateway_payment_id"], "pi_none"),
        ("order_id", "A-1", "A-2"),
    ):
        replies = [await post(other, "/v1/refunds", {member: name, "amount": 1}) for name in (theirs, none)]
        same_answer(replies[0], theirs, replies[1], none)

    assert (await shop.see(refund))["metadata"] == {}
    assert (await shop.see(failed))["status"] == "failed"
    assert await other.count("refunds") == await other.count("orders") == 0


async def test_lists_and_the_feed_show_ones_own_only(shop: Shop, other: Shop) -> None:  # promise 9
    payment = await shop.pay(5990, reference="P-1", order={"id": "A-1"}, customer={"id": "c-1"})
    refund = await shop.refund(payment, 1250, reference="R-1")

    for query in (
        {},
        {"payment_id": payment["id"]},
        {"order_id": "A-1"},
        {"customer_id": "c-1"},
        {"reference": "R-1"},
        {"gateway_refund_id": refund["gateway_refund_id"]},
        {"gateway_account": "sandbox"},
        {"requested_by": "tester"},
    ):
        assert (await other.get("/v1/refunds", **query))["data"] == [], query
    for query in ({}, {"order_id": "A-1"}, {"gateway_payment_id": payment["gateway_payment_id"]}):
        assert (await other.get("/v1/payments", **query))["data"] == [], query
    theirs_only = (await other.get("/v1/events"))["data"]
    assert {event["resource"] for event in theirs_only} <= {"gateway_account"}
    # Names are each merchant's own: the same ones are free here.
    theirs = await other.pay(700, reference="P-1", order={"id": "A-1"}, customer={"id": "c-1"})
    assert (await other.refund(theirs, 700, reference="R-1"))["status"] == "succeeded"
    assert (await other.get("/v1/orders/A-1"))["captured"] == 700
    assert (await shop.get("/v1/orders/A-1"))["captured"] == 5990


async def test_anothers_cursor_is_as_good_as_none(shop: Shop, other: Shop) -> None:  # promise 9
    for each in (shop, other):
        for _ in range(2):
            await each.refund(await each.pay(100), 1)
    for path in ("/v1/refunds", "/v1/payments", "/v1/events"):
        cursor = (await shop.get(path, limit=1))["next_cursor"]
        assert (await shop.client.get(path, params={"cursor": cursor})).status_code == 200

        theirs = await other.client.get(path, params={"cursor": cursor})
        nonsense = await other.client.get(path, params={"cursor": "A" * len(cursor)})

        told, none = problem(theirs, 400, "cursor-invalid"), problem(nonsense, 400, "cursor-invalid")
        assert told | {"request_id": ""} == none | {"request_id": ""}


async def test_anothers_refund_cannot_be_replaced(shop: Shop, other: Shop) -> None:  # promise 9
    refund = await shop.refund(await shop.pay(5990), 1250)
    payment = await other.pay(5990)

    replies = [await other.ask(payment, 1, replaces=id_) for id_ in (refund["id"], nowhere("refund"))]

    told = [problem(reply, 422, "refund-not-replaceable") for reply in replies]
    assert [document["refund_status"] for document in told] == [None, None]
    for document in told:
        del document["request_id"], document["replaces"]
    assert told[0] == told[1]


async def test_a_test_key_sees_nothing_of_live_money_and_back(  # SEC-34
    house: House, shop: Shop, sandbox: Sandbox
) -> None:
    async with house.new_shop(sandbox, livemode=True) as live:
        assert live.key.startswith("rk_live_")
        real, play = await live.pay(5990), await shop.pay(5990)
        problem(await shop.ask(real, 1), 404, "payment-not-found")
        problem(await live.ask(play, 1), 404, "payment-not-found")
        assert (real["livemode"], play["livemode"]) == (True, False)


async def test_live_money_does_not_play(house: House, shop: Shop, sandbox: Sandbox) -> None:
    async with house.new_shop(sandbox, livemode=True) as live:
        payment = await live.pay(5990)

        problem(await live.ask(payment, 1, metadata={"sandbox": "decline"}), 422, "sandbox-only")
        assert await live.count("refunds") == await live.count("idempotency_keys") == 0
        await live.stop_sends()
        refund = (await live.ask(payment, 1, metadata={"cart": "c-1"})).json()
        patched = await live.client.patch(
            f"/v1/refunds/{refund['id']}", json={"metadata": {"sandbox": "decline"}}
        )
        problem(patched, 422, "sandbox-only")
        assert (await live.see(refund))["metadata"] == {"cart": "c-1"}

    assert (await shop.refund(await shop.pay(5990), 1, metadata={"sandbox": "decline"}))["status"] == "failed"


async def test_headers_that_anyone_can_write_say_nothing(shop: Shop, other: Shop) -> None:  # SEC-13
    mine = await shop.get("/v1/me")
    theirs = await other.get("/v1/me")
    spoofed = {
        "X-Merchant-Id": theirs["merchant_id"],
        "X-User": "root",
        "X-Forwarded-User": "root",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Original-URL": "/v1/policies",
        "X-HTTP-Method-Override": "DELETE",
        "Forwarded": "for=10.0.0.1;host=evil.example",
        "Host": "evil.example",
        "X-Api-Key": other.key,
    }
    reply = await shop.client.get("/v1/me", headers=spoofed, params={"merchant_id": theirs["merchant_id"]})
    assert reply.json() == mine

    refund = await shop.client.post(
        "/v1/refunds",
        json={"payment_id": (await shop.pay(100))["id"]},
        headers=spoofed | {"Idempotency-Key": "spoofed"},
    )
    assert refund.status_code == 201
    assert "evil" not in refund.headers["location"] + refund.text
    assert (await shop.see(refund.json()))["requested_by"] == "tester"


# -- what is too much


@pytest.mark.parametrize("size", [65 * 1024, 1_000_000])
@pytest.mark.parametrize("told", [True, False])
async def test_a_large_body_is_refused_and_the_connection_closed(  # SEC-01
    shop: Shop, size: int, told: bool
) -> None:
    content = b'{"gateway_payment_id":"pi_1","captured":1,"currency":"EUR"}'.ljust(size)
    length = (
        b"Content-Length: %d" % size
        if told
        else b"Transfer-Encoding: chunked\r\nX-Padding: " + b"-" * len(str(size))
    )
    body = content if told else b"%x\r\n%b\r\n0\r\n\r\n" % (size, content)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(shop.house.url.rsplit(":", 1)[1]))
    head = (
        b"POST /v1/payments HTTP/1.1",
        b"Host: here",
        f"Authorization: Bearer {shop.key}".encode(),
        b"Content-Type: application/json",
        length,
    )
    writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
    async with asyncio.timeout(10):
        answer = await reader.read()  # to the end: the server closes
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body-too-large"' in answer
    assert await shop.count("payments") == 0


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[" * 2_000 + b"]" * 2_000, 400),
        (b"[" * 65_000, 400),
        (b"[" * 100_000, 413),
        (b'{"metadata":' * 33 + b"1" + b"}" * 33, 400),
        (b'{"metadata":' * 32 + b"1" + b"}" * 32, 422),
    ],
)
async def test_a_deep_body_is_not_read(shop: Shop, content: bytes, status: int) -> None:  # SEC-03
    headers = {"Content-Type": "application/json", "Idempotency-Key": "deep"}
    loop = asyncio.get_running_loop()
    began = loop.time()
    reply = await shop.client.post("/v1/refunds", content=content, headers=headers)
    took = loop.time() - began

    code = {400: "body-unreadable", 413: "body-too-large", 422: "request-invalid"}[status]
    problem(reply, status, code)
    assert took < 0.5  # 50 ms where nothing else runs


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({f"k{n}": "v" for n in range(51)}, {"/metadata": "too-many"}),
        ({"k" * 41: "v"}, {f"/metadata/{'k' * 41}": "too-long"}),
        ({"k": "v" * 501}, {"/metadata/k": "too-long"}),
        ({"": "v"}, {"/metadata/": "too-short"}),
        ({"k": 1}, {"/metadata/k": "wrong-type"}),
        ({"k": None}, {"/metadata/k": "wrong-type"}),
        ({"k": {"a": "b"}}, {"/metadata/k": "wrong-type"}),
        ([], {"/metadata": "wrong-type"}),
    ],
)
async def test_metadata_has_its_measure(shop: Shop, metadata: Any, told: dict[str, str]) -> None:  # SEC-07
    await shop.stop_sends()
    payment = await shop.pay(5990)
    refund = (await shop.ask(payment, 1)).json()
    full = {f"{n:040}": "v" * 500 for n in range(50)}

    assert wrong(await shop.ask(payment, 1, metadata=metadata)) == told
    registered = {"gateway_payment_id": "pi_1", "captured": 1, "currency": "EUR", "metadata": metadata}
    assert wrong(await shop.client.post("/v1/payments", json=registered)) == told
    patched = await shop.client.patch(f"/v1/refunds/{refund['id']}", json={"metadata": metadata})
    assert wrong(patched) == told
    assert (await shop.ask(payment, 1, metadata=full)).json()["metadata"] == full


# -- what means something elsewhere


@pytest.mark.parametrize(
    "bad", ["'OR'1'='1", "1;DROP/**/TABLE/**/refunds;--", "%", "_", "\\", "$1", ":in_merchant_id", "*"]
)
async def test_what_is_sql_elsewhere_is_a_name_here(shop: Shop, bad: str) -> None:  # SEC-08
    payment = await shop.pay(5990, order={"id": "A-1"})
    refund = await shop.refund(payment, 100, reference="R-1")

    for name in ("reference", "order_id", "customer_id", "gateway_refund_id", "bank_reference", "reason"):
        assert (await shop.get("/v1/refunds", **{name: bad}))["data"] == [], name
    for name in ("requested_by", "gateway_account"):
        assert (await shop.get("/v1/refunds", **{name: bad}))["data"] == [], name
    for name in ("payment_id", "status", "limit", "created_from"):
        assert list(wrong(await shop.client.get("/v1/refunds", params={name: bad}))) in (
            [f"/{name}"],
            [f"/{name}/0"],
        )
    for path in ("refunds", "payments", "events"):
        problem(await shop.client.get(f"/v1/{path}", params={"cursor": bad}), 400, "cursor-invalid")
    for path in ("refunds", "payments", "decisions", "orders"):
        told = (await shop.client.get(f"/v1/{path}/{bad.replace('%', '%25').replace('/', '')}")).json()
        assert told["status"] == 404, told
    # As a name of the merchant's own it is as good as any other.
    name = bad.replace("\\", "/")  # an order's name stands in addresses, and no address names a backslash
    odd = await shop.pay(100, reference=bad, order={"id": name, "tags": [bad]}, metadata={bad: bad})
    assert (odd["reference"], odd["order_id"], odd["metadata"]) == (bad, name, {bad: bad})
    assert (await shop.refund(odd, 100, reference=bad))["status"] == "succeeded"
    assert len((await shop.get("/v1/refunds", order_id=name))["data"]) == 1
    assert (await shop.see(refund))["reference"] == "R-1"


@pytest.mark.parametrize("control", ["\r\n", "\n", "\r", "\u2028", "\x1b[31m", "\x85", "\x7f", "\t"])
async def test_no_text_can_end_a_line_or_a_header(shop: Shop, control: str) -> None:  # SEC-10
    payment = await shop.pay(5990, order={"id": "A-1"})
    bad = f"a{control}Set-Cookie: b"
    for member in ("reason", "channel", "ticket", "reference", "order_id"):
        body = {"payment_id": payment["id"]} if member != "order_id" else {}
        refused = await post(shop, "/v1/refunds", body | {"amount": 1, member: bad})
        assert list(wrong(refused)) == [f"/{member}"]
    for metadata in ({"k": bad}, {bad: "v"}):
        (pointer,) = wrong(await shop.ask(payment, 1, metadata=metadata))
        assert pointer.startswith("/metadata/")
    facts = await shop.client.patch("/v1/orders/A-1", json={"facts": {"door": bad}, "tags": [bad]})
    assert set(wrong(facts)) == {"/facts/door", "/tags/0"}
    if control not in ("\n", "\t"):
        assert list(wrong(await shop.ask(payment, 1, note=bad))) == ["/note"]
    assert await shop.count("refunds") == 0


async def test_a_note_may_have_lines(shop: Shop) -> None:  # SEC-10
    refund = await shop.refund(await shop.pay(5990), 1, note="He called.\n\tTwice.")

    note = await shop.house.parts.db.value(
        text("SELECT text FROM notes WHERE subject_id = :in_id"), id=ids.read("refund", refund["id"])
    )
    assert note == "He called.\n\tTwice."


# -- card numbers


def nested(path: str, value: Any) -> dict[str, Any]:
    """``a/0/b`` as JSON; a step ``*`` makes the value a name."""
    first, _, rest = path.partition("/")
    inner = value if not rest else nested(rest, value)
    if rest == "*":
        return {first: {value: "v"}}
    if rest.startswith("0"):
        deeper = rest.partition("/")[2]
        return {first: [nested(deeper, value) if deeper else value]}
    return {first: inner}


IN_A_REFUND = (
    "note",
    "reason",
    "channel",
    "ticket",
    "reference",
    "metadata/k",
    "metadata/*",
    "gateway_account",
)
IN_A_PAYMENT = (
    "reference",
    "method",
    "entity",
    "gateway_account",
    "metadata/k",
    "metadata/*",
    "customer/id",
    "customer/email",
    "customer/name",
    "customer/locale",
    "order/id",
    "order/tags/0",
    "order/facts/k",
    "order/facts/*",
    "order/lines/0/id",
    "order/lines/0/sku",
    "order/lines/0/name",
    "order/lines/0/tags/0",
)
INLINE = ("order_id", "gateway_account", "customer/name", "order/lines/0/name", "order/facts/k")


async def refused_for_its_card(reply: httpx.Response) -> None:
    told = problem(reply, 422, "request-invalid")
    assert "card-number" in {error["code"] for error in told["errors"]}, reply.text
    assert "4111" not in reply.text


def merged(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    """Both, however deep."""
    both = dict(one)
    for name, value in two.items():
        known = both.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            both[name] = merged(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            both[name] = [merged(known[0], value[0])] if isinstance(value[0], dict) else value
        else:
            both[name] = value
    return both


WHOLE = {
    "customer": {"id": "c-1"},
    "order": {"id": "A-1", "lines": [{"unit_price": 100}]},
}


@pytest.mark.parametrize("card", [DIGITS, "4111-1111-1111-1111", "x4111111111111111y"])
async def test_no_text_holds_a_card_number(shop: Shop, card: str) -> None:  # SEC-20, INC-36
    payment = await shop.pay(5990, order={"id": "A-0"})
    before = {table: await shop.count(table) for table in ("payments", "orders", "customers", "events")}

    for path in IN_A_REFUND:
        body = {"payment_id": payment["id"], "amount": 1} | nested(path, card)
        await refused_for_its_card(await post(shop, "/v1/refunds", body))
    for way_in in ("payment_reference", "order_id"):
        await refused_for_its_card(await post(shop, "/v1/refunds", {way_in: card, "amount": 1}))
    for path in IN_A_PAYMENT:
        told = {"gateway_payment_id": "pi_1", "captured": 1, "currency": "EUR"}
        body = merged(told | (WHOLE if "/" in path else {}), nested(path, card))
        await refused_for_its_card(await shop.client.post("/v1/payments", json=body))
    for path in INLINE:
        told = {"gateway_payment_id": "pi_1", "captured": 1, "currency": "EUR"}
        inline = merged(told | (WHOLE if "/" in path else {}), nested(path, card))
        await refused_for_its_card(await post(shop, "/v1/refunds", {"payment": inline}))
    for change in ({"facts": {"k": card}}, {"facts": {card: 1}}, {"tags": [card]}):
        await refused_for_its_card(await shop.client.patch("/v1/orders/A-0", json=change))
    for query in ("reference", "order_id", "customer_id", "reason", "requested_by"):
        await refused_for_its_card(await shop.client.get("/v1/refunds", params={query: card}))
    await refused_for_its_card(await shop.client.put("/v1/reasons/odd", json={"title": card}))
    coded = await shop.client.put("/v1/reasons/a4111111111111111", json={"title": "odd"})
    assert (coded.status_code, "4111" in coded.json()["detail"]) == (404, False)
    rules = await shop.client.post("/v1/policies", json={"rules": {"reasons": [card]}})
    assert rules.status_code == 422
    assert "4111" not in rules.text

    assert {table: await shop.count(table) for table in before} == before
    for table in ("refunds", "notes", "reasons", "policies", "idempotency_keys"):
        assert await shop.count(table) == 0, table


async def test_a_card_number_is_no_number_either(shop: Shop) -> None:  # SEC-20
    await shop.pay(5990, order={"id": "A-0"})

    refused = await shop.client.patch("/v1/orders/A-0", json={"facts": {"k": int(DIGITS)}})

    assert wrong(refused) == {"/facts/k": "too-large"}


async def test_what_only_looks_a_little_like_a_card_is_taken(shop: Shop) -> None:  # SEC-20
    # One digit off; an IMEI; a bar code; a phone number; a date and a price.
    for harmless in (
        "4111111111111112",
        "490154203237518",
        "4006381333931",
        "+49 30 1234567 89",
        "2026-03-01 12.50",
    ):
        refund = await shop.refund(await shop.pay(10), 1, ticket=harmless)
        assert refund["ticket"] == harmless


# -- what else the edge refuses


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json, text/plain",
        "application/problem+json",
    ],
)
async def test_only_json_is_taken(shop: Shop, kind: str) -> None:  # SEC-28
    headers = {"Content-Type": kind} if kind else {}
    content = b'{"gateway_payment_id":"pi_1","captured":1,"currency":"EUR"}'
    reply = await shop.client.post("/v1/payments", content=content, headers=headers)
    problem(reply, 415, "media-type-unsupported")
    for path in ("/v1/refunds", "/v1/policies"):
        problem(await shop.client.post(path, content=content, headers=headers), 415, "media-type-unsupported")
    assert await shop.count("payments") == 0


async def test_a_method_cannot_be_overridden(shop: Shop) -> None:  # SEC-28
    refund = await shop.refund(await shop.pay(100), 1)
    reply = await shop.client.get(
        f"/v1/refunds/{refund['id']}",
        params={"_method": "PATCH"},
        headers={"X-HTTP-Method-Override": "PATCH", "X-Method-Override": "PATCH"},
    )
    assert reply.json()["id"] == refund["id"]
    body = {"gateway_payment_id": "pi_1", "captured": 1, "currency": "EUR", "_method": "GET"}
    assert wrong(await shop.client.post("/v1/payments", json=body)) == {"/_method": "unknown-member"}


async def test_a_method_that_is_not_taken_names_those_that_are(shop: Shop) -> None:  # SEC-29
    for path, told in (await operations(shop.client)).items():
        taken = {method.upper() for method in told} & {"GET", "POST", "PUT", "PATCH", "DELETE"}
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - taken:
            reply = await shop.client.request(method, filled(path))
            assert (reply.status_code, reply.headers["allow"]) == (405, ", ".join(sorted(taken))), path
            if method != "HEAD":
                assert problem(reply, 405, "method-not-allowed")["allowed"] == sorted(taken)


@pytest.mark.parametrize(
    "path",
    [
        "/v1%2frefunds",
        "/v1/refunds%2F",
        "/v1/..;/v1/refunds",
        "/v1%252frefunds",
        "/v1/refunds.",
        "/v1/refunds;a=b",
        "/V1/refunds",
        "/v1/REFUNDS",
        "/v1/refunds/",
        "//v1/refunds",
        "/v1//refunds",
        "/v1/./refunds",
        "/v1/me/../refunds",
        "/v1/refunds%00",
        "/v1/%2e%2e/v1/refunds",
        "/v1%5crefunds",
        "/v1/refunds%20",
        "/v1/refunds/{id}%2fcancel",
        "/v1/refunds/{id}/cancel/",
        "/v1/refunds/{id};/events",
        "/v1/refunds/{ID}",
        "/v1/refunds/{id}%0d%0aX:1",
        "/v2/refunds",
    ],
)
async def test_a_path_has_one_spelling(shop: Shop, path: str) -> None:  # SEC-32
    id_ = nowhere("refund")
    asked = path.replace("{id}", id_).replace("{ID}", id_.upper())
    key = f"Authorization: Bearer {shop.key}".encode()
    for headers in ([key], []):
        status, head, told = await speak(shop.house.url, f"GET {asked}", *headers)
        # Without a key a route that is there asks for one; no other spelling is a way around it.
        assert status == 404 or (not headers and status == 401), told
        assert b"location" not in head
        assert b"\r\nx:" not in head


# -- the log


async def test_no_request_breaks_a_line_of_the_log_or_leaves_a_secret_in_it(  # IDM-36, SEC-10, SEC-20
    shop: Shop, start_process: Callable[..., Process]
) -> None:
    process = start_process(
        "serve",
        "--no-worker",
        environment={
            "REFUND_DATABASE_URL": shop.house.parts.settings.database_url.get_secret_value(),
            "REFUND_PORT": "0",
            "REFUND_OPS_PORT": "-1",
        },
    )
    url = process.until_event("started")["api"]
    payment = await shop.pay(5990)
    key = f"Authorization: Bearer {shop.key}".encode()
    body = {"payment_id": payment["id"], "amount": 1}
    sent = [
        (b"Idempotency-Key: a\nb", body),
        (b"Idempotency-Key: a\x1b[31m", body),
        (f"Idempotency-Key: {DIGITS}x".encode(), body | {"note": f"his card is {CARD}"}),
        (b"Idempotency-Key: ok-1", body | {"reason": "a\r\nb"}),
        (b"Idempotency-Key: ok-2", body | {"metadata": {f"{DIGITS}\n": "v"}}),
        (b"Idempotency-Key: ok-3\r\nX-Request-Id: %b" % DIGITS.encode(), body),
        (b"Idempotency-Key: ok-4\r\nX-Request-Id: a\tb", body),
        (b"Idempotency-Key: ok-5\r\nRefund-Actor: %b" % DIGITS.encode(), body),
        (b'Idempotency-Key: ok-6\r\nX-Request-Id: {"event":"forged"}', body),
    ]
    for header, content in sent:
        await speak(url, f"POST /v1/refunds?card={DIGITS}&key={shop.key}", key, header, body=content)
    await speak(url, f"GET /v1/refunds/{DIGITS}%0aevent", key)
    await speak(url, "GET /v1/me", f"Authorization: Bearer {shop.key}x".encode())
    process.signal(signal.SIGTERM)

    lines = process.read_to_the_end()
    told = [json.loads(line) for line in lines]
    assert told[-1]["event"] == "stopped"
    assert sum(line["event"] == "request" for line in told) >= len(sent)
    assert "forged" not in {line["event"] for line in told}
    everything = b"".join(lines).decode()
    assert everything.isascii()
    for secret in ("4111", "his card", shop.key[20:60]):
        assert secret not in everything
