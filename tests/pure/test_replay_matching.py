"""The replay's own book: which refund belongs to which order, and where the books differ."""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_replay() -> ModuleType:
    """A script outside the package, loaded as it lies there."""
    spec = importlib.util.spec_from_file_location(
        "replay_online_retail", EXAMPLES / "replay_online_retail.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


replay = load_replay()
MORNING = datetime(2011, 3, 1, 9, 0, tzinfo=UTC)


def invoice(number: str, *lines: tuple[str, int, str], day: int = 0, customer: str | None = "90001") -> Any:
    """An order, or with a C a cancellation, of (sku, quantity, price) lines."""
    made = tuple(replay.Line(sku, sku.lower(), quantity, Decimal(price)) for sku, quantity, price in lines)
    return replay.Invoice(number, MORNING + timedelta(days=day), customer, "FR", made)


def asks(plan: Any) -> list[tuple[str, int, bool]]:
    return [(ask.reference, ask.amount, ask.is_covered) for ask in plan.asks]


def unmatched(plan: Any) -> list[tuple[str, int, int, str]]:
    return [(each.cancellation, each.quantity, each.amount, each.why) for each in plan.unmatched]


# ---- Matching


def test_a_cancellation_comes_back_over_the_newest_purchase() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 2, "8.50"), day=0),
            invoice("2", ("KITE", 2, "8.50"), day=1),
            invoice("C3", ("KITE", 2, "8.50"), day=2),
        ]
    )
    assert asks(plan) == [("C3/2", 1700, True)]


def test_what_one_purchase_does_not_cover_comes_from_the_one_before() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 2, "8.50"), day=0),
            invoice("2", ("KITE", 2, "8.50"), day=1),
            invoice("C3", ("KITE", 3, "8.50"), day=2),
        ]
    )
    assert asks(plan) == [("C3/2", 1700, True), ("C3/1", 850, True)]


def test_a_purchase_made_after_the_cancellation_is_not_matched() -> None:
    plan = replay.make_plan(
        [invoice("C1", ("KITE", 1, "8.50"), day=0), invoice("2", ("KITE", 1, "8.50"), day=1)]
    )
    assert asks(plan) == []
    assert unmatched(plan) == [("C1", 1, 850, "no earlier purchase")]


def test_a_unit_comes_back_only_once() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 3, "8.50"), day=0),
            invoice("C2", ("KITE", 2, "8.50"), day=1),
            invoice("C3", ("KITE", 2, "8.50"), day=2),
        ]
    )
    assert asks(plan) == [("C2/1", 1700, True), ("C3/1", 850, True)]
    assert unmatched(plan) == [("C3", 1, 850, "more than was bought")]


@pytest.mark.parametrize("customer", ["90002", None])
def test_what_another_customer_bought_is_not_matched(customer: str | None) -> None:
    plan = replay.make_plan(
        [invoice("1", ("KITE", 1, "8.50")), invoice("C2", ("KITE", 1, "8.50"), customer=customer)]
    )
    assert asks(plan) == []


def test_without_a_customer_nothing_is_matched_even_if_the_order_has_none_either() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 1, "8.50"), customer=None),
            invoice("C2", ("KITE", 1, "8.50"), customer=None),
        ]
    )
    assert unmatched(plan) == [("C2", 1, 850, "no customer")]


def test_all_lines_of_a_cancellation_over_one_order_are_one_refund() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 1, "8.50"), ("POST", 1, "18")),
            invoice("C2", ("KITE", 1, "8.50"), ("POST", 1, "18"), day=1),
        ]
    )
    assert asks(plan) == [("C2/1", 2650, True)]


def test_the_amount_is_at_the_price_of_the_cancellation() -> None:
    plan = replay.make_plan([invoice("1", ("KITE", 2, "8.50")), invoice("C2", ("KITE", 1, "9.00"), day=1)])
    assert asks(plan) == [("C2/1", 900, True)]


def test_exactly_what_the_payment_has_is_covered_and_a_penny_more_is_refused() -> None:
    bought = invoice("1", ("KITE", 1, "8.50"))
    assert asks(replay.make_plan([bought, invoice("C2", ("KITE", 1, "8.50"), day=1)])) == [
        ("C2/1", 850, True)
    ]
    assert asks(replay.make_plan([bought, invoice("C2", ("KITE", 1, "8.51"), day=1)])) == [
        ("C2/1", 851, False)
    ]


def test_what_was_refused_may_be_cancelled_again() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 1, "8.50"), day=0),
            invoice("C2", ("KITE", 1, "85.00"), day=1),
            invoice("C3", ("KITE", 1, "8.50"), day=2),
        ]
    )
    assert asks(plan) == [("C2/1", 8500, False), ("C3/1", 850, True)]


def test_a_payment_is_not_promised_twice_by_two_cancellations() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("KITE", 1, "8.50"), ("MUG", 1, "2.00"), day=0),
            invoice("C2", ("KITE", 1, "9.00"), day=1),
            invoice("C3", ("MUG", 1, "2.00"), day=2),
        ]
    )
    assert asks(plan) == [("C2/1", 900, True), ("C3/1", 200, False)]


def test_an_order_without_money_is_not_registered() -> None:
    plan = replay.make_plan(
        [invoice("1", ("GIFT", 1, "0"), ("MUG", 1, "0.01")), invoice("2", ("GIFT", 1, "0"))]
    )
    assert [order.number for order in plan.orders] == ["1"]
    assert [order.number for order in plan.not_registered] == ["2"]


def test_a_gift_comes_back_without_a_refund() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("GIFT", 1, "0"), ("MUG", 1, "2.00")),
            invoice("C2", ("GIFT", 1, "0"), day=1),
        ]
    )
    assert asks(plan) == []
    assert unmatched(plan) == []


# ---- Pennies


@pytest.mark.parametrize(
    ("pounds", "pennies"),
    [("8.50", 850), ("0.004", 0), ("0.005", 1), ("2.625", 263), ("2.6249", 262), ("0", 0)],
)
def test_pounds_are_rounded_half_up_to_the_penny(pounds: str, pennies: int) -> None:
    assert replay.pennies(Decimal(pounds)) == pennies


def test_a_line_is_rounded_once_and_not_for_each_unit() -> None:
    assert invoice("1", ("RIBBON", 7, "0.375")).total == 263


def test_the_parts_of_a_line_that_returns_over_two_orders_add_up_to_it() -> None:
    plan = replay.make_plan(
        [
            invoice("1", ("RIBBON", 5, "0.375"), day=0),
            invoice("2", ("RIBBON", 3, "0.375"), day=1),
            invoice("C3", ("RIBBON", 4, "0.375"), day=2),
        ]
    )
    assert asks(plan) == [("C3/2", 113, True), ("C3/1", 37, True)]
    assert sum(ask.amount for ask in plan.asks) == plan.cancellations[0].total == 150


def test_a_price_is_shown_rounded_and_the_line_total_exactly() -> None:
    body = replay.payment_body(invoice("1", ("RIBBON", 7, "0.375"), ("POST", 1, "18")))
    assert body["captured"] == 2063
    assert body["captured_at"] == "2011-03-01T09:00:00Z"
    assert body["order"]["lines"] == [
        {
            "sku": "RIBBON",
            "name": "ribbon",
            "quantity": 7,
            "unit_price": 38,
            "total": 263,
            "kind": "product",
        },
        {"sku": "POST", "name": "post", "quantity": 1, "unit_price": 1800, "total": 1800, "kind": "shipping"},
    ]


def test_a_customer_who_is_not_known_is_left_out() -> None:
    assert replay.payment_body(invoice("1", ("MUG", 1, "2"), customer="90001"))["customer"] == {"id": "90001"}
    assert "customer" not in replay.payment_body(invoice("1", ("MUG", 1, "2"), customer=None))


# ---- The sample


def test_the_sample_has_something_of_every_kind() -> None:
    plan = replay.make_plan(replay.read_invoices(EXAMPLES / "online-retail-sample.csv"))

    assert len(plan.orders) == 6
    assert [order.number for order in plan.not_registered] == ["900106"]
    assert asks(plan) == [
        ("C900108/900103", 780, True),
        ("C900108/900101", 780, True),
        ("C900109/900101", 390 + 850, True),
        ("C900112/900105", 6430, True),
        ("C900113/900107", 12750, False),
        ("C900114/900107", 1275 + 1800, True),
        ("C900115/900102", 113, True),
    ]
    assert unmatched(plan) == [
        ("C900109", 3, 585, "more than was bought"),
        ("C900110", 1, 1495, "no earlier purchase"),
        ("C900110", 1, 500, "no earlier purchase"),
        ("C900111", 2, 84, "no customer"),
    ]


def test_every_penny_of_a_cancellation_is_asked_or_unmatched() -> None:
    plan = replay.make_plan(replay.read_invoices(EXAMPLES / "online-retail-sample.csv"))
    asked, left = sum(ask.amount for ask in plan.asks), sum(each.amount for each in plan.unmatched)
    assert asked + left == sum(each.total for each in plan.cancellations)


# ---- Comparing the books


@pytest.fixture
def plan() -> Any:
    return replay.make_plan(
        [
            invoice("1", ("KITE", 2, "8.50"), ("MUG", 1, "3.00"), day=0),
            invoice("C2", ("KITE", 1, "8.50"), day=1),
            invoice("C3", ("MUG", 1, "30.00"), day=2),
        ]
    )


@pytest.fixture
def seen() -> Any:
    """All books as they should be."""
    return replay.Seen(
        answers={"C2/1": replay.Made("rf_1"), "C3/1": replay.Refused("amount-exceeds-available")},
        refunds={"C2/1": replay.RefundSeen("rf_1", 850, "succeeded")},
        payments={"1": replay.PaymentSeen(captured=2000, held=0, refunded=850)},
        executions={"1": [replay.Execution(850, "GBP")]},
    )


def test_books_that_agree_have_nothing_to_tell(plan: Any, seen: Any) -> None:
    assert replay.disagreements(plan, seen) == []


def test_without_a_sandbox_its_record_is_not_compared(plan: Any, seen: Any) -> None:
    seen.executions = None
    assert replay.disagreements(plan, seen) == []


def _refund(id_: str = "rf_1", amount: int = 850, outcome: str = "succeeded") -> dict[str, Any]:
    return {"refunds": {"C2/1": replay.RefundSeen(id_, amount, outcome)}}


def _payment(captured: int = 2000, held: int = 0, refunded: int = 850) -> dict[str, Any]:
    return {"payments": {"1": replay.PaymentSeen(captured, held, refunded)}}


def _answers(c2: Any, c3: Any) -> dict[str, Any]:
    return {"answers": {"C2/1": c2, "C3/1": c3}}


@pytest.mark.parametrize(
    "differently",
    [
        _answers(replay.Refused("refund-refused"), replay.Refused("amount-exceeds-available")),
        _answers(replay.Made("rf_1"), replay.Refused("refund-refused")),
        _answers(replay.Made("rf_1"), replay.Made("rf_2")),
        {"answers": {"C2/1": replay.Made("rf_1")}},
        {"refunds": {}},
        _refund(id_="rf_9"),
        _refund(amount=851),
        _refund(outcome="open"),
        {"payments": {}},
        _payment(captured=2001),
        _payment(held=1),
        _payment(refunded=849),
        {"executions": {}},
        {"executions": {"1": [replay.Execution(850, "GBP"), replay.Execution(850, "GBP")]}},
        {"executions": {"1": [replay.Execution(849, "GBP")]}},
        {"executions": {"1": [replay.Execution(850, "EUR")]}},
        {"executions": {"1": [replay.Execution(425, "GBP"), replay.Execution(425, "GBP")]}},
    ],
)
def test_one_difference_in_any_book_is_told_once(plan: Any, seen: Any, differently: dict[str, Any]) -> None:
    for book, content in differently.items():
        setattr(seen, book, content)
    assert len(replay.disagreements(plan, seen)) == 1


# ---- Talking to a service, played by a function from request to response


class PlayedService:
    """Takes payments and refunds by the contract, each at once; ``mishaps`` befall the next POSTs."""

    def __init__(self) -> None:
        self.payments: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.executions: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[str, dict[str, Any]]] = {}
        self.mishaps: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "GET":
            return self.show(path, request.url.params)
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap == "in use":
            return problem(409, "idempotency-key-in-use", headers={"Retry-After": "0"})
        if mishap == "away":
            return problem(503, "database-away", headers={"Retry-After": "0"})
        answer = self.act(path, request.headers["Idempotency-Key"], json.loads(request.content), mishap)
        if mishap == "lost answer":
            raise httpx.ReadTimeout("nothing came back", request=request)
        return answer

    def act(self, path: str, key: str, body: dict[str, Any], mishap: str) -> httpx.Response:
        if key in self.answers and mishap != "forgets the key":
            kept_path, kept = self.answers[key]
            assert kept_path == path
            return httpx.Response(201, json=kept, headers={"Idempotency-Replayed": "true"})
        made = {"id": f"id_{len(self.answers) + len(self.executions)}", **body}
        if path == "/v1/payments":
            made = self.payments.setdefault(body["reference"], {**made, "held": 0, "refunded": 0})
        if path == "/v1/refunds":
            payment = self.payments[body["order_id"]]
            if body["amount"] > payment["captured"] - payment["refunded"]:
                return problem(422, "amount-exceeds-available")
            payment["refunded"] += body["amount"]
            made |= {"outcome": "succeeded"}
            self.refunds[made["id"]] = made
            execution = {
                "payment": payment["gateway_payment_id"],
                "amount": body["amount"],
                "currency": "GBP",
            }
            self.executions += [execution] * (2 if mishap == "sends twice" else 1)
        self.answers[key] = (path, made)
        return httpx.Response(201, json=made)

    def show(self, path: str, params: httpx.QueryParams) -> httpx.Response:
        if path == "/v1/record":
            return httpx.Response(200, json={"executions": self.executions})
        rows = list((self.refunds if path == "/v1/refunds" else self.payments).values())
        rows = [row for row in rows if params.get("outcome", row.get("outcome")) == row.get("outcome")]
        start = int(params.get("cursor", 0))
        # Pages of three, so that a cursor is followed.
        following = str(start + 3) if start + 3 < len(rows) else None
        return httpx.Response(200, json={"data": rows[start : start + 3], "next_cursor": following})


def problem(status: int, code: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json={"code": code}, headers=headers)


@pytest.fixture
def played() -> PlayedService:
    return PlayedService()


async def replay_sample(played: PlayedService) -> Any:
    plan = replay.make_plan(replay.read_invoices(EXAMPLES / "online-retail-sample.csv"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(played), base_url="http://played") as client:
        service = replay.Service(client, patience=5)
        return await replay.replay(plan, service, sandbox=client, patience=5)


async def test_the_books_agree_and_what_is_too_much_was_refused(played: PlayedService) -> None:
    run = await replay_sample(played)
    assert run.wrong == []
    assert sum(each["amount"] for each in played.executions) == 12418
    assert run.seen.answers["C900113/900107"] == replay.Refused("amount-exceeds-available")


async def test_a_second_run_refunds_nothing_more(played: PlayedService) -> None:
    first = await replay_sample(played)
    second = await replay_sample(played)
    assert (first.known_before, second.known_before) == (0, 6)
    assert second.wrong == []
    assert len(played.executions) == 6


@pytest.mark.parametrize("mishap", ["lost answer", "in use", "away"])
async def test_what_got_no_final_answer_is_asked_again_under_the_same_key(
    played: PlayedService, mishap: str
) -> None:
    played.mishaps = [mishap] * 3
    run = await replay_sample(played)
    assert run.sent_again == 3
    assert run.wrong == []
    assert len(played.executions) == 6


async def test_a_service_that_never_answers_is_given_up(played: PlayedService) -> None:
    played.mishaps = ["lost answer"] * 1000
    async with httpx.AsyncClient(transport=httpx.MockTransport(played), base_url="http://played") as client:
        with pytest.raises(replay.GivenUp, match="nothing came back"):
            await replay.publish_policy(replay.Service(client, patience=0))


FIRST_REFUND = 1 + 2 * 6
"""POSTs before it: the policy, and each of six orders twice."""


async def test_a_refund_that_the_gateway_executed_twice_is_found(played: PlayedService) -> None:
    played.mishaps = [""] * FIRST_REFUND + ["sends twice"]
    run = await replay_sample(played)
    assert len(run.wrong) == 1
    assert "the sandbox executed" in run.wrong[0]


async def test_a_service_that_forgets_a_key_is_found(played: PlayedService) -> None:
    played.mishaps = [""] * FIRST_REFUND + ["forgets the key"] * 14
    run = await replay_sample(played)
    assert any("under one key" in each for each in run.wrong)
