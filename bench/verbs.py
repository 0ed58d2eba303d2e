"""The verbs of the API: as requests for the service, and as bare statements for pgbench."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from bench.bare import Bare, bare_of
from bench.ledger import LARGE, payment_id, short_id
from bench.processes import Running, service
from bench.shop import SECRETS, Shop, ask, environment, recorded
from refund_service import ids
from refund_service.api.pages import filters_fingerprint, sign_cursor
from refund_service.db.engine import Database
from refund_service.refunds.listing import RefundFilters, list_refunds
from refund_service.refunds.queries import get_refund
from refund_service.refunds.states import Outcome, Status

PAGE = 20
OLD_REFUND = "(2 * :n)"
"""SQL: the number of a refund of the large merchant, which has the even ones."""


@dataclass(frozen=True)
class Verb:
    """One thing that is asked of the API."""

    name: str
    status: int
    bare: Bare
    many: int
    """``:n`` of the bare statements is drawn from 1 to this."""
    requests: Callable[[int], list[str]]
    share: float = 1.0
    """Of a round's usual number of requests: what is slow is asked for less often."""


@dataclass
class Client:
    """Makes requests as the large merchant's backend, and remembers what it asked for."""

    shop: Shop
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - which rows are asked for guards nothing
    asked: list[str] = field(default_factory=list)

    def create(self, count: int, *, hot: bool = False) -> list[str]:
        """Refunds of one minor unit each, of any payment or all of the same."""
        made = [self._post(1 if hot else self.chance.randint(1, LARGE)) for _ in range(count)]
        self.asked += made
        return made

    def replay(self, count: int) -> list[str]:
        """Requests that were sent before, again."""
        return self.chance.choices(self.asked, k=count)

    def read(self, count: int) -> list[str]:
        return [self._get(f"/v1/refunds/{ids.show('refund', self.old_refund())}") for _ in range(count)]

    def page(self, count: int, filters: RefundFilters, query: Mapping[str, Any], *, deep: bool) -> list[str]:
        """A page of a list; at any depth where it is to be deep, and of any payment where it is of one."""
        bound = filters_fingerprint(list="refunds", merchant=str(self.shop.large), **filters.given())
        secret = SECRETS["REFUND_CURSOR_SECRET"].encode()
        made = []
        for _ in range(count):
            more = {"cursor": sign_cursor(secret, bound, (self.old_refund(),))} if deep else {}
            made.append(self._get(f"/v1/refunds?{urlencode({**query, **more}, doseq=True)}"))
        return made

    def old_refund(self) -> UUID:
        """Any refund of the large merchant that was there before."""
        return self.shop.history.refund_id(2 * self.chance.randint(1, self.shop.history.refunds // 2))

    def _post(self, payment: int) -> str:
        body = json.dumps({"payment_id": ids.show("payment", payment_id(payment)), "amount": 1})
        return (
            f"POST /v1/refunds HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.shop.key}\r\n"
            f"Idempotency-Key: {uuid4().hex}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def _get(self, path: str) -> str:
        return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.shop.key}\r\n\r\n"


@contextmanager
def api(shop: Shop) -> Iterator[tuple[Running, str]]:
    """A process that serves the API, and where."""
    with Running(service("serve", "--no-worker"), environment(shop.url)) as process:
        _, told = process.until(event="started")
        yield process, told["api"]


def create(client: Client, *, hot: bool = False) -> Verb:
    shop, one = client.shop, payment_id(1)
    order = shop.sql.value("SELECT order_id FROM payments WHERE id = $1", one)
    once, again = (shop.sql.wait(recorded(shop.url, lambda db: ask(db, shop.large, one))) for _ in range(2))
    chosen = {} if hot else {one: short_id(":n"), order: short_id(":n", 1)}
    name = "create, one hot payment" if hot else "create"
    bare = bare_of(once, again, chosen=chosen)
    share = 0.7 if hot else 1.0
    return Verb(name, 201, bare, LARGE, lambda count: client.create(count, hot=hot), share)


def replay(client: Client) -> Verb:
    shop = client.shop
    of = payment_id(2)  # refund 2 is of payment 2, as ``History.payment`` has it

    async def verb(db: Database) -> None:
        again = await ask(db, shop.large, of, key="one-2")
        if not again.replayed:
            raise RuntimeError("the key was not known")
        await get_refund(db, shop.large, again.refund_id)

    once, again = (shop.sql.wait(recorded(shop.url, verb)) for _ in range(2))
    chosen = {
        of: short_id(shop.history.payment(OLD_REFUND)),
        "one-2": f"'one-' || {OLD_REFUND}",
        shop.history.refund_id(2): shop.history.id(0, OLD_REFUND),
    }
    return Verb("replay", 201, bare_of(once, again, chosen=chosen), shop.history.refunds // 2, client.replay)


def read(client: Client) -> Verb:
    shop, one = client.shop, client.shop.history.refund_id(2)
    once = shop.sql.wait(recorded(shop.url, lambda db: get_refund(db, shop.large, one)))
    bare = bare_of(once, once, chosen={one: shop.history.id(0, OLD_REFUND)})
    return Verb("read", 200, bare, shop.history.refunds // 2, client.read, 2.0)


def page(client: Client, name: str, *, deep: bool = False, **query: Any) -> Verb:
    """A list narrowed by ``query``, as the API takes it."""
    shop = client.shop
    filters = RefundFilters(**{key: _value(key, value) for key, value in query.items()})
    before = shop.history.refund_id(2) if deep else None
    once = shop.sql.wait(
        recorded(shop.url, lambda db: list_refunds(db, shop.large, filters, before=before, limit=PAGE + 1))
    )
    bare = bare_of(once, once, chosen={before: shop.history.id(0, OLD_REFUND)} if before else {})
    return Verb(
        name,
        200,
        bare,
        shop.history.refunds // 2,
        lambda count: client.page(count, filters, query, deep=deep),
        0.25,
    )


def _value(name: str, value: Any) -> Any:
    """A query's value as the verb takes it."""
    match name:
        case "status":
            return [Status(one) for one in value]
        case "outcome":
            return Outcome(value)
        case "payment_id":
            return ids.read("payment", value)
        case "created_from" | "created_to" | "updated_from" | "updated_to":
            return datetime.fromisoformat(value)
        case "attention":
            return value == "true"
        case _:
            return value


def every_page(client: Client) -> list[Verb]:
    """The first page, a page at any depth, and each kind of filter."""
    shop = client.shop
    middle = shop.history.refunds // 4 * 2
    number = int(shop.sql.value(f"SELECT {shop.history.payment(str(middle))}"))
    from_, to = (shop.sql.value(f"SELECT {shop.history.moment(str(at))}") for at in (middle, middle + 400))
    span = {"from": from_.isoformat(), "to": to.isoformat()}
    return [
        page(client, "first page"),
        page(client, "a page at any depth", deep=True),
        page(client, "status", status=["failed"]),
        page(client, "two statuses", status=["failed", "unknown"]),
        page(client, "two statuses, at any depth", status=["failed", "unknown"], deep=True),
        page(client, "outcome", outcome="failed"),
        page(client, "outcome of few, at any depth", outcome="open", deep=True),
        page(client, "payment", payment_id=ids.show("payment", payment_id(number))),
        page(client, "order", order_id=f"A-{number}"),
        page(client, "reason", reason="damaged"),
        page(client, "requested by", requested_by="agent-8"),
        page(client, "gateway account", gateway_account="sandbox"),
        page(client, "amount", amount=_an_amount(shop, middle)),
        page(client, "created between", created_from=span["from"], created_to=span["to"]),
        page(client, "updated between", updated_from=span["from"], updated_to=span["to"]),
        page(
            client, "status, created between",
            status=["succeeded"], created_from=span["from"], created_to=span["to"],
        ),
        page(client, "attention", attention="true"),
    ]  # fmt: skip


def _an_amount(shop: Shop, number: int) -> int:
    return int(shop.sql.value("SELECT amount FROM refunds WHERE id = $1", shop.history.refund_id(number)))
