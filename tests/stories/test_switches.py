"""What stays queued: stopped by a switch, a paused account, a gateway that is not there, or its own time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from clockwork import NOTHING_THERE, Asked, Clock, PlayedGateway, Reply
from house import Shop

from refund_service import ids
from refund_service.clock import rfc3339, utc_now
from refund_service.gateways.accounts import accounts_of, move_account, resume_account
from refund_service.gateways.switches import resume_sends, stop_sends

UNAUTHORIZED: Reply = (401, {"error": {"code": "unauthorized", "message": "Who are you?"}})


def scope_of(shop: Shop, scope: str) -> UUID:
    return {"all": ids.NIL, "merchant": shop.merchant_id, "account": shop.account_id}[scope]


def asked_of(shop: Shop) -> int:
    """How many requests of any kind reached the sandbox."""
    requests: int = shop.sandbox.record(account=shop.remote)["counts"]["requests"]
    return requests


def closed_port() -> str:
    """An address that refuses connections."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


# --- stop switches ---------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "merchant", "account"])
async def test_what_a_switch_stops_stays_queued_until_it_goes_on(
    clock: Clock, till: Shop, scope: str
) -> None:
    db = clock.house.parts.db
    await stop_sends(db, scope_of(till, scope), "an incident", stopped_by="operator")
    try:
        refund = (await till.ask(await till.pay(), 1250)).json()
        await clock.work()
        await clock.turn(seconds=30)

        seen = await till.see(refund)
        assert (seen["status"], seen["payment"]["held"]) == ("queued", 1250)
        assert asked_of(till) == 0
    finally:
        assert await resume_sends(db, scope_of(till, scope))
    await clock.turn(seconds=5)

    assert (await till.see(refund))["status"] == "succeeded"
    assert len(till.executions()) == 1


@pytest.mark.parametrize("scope", ["merchant", "account"])
async def test_a_switch_stops_no_one_else(
    clock: Clock, till: Shop, new_till: Callable[..., Any], scope: str
) -> None:
    other = await new_till()
    await stop_sends(clock.house.parts.db, scope_of(till, scope), "theirs alone", stopped_by="operator")

    refund = await other.refund(await other.pay(), 1250)

    assert refund["status"] == "succeeded"
    assert await resume_sends(clock.house.parts.db, scope_of(till, scope))
    assert not await resume_sends(clock.house.parts.db, scope_of(till, scope))


async def test_what_is_stopped_may_be_canceled_and_is_never_sent(clock: Clock, till: Shop) -> None:
    await till.stop_sends()
    payment = await till.pay()
    refund = (await till.ask(payment, 1250)).json()
    await clock.work()

    reply = await till.client.post(refund["links"]["cancel"])

    assert (reply.status_code, reply.json()["status"], reply.json()["outcome"]) == (
        200,
        "canceled",
        "stopped",
    )
    assert reply.json()["payment"]["available"] == 10_000
    await till.resume_sends()
    await clock.turn(minutes=5)
    assert (await till.see(refund))["status"] == "canceled"
    assert asked_of(till) == 0


async def test_a_switch_stops_sending_again_and_not_looking_up(clock: Clock, till: Shop) -> None:
    lost = await till.refund(await till.pay(), 1250, metadata={"sandbox": "lose_request"})
    found = await till.refund(await till.pay(), 900, metadata={"sandbox": "lose_answer"})
    await till.stop_sends()

    for _ in range(2):
        await clock.turn(minutes=2)
    for _ in range(3):
        await clock.turn(minutes=20)

    assert (await till.see(found))["status"] == "succeeded"
    assert (await till.see(lost))["status"] == "unknown"
    assert till.sandbox.record(account=till.remote)["counts"]["refund"] == 2
    await till.resume_sends()
    for _ in range(3):
        await clock.turn(hours=2)
    assert (await till.see(lost))["status"] == "succeeded"
    assert till.sandbox.record(account=till.remote)["counts"]["refund"] == 3


async def test_a_refund_stopped_while_it_is_unknown_is_not_asked_after_every_few_seconds(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    gateway: PlayedGateway = await played(lambda asked: None if asked.is_send else NOTHING_THERE)
    till = await new_till(gateway)
    await till.refund(await till.pay(), 1250)
    await till.stop_sends()

    for _ in range(60):
        await clock.turn(minutes=1)

    assert len(gateway.sends) == 1
    assert gateway.look_ups <= 20


# --- an account whose credentials are refused ------------------------------------------------


async def test_a_refused_credential_pauses_the_account_and_loses_no_refund(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    works = False

    def play(asked: Asked) -> Reply:
        return (201, gateway.shown(asked)) if works else UNAUTHORIZED

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    db = clock.house.parts.db

    first = (await till.ask(await till.pay(), 1250)).json()
    await clock.work()
    seen = await till.see(first)
    assert (seen["status"], seen["attention"]["code"]) == ("queued", "gateway_account_paused")
    assert seen["payment"]["held"] == 1250
    (account,) = await accounts_of(db, till.merchant_id)
    assert (account["status"], "401" in account["paused_reason"]) == ("paused", True)
    told = [
        event for event in (await till.get("/v1/events"))["data"] if event["type"] == "gateway_account.paused"
    ]
    assert [event["data"]["gateway_account_id"] for event in told] == [
        ids.show("gateway_account", till.account_id)
    ]

    second = (await till.ask(await till.pay(), 900)).json()
    for _ in range(3):
        await clock.turn(minutes=1)
    assert (await till.see(second))["status"] == "queued"
    assert len(gateway.sends) == 1, "nothing more is sent through it"

    works = True
    assert await resume_account(db, till.merchant_id, till.account_id, actor="operator", now=utc_now())
    await clock.turn(minutes=1)
    for refund in (first, second):
        seen = await till.see(refund)
        assert (seen["status"], seen["attention"]) == ("succeeded", None)
    assert gateway.sends[0].key in {asked.key for asked in gateway.sends[1:]}, (
        "the same attempt, under its key"
    )
    assert len(gateway.sends) == 3


async def test_a_paused_account_is_told_once_however_many_were_under_way(
    clock: Clock, new_till: Callable[..., Any], played: Callable[..., Any]
) -> None:
    arrived, go = asyncio.Semaphore(0), asyncio.Event()

    async def play(asked: Asked) -> Reply:
        arrived.release()
        await go.wait()
        return UNAUTHORIZED

    gateway: PlayedGateway = await played(play)
    till = await new_till(gateway)
    refunds = [(await till.ask(await till.pay(), 100)).json() for _ in range(4)]
    for _ in refunds:
        await arrived.acquire()
    go.set()
    await clock.work()

    assert [(await till.see(refund))["status"] for refund in refunds] == ["queued"] * 4
    types = [event["type"] for event in (await till.get("/v1/events"))["data"]]
    assert types.count("gateway_account.paused") == 1


# --- nothing left this machine ---------------------------------------------------------------


async def test_where_nothing_left_this_machine_it_is_queued_again_and_goes_under_the_same_key(  # FLT-13, hyperswitch#9622
    clock: Clock, till: Shop
) -> None:
    db = clock.house.parts.db
    await move_account(db, till.merchant_id, till.account_id, closed_port(), now=utc_now())
    refund = (await till.ask(await till.pay(), 1250)).json()
    await clock.work()
    await clock.turn(seconds=3)
    seen = await till.see(refund)
    assert (seen["status"], seen["outcome"], "cancel" in seen["links"]) == ("queued", "open", True)
    assert seen["payment"]["held"] == 1250
    path = f"/v1/refunds/{refund['id']}/attempts"
    (before,) = (await till.get(path))["data"]
    assert (before["state"], before["sends"]) == ("unsent", 2)
    assert {call["result"] for call in before["calls"]} == {"not_sent"}

    await move_account(db, till.merchant_id, till.account_id, till.sandbox.base_url, now=utc_now())
    await clock.turn(minutes=1)

    assert (await till.see(refund))["status"] == "succeeded"
    (after,) = (await till.get(path))["data"]
    assert (after["key"], after["generation"]) == (before["key"], 1)
    record = till.sandbox.record(account=till.remote)
    assert [asked["key"] for asked in record["requests"]] == [before["key"]]
    assert len(record["executions"]) == 1


async def test_what_never_left_may_be_canceled(clock: Clock, till: Shop) -> None:
    db = clock.house.parts.db
    await move_account(db, till.merchant_id, till.account_id, closed_port(), now=utc_now())
    refund = (await till.ask(await till.pay(), 1250)).json()
    await clock.work()

    reply = await till.client.post(refund["links"]["cancel"])

    assert (reply.status_code, reply.json()["status"]) == (200, "canceled")
    await move_account(db, till.merchant_id, till.account_id, till.sandbox.base_url, now=utc_now())
    await clock.turn(minutes=5)
    assert (await till.see(refund))["payment"]["available"] == 10_000
    assert asked_of(till) == 0


async def test_a_person_is_called_when_it_cannot_be_sent_for_too_long(clock: Clock, till: Shop) -> None:
    db = clock.house.parts.db
    await move_account(db, till.merchant_id, till.account_id, closed_port(), now=utc_now())
    refund = (await till.ask(await till.pay(), 1250)).json()
    await clock.work()
    for _ in range(8):
        clock.mend(till.account_id)
        await clock.turn(minutes=6)
    assert (await till.see(refund))["attention"] is None, "nine times is not long yet"

    clock.mend(till.account_id)
    await clock.turn(minutes=6)
    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]["code"]) == ("queued", "not_sent_for_long")
    assert seen["payment"]["held"] == 1250

    clock.mend(till.account_id)
    await move_account(db, till.merchant_id, till.account_id, till.sandbox.base_url, now=utc_now())
    await clock.turn(minutes=6)
    seen = await till.see(refund)
    assert (seen["status"], seen["attention"]) == ("succeeded", None)


async def test_a_gateway_that_is_away_is_left_alone_by_the_breaker(clock: Clock, till: Shop) -> None:
    db = clock.house.parts.db
    await move_account(db, till.merchant_id, till.account_id, closed_port(), now=utc_now())
    refunds = [(await till.ask(await till.pay(), 100)).json() for _ in range(5)]
    await clock.work()
    assert till.account_id in clock.house.desk.breaker.closed_to(0)

    late = (await till.ask(await till.pay(), 100)).json()
    await clock.turn(minutes=5)
    assert (await till.get(f"/v1/refunds/{late['id']}/attempts"))["data"] == []

    clock.mend(till.account_id)
    await move_account(db, till.merchant_id, till.account_id, till.sandbox.base_url, now=utc_now())
    await clock.turn(minutes=5)
    assert [(await till.see(refund))["status"] for refund in (*refunds, late)] == ["succeeded"] * 6
    assert len(till.executions()) == 6


async def test_what_had_been_sent_in_doubt_is_not_queued_again_by_a_send_that_never_left(
    clock: Clock, new_till: Callable[..., Any]
) -> None:
    till = await new_till(looks_up=False)
    refund = await till.refund(await till.pay(), 1250, metadata={"sandbox": "lose_answer"})
    db = clock.house.parts.db
    await move_account(db, till.merchant_id, till.account_id, closed_port(), now=utc_now())

    await clock.turn(seconds=17)

    seen = await till.see(refund)
    assert (seen["status"], "cancel" in seen["links"]) == ("unknown", False)
    await move_account(db, till.merchant_id, till.account_id, till.sandbox.base_url, now=utc_now())
    await clock.turn(minutes=6)
    assert (await till.see(refund))["status"] == "succeeded"
    assert len(till.executions()) == 1


# --- its own time ----------------------------------------------------------------------------


async def test_a_refund_is_not_sent_before_its_time(clock: Clock, till: Shop) -> None:
    at = utc_now() + timedelta(seconds=clock.ahead, days=1)
    refund = (await till.ask(await till.pay(), 1250, execute_after=rfc3339(at))).json()
    assert (refund["status"], refund["execute_after"]) == ("queued", rfc3339(at))
    await clock.turn(hours=23)
    await till.client.post(f"/v1/refunds/{refund['id']}/refresh")  # asking does not hasten it
    await clock.work()
    assert (await till.see(refund))["status"] == "queued"
    assert (await till.see(refund))["payment"]["held"] == 1250
    assert asked_of(till) == 0

    await clock.turn(hours=1)

    assert (await till.see(refund))["status"] == "succeeded"
    assert len(till.executions()) == 1


async def test_a_refund_may_be_canceled_until_its_time(clock: Clock, till: Shop) -> None:
    at = utc_now() + timedelta(seconds=clock.ahead, days=1)
    refund = (await till.ask(await till.pay(), 1250, execute_after=rfc3339(at))).json()

    reply = await till.client.post(refund["links"]["cancel"])

    assert reply.json()["status"] == "canceled"
    await clock.turn(days=2)
    assert (await till.see(refund))["payment"]["available"] == 10_000
    assert asked_of(till) == 0
