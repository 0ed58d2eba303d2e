"""Replay a year of a real shop through the refund service, as the shop's backend would.

    replay_online_retail.py FILE --api URL --key KEY [--sandbox URL]
    replay_online_retail.py FILE --start          # starts a demo of its own, which ends with it
    replay_online_retail.py FILE --dry-run        # only what is expected; nothing is sent

FILE has the columns of the UCI data set *Online Retail*. The script

1. publishes a policy without an age limit, for the orders are old;
2. registers every invoice as an order with its lines and one captured payment;
3. asks for every cancellation's refund (its invoice number starts with ``C``);
4. waits until each refund has a final outcome;
5. compares the service's books and the sandbox's record with a little book of its own, to the penny.

It knows the public HTTP API only. The first half of the file is the shop: pure functions that decide
which refund belongs to which order. The second half is the integration, and three habits make it safe:

- each request that changes something carries an ``Idempotency-Key`` made from what it is about, never
  from chance, so that a second run, or a second try, is the same request;
- silence is not a no: a lost answer, a 5xx or a 429 is asked again under the same key;
- a refusal is an answer: it is told by its ``code``, and not tried again.

Running it again on the same database refunds nothing more.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any, Final
from uuid import uuid4

import httpx

SAMPLE: Final = Path(__file__).with_name("online-retail-sample.csv")
CURRENCY: Final = "GBP"
AT_ONCE: Final = 16
PAGE: Final = 100
PATIENCE_AT_THE_END: Final = 30
TOO_MUCH: Final = "amount-exceeds-available"
COUNTRIES: Final = {"France": "FR", "Germany": "DE", "Spain": "ES", "United Kingdom": "GB"}
KINDS: Final = {
    "POST": "shipping",
    "DOT": "shipping",
    "C2": "shipping",
    "M": "fee",
    "BANK CHARGES": "fee",
    "AMAZONFEE": "fee",
    "D": "discount",
}


# ---- The shop: what was bought, and what comes back -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the file. The quantity is positive, on a cancellation too."""

    sku: str
    name: str
    quantity: int
    price: Decimal

    @property
    def kind(self) -> str:
        """What the service is told that this line is."""
        return KINDS.get(self.sku, "product")

    @property
    def total(self) -> int:
        """In pennies."""
        return pennies(self.quantity * self.price)


@dataclass(frozen=True, slots=True)
class Invoice:
    """An order or, where the goods came back, a cancellation."""

    number: str
    at: datetime
    customer: str | None
    country: str | None
    lines: tuple[Line, ...]

    @property
    def is_cancellation(self) -> bool:
        """The retailer puts a C in front."""
        return self.number.startswith("C")

    @property
    def total(self) -> int:
        """Captured, or to be given back, in pennies."""
        return sum(line.total for line in self.lines)


@dataclass(frozen=True, slots=True)
class Ask:
    """One refund: what one cancellation takes back from one order."""

    cancellation: str
    order: str
    amount: int
    is_covered: bool
    """Whether the payment still has that much: if not, the service has to refuse it."""

    @property
    def reference(self) -> str:
        """The shop's own name for this refund; the service keeps it unique for ever."""
        return f"{self.cancellation}/{self.order}"


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A part of a cancellation that no order can be named for; it is not asked."""

    cancellation: str
    line: Line
    quantity: int
    amount: int
    why: str


@dataclass(slots=True)
class Plan:
    """What will be registered and asked, and with it what has to come of it."""

    orders: list[Invoice] = field(default_factory=list)
    not_registered: list[Invoice] = field(default_factory=list)
    cancellations: list[Invoice] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)

    @property
    def covered(self) -> list[Ask]:
        """The refunds that have to succeed."""
        return [ask for ask in self.asks if ask.is_covered]

    @property
    def refused(self) -> list[Ask]:
        """The refunds that have to be refused."""
        return [ask for ask in self.asks if not ask.is_covered]

    def refunds_of(self, order: str) -> list[int]:
        """The amounts that have to come back over one order's payment, the smallest first."""
        return sorted(ask.amount for ask in self.covered if ask.order == order)


@dataclass(slots=True)
class Purchase:
    """A line of an order with what is left of it to return."""

    order: Invoice
    left: int


def pennies(pounds: Decimal) -> int:
    """Round half up, once: some prices have more than two decimals."""
    return int((pounds * 100).quantize(Decimal(1), ROUND_HALF_UP))


def read_invoices(path: Path) -> list[Invoice]:
    """The file's invoices in its own order."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        # One invoice's rows stand together.
        return [
            _invoice(number, list(rows))
            for number, rows in groupby(csv.DictReader(file), key=lambda row: row["InvoiceNo"])
        ]


def _invoice(number: str, rows: list[dict[str, str]]) -> Invoice:
    sign = -1 if number.startswith("C") else 1
    return Invoice(
        number=number,
        # The file knows no zone; the retailer's clock in winter is as good as UTC.
        at=min(_moment(row["InvoiceDate"]) for row in rows),
        customer=rows[0]["CustomerID"].strip() or None,
        country=COUNTRIES.get(rows[0]["Country"]),
        lines=tuple(
            Line(
                sku=row["StockCode"].strip(),
                name=row["Description"].strip(),
                quantity=sign * int(row["Quantity"]),
                price=Decimal(row["UnitPrice"]),
            )
            for row in rows
        ),
    )


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=UTC)


def make_plan(invoices: Iterable[Invoice]) -> Plan:
    """Walk through the year as it happened: sell, take back, and keep the book."""
    plan = Plan()
    shelf = _Shelf()
    available: dict[str, int] = {}

    for invoice in sorted(invoices, key=lambda each: each.at):
        if invoice.is_cancellation:
            plan.cancellations.append(invoice)
            _take_back(invoice, shelf, available, plan)
        elif invoice.total > 0 and all(line.quantity > 0 for line in invoice.lines):
            plan.orders.append(invoice)
            available[invoice.number] = invoice.total
            shelf.put(invoice)
        else:
            # No money came in, so that none can go back.
            plan.not_registered.append(invoice)
    return plan


def _take_back(cancellation: Invoice, shelf: _Shelf, available: dict[str, int], plan: Plan) -> None:
    """Match each line to its purchases, then ask once for each order that is touched."""
    taken: dict[str, list[tuple[Purchase, int]]] = defaultdict(list)
    amounts: Counter[str] = Counter()

    for line in cancellation.lines:
        matched = 0
        for purchase, quantity in shelf.newest_first(cancellation.customer, line):
            purchase.left -= quantity
            taken[purchase.order.number].append((purchase, quantity))
            amounts[purchase.order.number] += _part(line, matched, quantity)
            matched += quantity

        if matched < line.quantity:
            rest = line.quantity - matched
            why = _why_unmatched(cancellation, matched)
            plan.unmatched.append(Unmatched(cancellation.number, line, rest, _part(line, matched, rest), why))

    for order, amount in amounts.items():
        if amount == 0:
            continue  # Gifts come back without money.
        ask = Ask(cancellation.number, order, amount, is_covered=amount <= available[order])
        plan.asks.append(ask)
        if ask.is_covered:
            available[order] -= amount
        else:
            # What is refused has not been returned: the shop may cancel it again, rightly.
            for purchase, quantity in taken[order]:
                purchase.left += quantity


def _part(line: Line, before: int, quantity: int) -> int:
    """What some of a line's units come to, after others of it: the parts add up to the line's total.

    The price is the cancellation's own. It is what the retailer gave back, and may differ from what
    was paid.
    """
    return pennies((before + quantity) * line.price) - pennies(before * line.price)


def _why_unmatched(cancellation: Invoice, matched: int) -> str:
    if cancellation.customer is None:
        return "no customer"
    return "more than was bought" if matched else "no earlier purchase"


class _Shelf:
    """Everything sold so far, by who bought what."""

    def __init__(self) -> None:
        self._sold: dict[tuple[str, str], list[Purchase]] = defaultdict(list)

    def put(self, order: Invoice) -> None:
        if order.customer is None:
            return  # Nobody can be recognised when it comes back.
        for line in order.lines:
            self._sold[order.customer, line.sku].append(Purchase(order, line.quantity))

    def newest_first(self, customer: str | None, line: Line) -> Iterator[tuple[Purchase, int]]:
        """Purchases of this product that cover the line, each with how many units it gives."""
        wanted = line.quantity
        for purchase in reversed(self._sold.get((customer or "", line.sku), [])):
            quantity = min(wanted, purchase.left)
            if quantity > 0:
                wanted -= quantity
                yield purchase, quantity


# ---- The comparison: three books, to the penny -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Made:
    """The service took the request; this is the refund."""

    refund_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The service said no, and why."""

    code: str


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    """A payment as the service's list shows it."""

    captured: int
    held: int
    refunded: int


@dataclass(frozen=True, slots=True)
class RefundSeen:
    """A refund as the service's list shows it."""

    id: str
    amount: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Execution:
    """Money that really moved, by the sandbox gateway's own record."""

    amount: int
    currency: str


@dataclass(slots=True)
class Seen:
    """What came of the plan, as others tell it."""

    answers: dict[str, Made | Refused] = field(default_factory=dict)
    """By the refund's reference."""
    refunds: dict[str, RefundSeen] = field(default_factory=dict)
    """By reference."""
    payments: dict[str, PaymentSeen] = field(default_factory=dict)
    """By the order's number."""
    executions: dict[str, list[Execution]] | None = None
    """By the order's number; None where no sandbox was named."""

    @property
    def refunded(self) -> list[RefundSeen]:
        """What the service says was given back."""
        return [refund for refund in self.refunds.values() if refund.outcome == "succeeded"]


def disagreements(plan: Plan, seen: Seen) -> list[str]:
    """Where the service's books or the sandbox's record differ from the plan; empty when all agree."""
    return [
        *_answers_that_differ(plan, seen),
        *_refunds_that_differ(plan, seen),
        *_payments_that_differ(plan, seen),
        *_executions_that_differ(plan, seen),
    ]


def _answers_that_differ(plan: Plan, seen: Seen) -> Iterator[str]:
    for ask in plan.asks:
        match seen.answers.get(ask.reference):
            case Refused(code) if ask.is_covered:
                yield f"refund {ask.reference}: {pounds(ask.amount)} expected, refused as {code}"
            case Refused(code) if code != TOO_MUCH:
                yield f"refund {ask.reference}: to be refused as {TOO_MUCH}, refused as {code}"
            case Made(refund_id) if not ask.is_covered:
                yield f"refund {ask.reference}: to be refused as {TOO_MUCH}, made as {refund_id}"
            case None:
                yield f"refund {ask.reference}: no answer"


def _refunds_that_differ(plan: Plan, seen: Seen) -> Iterator[str]:
    for ask in plan.covered:
        answer, refund = seen.answers.get(ask.reference), seen.refunds.get(ask.reference)
        if not isinstance(answer, Made):
            continue  # Told above.
        if refund is None:
            yield f"refund {ask.reference}: answered as {answer.refund_id}, but not in the service's list"
        elif (refund.id, refund.amount, refund.outcome) != (answer.refund_id, ask.amount, "succeeded"):
            yield (
                f"refund {ask.reference}: expected {answer.refund_id}, {pounds(ask.amount)}, succeeded;"
                f" the service has {refund.id}, {pounds(refund.amount)}, {refund.outcome}"
            )


def _payments_that_differ(plan: Plan, seen: Seen) -> Iterator[str]:
    for order in plan.orders:
        payment = seen.payments.get(order.number)
        expected = PaymentSeen(order.total, held=0, refunded=sum(plan.refunds_of(order.number)))
        if payment is None:
            yield f"payment of {order.number}: not in the service's list"
        elif payment != expected:
            yield f"payment of {order.number}: expected {expected}, the service has {payment}"


def _executions_that_differ(plan: Plan, seen: Seen) -> Iterator[str]:
    if seen.executions is None:
        return
    for order in plan.orders:
        expected = [Execution(amount, CURRENCY) for amount in plan.refunds_of(order.number)]
        executed = sorted(seen.executions.get(order.number, []), key=lambda each: each.amount)
        # One by one, not by their sum: a refund sent twice shows even where another is missing.
        if executed != expected:
            yield f"payment of {order.number}: expected {expected}, the sandbox executed {executed}"


# ---- The integration: how a shop talks to the service ----------------------------------------------


class GivenUp(Exception):
    """It makes no sense to go on: nobody answers, or the beginning was refused."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said to a request that changes something."""

    status: int
    body: dict[str, Any]
    replayed: bool

    @property
    def said(self) -> Made | Refused:
        """Made, or refused with a code; anything else has been asked again before."""
        if self.status < httpx.codes.BAD_REQUEST:
            return Made(self.body["id"])
        return Refused(self.body.get("code", str(self.status)))


class Service:
    """The refund service behind its API: each request is asked until there is an answer."""

    def __init__(self, client: httpx.AsyncClient, *, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._places = asyncio.Semaphore(AT_ONCE)
        self.sent_again = 0

    async def post(self, path: str, body: dict[str, Any], *, key: str) -> Answer:
        """Ask under a key; a try that was lost and a try that arrived are one and the same."""
        response = await self._ask("POST", path, json=body, headers={"Idempotency-Key": key})
        return Answer(
            response.status_code,
            response.json(),
            replayed=response.headers.get("Idempotency-Replayed") == "true",
        )

    async def post_twice(self, path: str, body: dict[str, Any], *, key: str, at_once: bool) -> list[Answer]:
        """What a nervous backend does. Both answers have to name the same thing."""
        if at_once:
            return list(await asyncio.gather(*(self.post(path, body, key=key) for _ in range(2))))
        return [await self.post(path, body, key=key) for _ in range(2)]

    async def pages(self, path: str, **filters: str) -> AsyncIterator[dict[str, Any]]:
        """All of a list, page by page."""
        cursor: dict[str, str] = {}
        while True:
            response = await self._ask("GET", path, params={**filters, **cursor, "limit": str(PAGE)})
            page = response.raise_for_status().json()
            for each in page["data"]:
                yield each
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        deadline = monotonic() + self._patience
        pause = 0.1
        while True:
            try:
                async with self._places:
                    response = await self._client.request(method, path, **request)
                if not _is_worth_another_try(response):
                    return response
                wait, heard = _told_to_wait(response, otherwise=pause), f"{response.status_code}"
            except httpx.TransportError as silence:
                # Perhaps it arrived, perhaps not. The key makes the difference not matter.
                wait, heard = pause, repr(silence)
            if monotonic() + wait > deadline:
                raise GivenUp(f"{method} {path}: {heard}")
            await asyncio.sleep(wait)
            pause = min(2 * pause, 2.0)
            self.sent_again += 1


def _is_worth_another_try(response: httpx.Response) -> bool:
    match response.status_code:
        case 409:
            # Our twin is still being answered. Every other conflict is for a person to read.
            return bool(response.json().get("code") == "idempotency-key-in-use")
        case 429:
            return True
        case status:
            return status >= httpx.codes.INTERNAL_SERVER_ERROR


def _told_to_wait(response: httpx.Response, *, otherwise: float) -> float:
    told = response.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() else otherwise


async def publish_policy(service: Service) -> None:
    """The built-in policy allows 365 days; these orders are of 2010 and 2011."""
    rules = {"max_age_days": None, "max_amount": None, "reasons": None}
    # Each run means it anew, should another policy have been published since: a key of its own.
    answer = await service.post("/v1/policies", {"rules": rules}, key=f"retail-policy-{uuid4()}")
    if isinstance(answer.said, Refused):
        raise GivenUp(f"the policy was refused: {answer.body}")


def gateway_payment_of(order: str) -> str:
    """The gateway's name for the capture of an invoice."""
    return f"retail-{order}"


def payment_body(order: Invoice) -> dict[str, Any]:
    """One captured payment with the order that it paid."""
    body: dict[str, Any] = {
        "gateway_payment_id": gateway_payment_of(order.number),
        "captured": order.total,
        "currency": CURRENCY,
        "captured_at": order.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reference": order.number,
        "order": {"id": order.number, "lines": [_line_body(line) for line in order.lines]},
    }
    if order.customer is not None:
        body["customer"] = {"id": order.customer}
    if order.country is not None:
        body["order"]["country"] = order.country
    return body


def _line_body(line: Line) -> dict[str, Any]:
    return {
        "sku": line.sku,
        "name": line.name,
        "quantity": line.quantity,
        "unit_price": pennies(line.price),
        "total": line.total,  # Told, as the unit's price may have been rounded.
        "kind": line.kind,
    }


def refund_body(ask: Ask) -> dict[str, Any]:
    """One refund of an amount of an order."""
    return {
        "order_id": ask.order,
        "amount": ask.amount,
        "reason": "customer_request",
        "reference": ask.reference,
    }


async def register_orders(service: Service, orders: list[Invoice]) -> list[str]:
    """Tell the service what was bought and paid; returns what went wrong."""

    async def register(position: int, order: Invoice) -> str | None:
        first, second = await service.post_twice(
            "/v1/payments",
            payment_body(order),
            key=f"retail-payment-{order.number}",
            at_once=position % 2 == 0,
        )
        if isinstance(first.said, Refused):
            return f"payment of {order.number}: refused as {first.said.code}: {first.body.get('detail')}"
        if first.said != second.said:
            return f"payment of {order.number}: {first.said} and {second.said} under one key"
        return None

    outcomes = await asyncio.gather(*(register(*each) for each in enumerate(orders)))
    return [wrong for wrong in outcomes if wrong]


@dataclass(slots=True)
class Asked:
    """The answers to all refunds, and what is odd about them."""

    answers: dict[str, Made | Refused] = field(default_factory=dict)
    known_before: int = 0
    oddities: list[str] = field(default_factory=list)


async def ask_refunds(service: Service, asks: list[Ask]) -> Asked:
    """Ask for all refunds, many at once."""
    asked = Asked()
    by_order: dict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        by_order[ask.order].append(ask)

    async def ask_in_turn(position: int, of_one_payment: list[Ask]) -> None:
        # Each waits for the one before it: which of two claims on one payment is too much depends on
        # which comes first, and our book has them in the file's order.
        for turn, ask in enumerate(of_one_payment, start=position):
            first, second = await service.post_twice(
                "/v1/refunds",
                refund_body(ask),
                key=f"retail-refund-{ask.cancellation}-{ask.order}",
                at_once=turn % 2 == 0,
            )
            asked.answers[ask.reference] = first.said
            asked.known_before += first.replayed and second.replayed
            if first.said != second.said:
                asked.oddities.append(f"refund {ask.reference}: {first.said} and {second.said} under one key")

    await asyncio.gather(*(ask_in_turn(*each) for each in enumerate(by_order.values())))
    return asked


async def wait_for_outcomes(service: Service, answers: Iterable[Made | Refused], *, patience: float) -> None:
    """Until none of our refunds is open, or our patience ends: the comparison then shows which."""
    ours = {answer.refund_id for answer in answers if isinstance(answer, Made)}
    deadline = monotonic() + patience
    while monotonic() < deadline:
        still_open = {refund["id"] async for refund in service.pages("/v1/refunds", outcome="open")}
        if not ours & still_open:
            return
        await asyncio.sleep(0.25)


async def read_service(service: Service, plan: Plan, seen: Seen) -> None:
    """The service's own books, without what others have in them."""
    references = {ask.reference for ask in plan.asks}
    async for refund in service.pages("/v1/refunds"):
        if refund["reference"] in references:
            seen.refunds[refund["reference"]] = RefundSeen(refund["id"], refund["amount"], refund["outcome"])

    numbers = {order.number for order in plan.orders}
    async for payment in service.pages("/v1/payments"):
        if payment["reference"] in numbers:
            seen.payments[payment["reference"]] = PaymentSeen(
                payment["captured"], payment["held"], payment["refunded"]
            )


async def read_sandbox(sandbox: httpx.AsyncClient, plan: Plan) -> dict[str, list[Execution]]:
    """What the gateway did, by its own record: the truth that the service's books are held against."""
    response = await sandbox.get("/v1/record")
    order_of = {gateway_payment_of(order.number): order.number for order in plan.orders}
    executions: dict[str, list[Execution]] = defaultdict(list)
    for each in response.raise_for_status().json()["executions"]:
        if each["payment"] in order_of:
            executions[order_of[each["payment"]]].append(Execution(each["amount"], each["currency"]))
    return executions


# ---- The replay ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service is, and what opens it."""

    api: str
    key: str
    sandbox: str | None


@dataclass(slots=True)
class Replay:
    """All that one run has to tell."""

    seen: Seen
    wrong: list[str]
    known_before: int
    sent_again: int
    seconds: float


async def replay(
    plan: Plan, service: Service, *, sandbox: httpx.AsyncClient | None, patience: float
) -> Replay:
    """The whole story, in the order in which it happens."""
    started = monotonic()

    await publish_policy(service)
    not_registered = await register_orders(service, plan.orders)
    asked = await ask_refunds(service, plan.asks)
    await wait_for_outcomes(service, asked.answers.values(), patience=patience)
    seconds = monotonic() - started

    seen = Seen(answers=asked.answers)
    await read_service(service, plan, seen)
    if sandbox is not None:
        seen.executions = await read_sandbox(sandbox, plan)

    wrong = [*not_registered, *asked.oddities, *disagreements(plan, seen)]
    return Replay(seen, wrong, asked.known_before, service.sent_again, seconds)


@asynccontextmanager
async def demo(data_dir: Path) -> AsyncIterator[Address]:
    """A service of our own, with a sandbox gateway and its database in ``data_dir``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "refund_service", "demo", "--port", "0", "--quiet"),
        *("--data-dir", str(data_dir)),
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    assert process.stdout is not None  # noqa: S101 - as above
    try:
        line = await process.stdout.readline()
        if not line:
            raise GivenUp("the demo did not start; it says why above")
        told = json.loads(line)
        yield Address(told["api"], told["key"], told["sandbox"])
    finally:
        # It ends when nobody holds the other end of its input, so even when we are killed.
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_AT_THE_END):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


# ---- The table -------------------------------------------------------------------------------------


def pounds(amount: int) -> str:
    """Pennies as people read them."""
    return f"{Decimal(amount) / 100:,.2f}"


def row(name: str, count: int, amount: int | None = None) -> str:
    """One line of the table."""
    return f"{name:<42}{count:>8,}{'' if amount is None else pounds(amount):>16}"


def plan_table(plan: Plan) -> list[str]:
    """What is going to be done, and expected of it."""
    return [
        f"{'expected':<42}{'count':>8}{CURRENCY:>16}",
        row("orders, captured", len(plan.orders), sum(order.total for order in plan.orders)),
        row("invoices not registered (nothing paid)", len(plan.not_registered)),
        row("cancellations", len(plan.cancellations), sum(each.total for each in plan.cancellations)),
        row("asked", len(plan.asks), sum(ask.amount for ask in plan.asks)),
        row("  to be refunded", len(plan.covered), sum(ask.amount for ask in plan.covered)),
        row("  to be refused", len(plan.refused), sum(ask.amount for ask in plan.refused)),
        row("unmatched lines, not asked", len(plan.unmatched), sum(each.amount for each in plan.unmatched)),
        *unmatched_list(plan),
        *(f"    {order.number:<9} nothing paid, not registered" for order in plan.not_registered),
    ]


def unmatched_list(plan: Plan) -> list[str]:
    """What nobody can be asked for, and why."""
    return [
        f"    {each.cancellation:<9}{each.line.sku:<9}{each.quantity:>5} x {each.line.name[:30]:<31}"
        f"{pounds(each.amount):>10}  {each.why}"
        for each in plan.unmatched
    ]


def result_table(plan: Plan, run: Replay) -> list[str]:
    """What came of it, as the service and the sandbox tell it."""
    seen = run.seen
    amounts = {ask.reference: ask.amount for ask in plan.asks}
    refused = [(ref, answer.code) for ref, answer in seen.answers.items() if isinstance(answer, Refused)]
    table = [
        f"{'what came of it':<42}{'count':>8}{CURRENCY:>16}",
        row("orders, captured", len(seen.payments), sum(each.captured for each in seen.payments.values())),
        row("asked", len(seen.answers), sum(amounts[ref] for ref in seen.answers)),
        row("  refunded, by the service's refunds", len(seen.refunded), sum(e.amount for e in seen.refunded)),
        row(
            "  refunded, by the service's payments",
            sum(each.refunded > 0 for each in seen.payments.values()),
            sum(each.refunded for each in seen.payments.values()),
        ),
    ]
    if seen.executions is not None:
        executions = [each for of_one in seen.executions.values() for each in of_one]
        table.append(
            row("  refunded, by the sandbox's record", len(executions), sum(e.amount for e in executions))
        )
    table.append(row("  refused", len(refused), sum(amounts[ref] for ref, _ in refused)))
    for code in sorted({code for _, code in refused}):
        of_code = [amounts[ref] for ref, its in refused if its == code]
        table.append(row(f"    {code}", len(of_code), sum(of_code)))
    return [
        *table,
        row("unmatched lines, not asked", len(plan.unmatched), sum(each.amount for each in plan.unmatched)),
        row("refunds known from an earlier run", run.known_before),
        row("requests sent again", run.sent_again),
        f"{'time taken':<42}{run.seconds:>8.1f} s",
    ]


def verdict(run: Replay) -> list[str]:
    """Whether the books agree; where they do not, what differs."""
    if run.wrong:
        return [f"The books DIFFER in {len(run.wrong)} places:", *(f"  {each}" for each in run.wrong)]
    books = (
        "the service and our own book"
        if run.seen.executions is None
        else "the service, the sandbox and our book"
    )
    return [f"The books agree to the penny: {books}."]


def say(lines: Iterable[str]) -> None:
    """Print, at once."""
    print(*lines, "", sep="\n", flush=True)


# ---- The command -----------------------------------------------------------------------------------


def read_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """What we were called with."""
    parser = argparse.ArgumentParser(description="Replay a shop's orders and cancellations through the API.")
    parser.add_argument(
        "file", nargs="?", type=Path, default=SAMPLE, help="default: the sample beside this script"
    )
    parser.add_argument("--api", help="the service's address")
    parser.add_argument("--key", help="an API key of a test merchant")
    parser.add_argument("--sandbox", help="the sandbox gateway's address, to compare with its record")
    parser.add_argument("--start", action="store_true", help="start a demo that ends with this script")
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".data/replay"), help="where the demo keeps its data"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what is expected and send nothing")
    parser.add_argument(
        "--patience", type=float, default=300, help="seconds to wait for an answer or an outcome"
    )
    told = parser.parse_args(arguments)
    if not told.file.is_file():
        parser.error(f"there is no file {told.file}")
    if not (told.dry_run or told.start) and not (told.api and told.key):
        parser.error("name the service with --api and --key, or --start one")
    return told


async def run_against(address: Address, plan: Plan, *, patience: float) -> Replay:
    """Open the connections and replay."""
    async with AsyncExitStack() as connections:
        api = await connections.enter_async_context(connect(address.api, key=address.key))
        sandbox = None
        if address.sandbox is not None:
            sandbox = await connections.enter_async_context(connect(address.sandbox))
        return await replay(plan, Service(api, patience=patience), sandbox=sandbox, patience=patience)


def connect(url: str, *, key: str | None = None) -> httpx.AsyncClient:
    """A client for one address; the key goes to the service only."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=30,
        trust_env=False,  # The address was told: nothing in the environment sends it elsewhere.
    )


async def main(arguments: list[str] | None = None) -> int:
    """0 when the books agree, 1 when they differ or nobody answers."""
    told = read_arguments(arguments)
    plan = make_plan(read_invoices(told.file))
    say([str(told.file.name), "", *plan_table(plan)])
    if told.dry_run:
        return 0

    try:
        if told.start:
            async with demo(told.data_dir) as address:
                run = await run_against(address, plan, patience=told.patience)
        else:
            address = Address(told.api, told.key, told.sandbox)
            run = await run_against(address, plan, patience=told.patience)
    except (GivenUp, httpx.HTTPError) as ended:
        say([f"Given up: {ended}"])
        return 1

    say(result_table(plan, run))
    say(verdict(run))
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
