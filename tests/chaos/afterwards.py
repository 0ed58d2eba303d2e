"""What must hold when all has come to its end: the service's word against the gateway's record."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx

from chaos.checker import Checker
from chaos.clients import Feed
from chaos.deployment import Deployment
from chaos.quiet import waits_rightly
from refund_service.reports.verify import verify_promises

ENDS: Final = {"succeeded", "failed", "canceled", "reversed"}
UNSURE: Final = {"queued", "processing", "requires_action", "unknown"}


async def compare(deployment: Deployment, http: httpx.AsyncClient, checker: Checker, feed: Feed) -> int:
    """Tell the checker all that does not agree; returns how many doubts were cleared up."""
    refunds = {told["id"]: told async for told in read_all(http, "/v1/refunds?limit=100")}
    events = [told async for told in read_all(http, "/v1/events?limit=100")]

    compare_with_truth(refunds, checker)
    compare_acknowledged(refunds, checker)
    compare_events(refunds, events, feed, checker)
    checker.promises(await verify_promises(deployment.house.parts.db))

    doubted = {told["data"]["refund_id"] for told in events if told["type"] == "refund.unknown"}
    return sum(refunds[id_]["status"] in ENDS for id_ in doubted)


async def read_all(http: httpx.AsyncClient, path: str) -> AsyncIterator[dict[str, Any]]:
    """Every entry of a list, page after page."""
    cursor = None
    while True:
        reply = await http.get(f"{path}&cursor={cursor}" if cursor else path)
        reply.raise_for_status()
        page = reply.json()
        for told in page["data"]:
            yield told
        # The feed goes on for ever; an empty page is its end for now.
        if (cursor := page["next_cursor"]) is None or not page["data"]:
            return


def compare_with_truth(refunds: dict[str, dict[str, Any]], checker: Checker) -> None:
    """Executed is what succeeded, and nothing else; a doubt that a person must clear may be either."""
    by_payment = defaultdict(list)
    for told in refunds.values():
        by_payment[told["payment"]["gateway_payment_id"]].append(told)
    for payment, told in by_payment.items():
        _compare_payment(payment, told, checker)
    for payment, executions in checker.truth.by_payment.items():
        if executions and payment not in by_payment:
            checker.wrong(f"{payment}: executed without a refund: {executions}")
    for told in refunds.values():
        if told["status"] in UNSURE and not waits_rightly(told["gateway_account"], told["attention"]):
            checker.wrong(f"{told['id']} is still {told['status']}, attention {told['attention']}")


def _compare_payment(payment: str, told: list[dict[str, Any]], checker: Checker) -> None:
    now = time.time()
    shown = told[0]["payment"]
    # As bags of amounts: what succeeded was paid, and what was paid succeeded or is in doubt.
    paid = Counter(one.amount for one in checker.truth.by_payment[payment] if one.moved(now))
    succeeded = Counter(one["amount"] for one in told if one["status"] == "succeeded")
    unsure = Counter(one["amount"] for one in told if one["status"] in UNSURE)
    if never_paid := succeeded - paid:
        checker.wrong(f"{payment}: succeeded, and never paid: {dict(never_paid)}")
    if not_succeeded := paid - succeeded - unsure:
        checker.wrong(f"{payment}: paid, and not succeeded: {dict(not_succeeded)}: {told}")
    if _sum(paid) > shown["captured"]:
        checker.wrong(f"{payment}: {_sum(paid)} paid of {shown['captured']}")
    if (shown["held"], shown["refunded"]) != (_sum(unsure), _sum(succeeded)):
        checker.wrong(f"{payment}: shows {shown}, for {_sum(unsure)} under way and {_sum(succeeded)} done")


def _sum(amounts: Counter[int]) -> int:
    return sum(amount * times for amount, times in amounts.items())


def compare_acknowledged(refunds: dict[str, dict[str, Any]], checker: Checker) -> None:
    """What was acknowledged is there; what was canceled stayed so."""
    for key, id_ in checker.ids.items():
        if id_ not in refunds:
            checker.wrong(f"{key}: {id_} was acknowledged and is not there")
        elif checker.refunds[id_].canceled and refunds[id_]["status"] != "canceled":
            checker.wrong(f"{id_}: its cancel was acknowledged, and it is {refunds[id_]['status']}")
    solo = Counter(
        told["payment"]["gateway_payment_id"]
        for told in refunds.values()
        if told["payment"]["gateway_payment_id"].startswith("solo")
    )
    for payment, count in solo.items():
        if count > 1:
            checker.wrong(f"{payment}: one intent made {count} refunds")


def compare_events(
    refunds: dict[str, dict[str, Any]], events: list[dict[str, Any]], feed: Feed, checker: Checker
) -> None:
    """The feed tells everything once, to who followed it too, and ends where the refunds stand."""
    seen = [told["id"] for told in feed.seen]
    if seen != [told["id"] for told in events[: len(seen)]]:
        checker.wrong("who followed the feed saw other events than stand in it, or in another order")
    of_refund = defaultdict(list)
    for told in events:
        if told["resource"] == "refund":
            of_refund[told["data"]["refund_id"]].append(told)
    for id_, told in of_refund.items():
        for problem in _wrong_with(told, refunds[id_]["status"]):
            checker.wrong(f"{id_}: {problem}")
    for id_ in refunds.keys() - of_refund.keys():
        checker.wrong(f"{id_}: no event tells of it")


def _wrong_with(told: list[dict[str, Any]], status: str) -> Iterator[str]:
    numbers = [one["sequence"] for one in told]
    if numbers != list(range(1, len(told) + 1)):
        yield f"its events are numbered {numbers}"
    if told[-1]["data"]["status"] != status:
        yield f"its events end at {told[-1]['data']['status']}, it is {status}"
    times = Counter(one["type"].removeprefix("refund.") for one in told)
    for end in ("succeeded", "canceled", "reversed"):
        if times[end] > 1:
            yield f"it has {end} {times[end]} times"
    if times["failed"] > times["queued"] + 1:  # each retry queues it anew
        yield f"it has failed {times['failed']} times and was queued {times['queued'] + 1} times"
