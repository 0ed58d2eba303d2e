"""Clients that leave at any moment, and more of them than a small process can hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from crowd import assert_promises_kept
from house import House, Shop
from nursery import Child
from sqlalchemy import text

WORKING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    " AND pid <> pg_backend_pid() AND state <> 'idle'"
)
KEYS = text("SELECT idempotency_key FROM refunds WHERE merchant_id = :in_merchant_id")


def as_bytes(shop: Shop, payment: dict[str, Any], key: str) -> bytes:
    """Asking for a refund of one cent."""
    body = json.dumps({"payment_id": payment["id"], "amount": 1}).encode()
    head = [
        "POST /v1/refunds HTTP/1.1",
        "Host: here",
        f"Authorization: Bearer {shop.key}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def leave_early(shop: Shop, request: bytes, after: float) -> None:
    url = urlsplit(shop.house.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(after)
    writer.transport.abort()


async def test_five_hundred_clients_who_leave_at_a_random_moment_leave_nothing_open(  # FLT-24, INC-25
    own_house: House, own_shop: Shop
) -> None:
    rng, payment = Random(24), await own_shop.pay(10**9)  # noqa: S311 - a seed repeats it
    keys = [uuid4().hex for _ in range(500)]
    for at in range(0, len(keys), 25):
        requests = [as_bytes(own_shop, payment, key) for key in keys[at : at + 25]]
        # Some leave in the middle of what they ask, most while they are being answered.
        parts = [request[: rng.choice([len(request), len(request), -5])] for request in requests]
        await asyncio.gather(*(leave_early(own_shop, part, rng.random() * 0.04) for part in parts))

    db = own_house.parts.db
    async with asyncio.timeout(20):
        # Those who wait their turn at the payment hold no connection: they are still to come.
        while db._turns or db._engine.pool.checkedout() or await db.value(WORKING):  # type: ignore[attr-defined] # a queue pool has it
            await asyncio.sleep(0.01)
    made = Counter(row["idempotency_key"] for row in await db.rows(KEYS, merchant_id=own_shop.merchant_id))
    assert 0 < len(made) < len(keys), "some were in time, some were not"
    assert set(made) <= set(keys)
    assert set(made.values()) == {1}
    assert (await own_shop.payment(payment))["held"] == len(made)
    for key in rng.sample(keys, 40):
        again = await own_shop.ask(payment, 1, key=key)
        assert (again.status_code, "idempotency-replayed" in again.headers) == (201, key in made)
    await assert_promises_kept(own_house)


async def test_a_small_process_turns_away_what_it_cannot_hold_and_goes_on(  # FLT-22
    own_house: House, own_shop: Shop, bear: Callable[..., Child]
) -> None:
    api = bear(own_house, "serve", limits={"RLIMIT_NOFILE": 64, "RLIMIT_AS": 512 * 1024 * 1024})
    url = await api.url()
    address, payment = urlsplit(url), await own_shop.pay(10**9)
    told: Counter[int] = Counter()

    async def come_and_stay(leave: asyncio.Event) -> None:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(as_bytes(own_shop, payment, uuid4().hex))
            head = await reader.readuntil(b"\r\n")
            told[int(head.split(b" ")[1])] += 1
            await leave.wait()
        except (OSError, asyncio.IncompleteReadError):
            told[0] += 1
        finally:
            if writer is not None:
                writer.transport.abort()

    leave = asyncio.Event()
    crowd = [asyncio.create_task(come_and_stay(leave)) for _ in range(500)]
    async with asyncio.timeout(30):
        while not told[201] + told[503]:
            await asyncio.sleep(0.01)
    await asyncio.wait(crowd, timeout=2)  # the others wait at the door, or were turned away
    leave.set()
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert set(told) <= {0, 201, 503}, told
    assert told[201] + told[503] < 500, "more than it can hold were let in"

    assert api.is_alive
    async with own_shop.at(url) as client, asyncio.timeout(30):
        while True:
            # A reset while the crowd drains is an answer too: the same request, sent again, cures it.
            with contextlib.suppress(httpx.TransportError):
                again = await own_shop.ask(payment, 1250, key="after-the-crowd", client=client, wait=10)
                if again.status_code == 201:
                    break
            await asyncio.sleep(0.1)
    assert await own_shop.until(again.json(), "succeeded")
