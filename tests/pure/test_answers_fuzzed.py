"""Whatever a gateway answers: the adapter never breaks over it, and never takes it for more than it says."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    CannotTell,
    Declined,
    Found,
    InFlight,
    NotSent,
)
from refund_service.gateways.protocol import RefundCommand, RefundProbe, Response
from refund_service.gateways.sandbox import SandboxGateway
from refund_service.gateways.sandbox.adapter import DECLINES
from refund_service.money import EXPONENTS, Money

GATEWAY = SandboxGateway()
KEY = UUID("0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10")
COMMAND = RefundCommand(KEY, "pay_1", Money(1250, "EUR"))
STATES = {"pending", "requires_action", "succeeded", "failed", "canceled"}

PLAIN_OR_NOT = st.sampled_from(["re_1", "pay_1", str(KEY), "", " ", "a b", "é", "x" * 256, "\ud800", "\x00"])
ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | PLAIN_OR_NOT
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
WHOLE = st.fixed_dictionaries(
    {
        "id": st.just("re_1"),
        "payment": st.just("pay_1"),
        "reference": st.just(str(KEY)),
        "amount": st.integers(),
        "currency": st.sampled_from(sorted(EXPONENTS)),
        "status": st.sampled_from(sorted(STATES)),
    },
    optional={"bank_reference": ANYTHING, "failure_code": ANYTHING},
)
REFUNDS = st.builds(
    lambda whole, name, other: {**whole, name: other},
    WHOLE,
    st.sampled_from(["id", "payment", "reference", "amount", "currency", "status", "bank_reference"]),
    st.booleans()
    | ANYTHING
    | st.sampled_from(["eur", "XXX", "Succeeded", "refunded", "1250"])
    | st.fixed_dictionaries({"type": ANYTHING, "value": ANYTHING, "status": ANYTHING}),
)
"""Right but for one member."""
ERRORS = st.fixed_dictionaries(
    {
        "error": ANYTHING
        | st.fixed_dictionaries(
            {"code": st.sampled_from([*sorted(DECLINES), "malformed", "in_progress", "new"]) | ANYTHING},
            optional={"message": ANYTHING},
        )
    }
)
LISTS = st.fixed_dictionaries({"data": ANYTHING | st.lists(WHOLE | REFUNDS | ANYTHING, max_size=2)})
TOLD = WHOLE | REFUNDS | ERRORS | LISTS | ANYTHING
BODIES = TOLD.map(lambda told: json.dumps(told).encode()) | st.binary(max_size=50) | st.just(b"[" * 100_000)
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503]) | st.integers(
    100, 599
)
HEADERS = st.fixed_dictionaries({}, optional={"retry-after": st.text(max_size=12) | st.integers().map(str)})
RESPONSES = st.builds(Response, STATUSES, HEADERS, BODIES) | REFUNDS.map(
    lambda told: Response(200, {}, json.dumps(told).encode())
)


def json_of(response: Response) -> Any:
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def is_plain(told: object) -> bool:
    return isinstance(told, str) and 1 <= len(told) <= 255 and all("!" <= letter <= "~" for letter in told)


def is_a_refund(told: Any) -> bool:
    """As the sandbox documents it, member by member."""
    return (
        isinstance(told, dict)
        and all(is_plain(told.get(name)) for name in ("id", "payment", "reference"))
        and type(told.get("amount")) is int
        and type(told.get("currency")) is str
        and told["currency"] in EXPONENTS
        and type(told.get("status")) is str
        and told["status"] in STATES
    )


def code_of(told: Any) -> object:
    error = told.get("error") if isinstance(told, dict) else None
    return error.get("code") if isinstance(error, dict) else None


@settings(max_examples=1_000)
@given(RESPONSES)
def test_only_a_whole_refund_in_a_success_is_accepted_and_only_a_documented_no_is_a_no(
    response: Response,
) -> None:
    answer, told = GATEWAY.read_refund(response, COMMAND), json_of(response)

    succeeded = 200 <= response.status < 300
    assert isinstance(answer, Accepted) is (succeeded and is_a_refund(told))
    code = code_of(told)
    declined = response.status == 422 and isinstance(code, str) and code in DECLINES
    assert isinstance(answer, Declined) is declined
    # Nothing else says that no money has moved.
    assert not isinstance(answer, NotSent) or response.status == 429
    if isinstance(answer, Accepted):
        shown = answer.refund
        assert (shown.id, shown.payment_reference, shown.our_reference) == (
            told["id"],
            told["payment"],
            told["reference"],
        )
        assert shown.amount == Money(told["amount"], told["currency"])
        assert shown.state == told["status"]
    if isinstance(answer, Declined):
        # It is stored and shown.
        assert len(answer.message) <= 500
        assert answer.message.isprintable()


@settings(max_examples=1_000)
@given(RESPONSES, st.sampled_from([None, "re_1"]))
def test_only_a_well_formed_empty_list_says_that_nothing_is_there(
    response: Response, id_: str | None
) -> None:
    finding = GATEWAY.read_look_up(response, RefundProbe(KEY, "pay_1", id_))

    told = json_of(response) if response.status == 200 else None
    listed = told.get("data") if isinstance(told, dict) and id_ is None else [told]
    assert isinstance(finding, Absent) is (isinstance(listed, list) and listed == [])
    one = isinstance(listed, list) and len(listed) == 1 and is_a_refund(listed[0])
    assert isinstance(finding, Found) is one
    several = isinstance(listed, list) and len(listed) > 1
    assert (isinstance(finding, CannotTell) and finding.differs) is several


@given(st.sampled_from([409, 429]), st.text(max_size=12) | st.integers().map(str))
def test_whatever_a_gateway_asks_for_it_is_left_alone_for_an_hour_at_most(status: int, asked: str) -> None:
    body = json.dumps({"error": {"code": "in_progress"}}).encode()
    answer = GATEWAY.read_refund(Response(status, {"retry-after": asked}, body), COMMAND)

    assert isinstance(answer, InFlight | NotSent)
    if asked.isascii() and asked.isdigit() and len(asked) <= 9:
        assert answer.after == min(timedelta(seconds=int(asked)), timedelta(hours=1))
    else:
        assert answer.after is None
