"""Stripe's adapter against Stripe's own document, samples and library."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import UUID

import official
import pytest
import stripe
from openapi_schema_validator import OAS30ReadValidator, OAS30WriteValidator

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    CannotTell,
    DeclineCode,
    Declined,
    Found,
    Further,
    GatewayState,
    InFlight,
    Misconfigured,
    NotSent,
    PaymentRecord,
    RefundPage,
    TooLate,
    Unknown,
    Usable,
)
from refund_service.gateways.notices import (
    Delivery,
    DisputeNotice,
    DisputeState,
    Forged,
    Genuine,
    OtherNotice,
    RefundNotice,
)
from refund_service.gateways.protocol import (
    Account,
    RefundCommand,
    RefundProbe,
    Response,
    offers,
)
from refund_service.gateways.stripe import StripeGateway
from refund_service.gateways.stripe.words import DISPUTES, FAILURES, STATES
from refund_service.money import Money

GATEWAY = StripeGateway()
KEY = UUID("0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECRET, FORMER = "whsec_the_one_in_use", "whsec_the_one_before"
ACCOUNT = Account(
    UUID(int=1),
    "stripe",
    "https://api.stripe.com",
    {},
    {"secret_key": "sk_test_12345678", "webhook_secret": SECRET, "previous_webhook_secret": FORMER},
)
COMMAND = RefundCommand(KEY, "pi_1", Money(1250, "EUR"), reason="customer_request")
PROBE = RefundProbe(KEY, "pi_1", None)


def sample(kind: str, **changed: Any) -> dict[str, Any]:
    """One of Stripe's own samples, changed."""
    return official.document("stripe-fixtures")["resources"][kind] | changed


def ours(**changed: Any) -> dict[str, Any]:
    told = {
        "payment_intent": "pi_1",
        "currency": "eur",
        "amount": 1250,
        "metadata": {"refund_attempt": str(KEY)},
    }
    return sample("refund", **(told | changed))


def reply(told: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, told if isinstance(told, bytes) else json.dumps(told).encode())


def error(code: str | None, kind: str = "invalid_request_error", **more: Any) -> dict[str, Any]:
    told = {"error": {"type": kind, "message": "as documented"} | ({"code": code} if code else {}) | more}
    stripes = official.document("stripe")
    validator = OAS30ReadValidator(official.at(stripes, "/components/schemas/error") | stripes)
    assert list(validator.iter_errors(told)) == []
    return told


def listed(*refunds: dict[str, Any], more: bool = False) -> Response:
    return reply({"object": "list", "url": "/v1/refunds", "data": list(refunds), "has_more": more})


# What goes out


@pytest.mark.parametrize(
    "command",
    [
        COMMAND,
        replace(COMMAND, payment_reference="ch_1"),
        replace(COMMAND, payment_reference="py_1", reason="duplicate"),
        replace(COMMAND, amount=Money(500, "JPY"), reason="damaged"),
        replace(COMMAND, amount=Money(1250, "KWD"), reason="fraudulent"),
        replace(COMMAND, hints={"note": "grün & gut"}),
    ],
)
def test_a_request_is_one_that_stripe_documents(command: RefundCommand) -> None:
    request = GATEWAY.render_refund(command, ACCOUNT)
    form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
    asked: dict[str, Any] = {name: value for name, value in form.items() if "[" not in name}
    asked["amount"] = int(asked["amount"])
    asked["metadata"] = {"refund_attempt": form["metadata[refund_attempt]"]}
    document = official.document("stripe")
    post = document["paths"]["/v1/refunds"]["post"]["requestBody"]["content"]
    schema = post["application/x-www-form-urlencoded"]["schema"]

    assert list(OAS30WriteValidator(schema).iter_errors(asked)) == []
    assert asked["amount"] == command.amount.minor
    assert asked["metadata"]["refund_attempt"] == request.headers["Idempotency-Key"] == str(KEY)
    assert asked.get("reason") != "fraudulent", "it would put the customer on block lists"


@pytest.mark.parametrize(
    ("money", "amount"),
    [(Money(500, "JPY"), 500), (Money(7, "ISK"), 700), (Money(1200, "MGA"), 12), (Money(1250, "BHD"), 1250)],
)
def test_amounts_are_in_stripe_s_own_units(money: Money, amount: int) -> None:
    form = parse_qs(GATEWAY.render_refund(replace(COMMAND, amount=money), ACCOUNT).body.decode())
    assert form["amount"] == [str(amount)]
    told = reply(ours(amount=amount, currency=money.currency.lower()))
    accepted = GATEWAY.read_refund(told, COMMAND)
    assert isinstance(accepted, Accepted)
    assert accepted.refund.amount == money


def test_a_platform_says_whose_payment_it_is() -> None:
    connected = replace(ACCOUNT, settings={"stripe_account": "acct_9"})
    for request in (GATEWAY.render_refund(COMMAND, connected), GATEWAY.render_look_up(PROBE, connected)):
        assert request.headers["Stripe-Account"] == "acct_9"
    assert "Stripe-Account" not in GATEWAY.render_refund(COMMAND, ACCOUNT).headers


# What comes back


@pytest.mark.parametrize(("status", "state"), STATES.items())
def test_every_status_has_its_meaning(status: str, state: GatewayState) -> None:
    accepted = GATEWAY.read_refund(reply(ours(status=status, failure_reason="declined")), COMMAND)
    assert isinstance(accepted, Accepted)
    assert accepted.refund.state is state
    assert accepted.refund.failure == (
        (DeclineCode.ISSUER_DECLINED, "declined") if state is GatewayState.FAILED else None
    )


def test_the_words_are_those_of_the_document() -> None:
    refund = official.at(official.document("stripe"), "/components/schemas/refund/properties")
    assert {word for word in STATES if f"`{word}`" in refund["status"]["description"]} == set(STATES)
    assert {word for word in FAILURES if f"`{word}`" in refund["failure_reason"]["description"]} == set(
        FAILURES
    )


@pytest.mark.parametrize(
    ("status", "code", "more", "comes_to"),
    [
        (400, "charge_already_refunded", {}, DeclineCode.ALREADY_REFUNDED),
        (400, "charge_disputed", {}, DeclineCode.DISPUTED),
        (400, "refund_disputed_payment", {}, DeclineCode.DISPUTED),
        (400, "charge_not_refundable", {}, DeclineCode.NOT_REFUNDABLE),
        (400, "balance_insufficient", {}, DeclineCode.INSUFFICIENT_BALANCE),
        (400, "parameter_invalid_integer", {"param": "amount"}, DeclineCode.AMOUNT_INVALID),
        (404, "resource_missing", {"param": "charge"}, DeclineCode.PAYMENT_NOT_FOUND),
        (404, "resource_missing", {"param": "payment_intent"}, DeclineCode.PAYMENT_NOT_FOUND),
    ],
)
def test_a_documented_refusal_did_nothing(
    status: int, code: str, more: dict[str, str], comes_to: DeclineCode
) -> None:
    answer = GATEWAY.read_refund(reply(error(code, **more), status), COMMAND)
    assert answer == Declined(comes_to, code, "as documented")


@pytest.mark.parametrize("than", ["unrefunded amount on charge ($5.00)", "charge amount ($5.00)"])
def test_more_than_is_left_has_no_code_and_is_told_by_its_words(than: str) -> None:
    told = error(None, param="amount", message=f"Refund amount ($6.00) is greater than {than}")
    answer = GATEWAY.read_refund(reply(told, 400), COMMAND)
    assert isinstance(answer, Declined)
    assert answer.code is DeclineCode.AMOUNT_TOO_HIGH
    assert isinstance(
        GATEWAY.read_refund(reply(error(None, param="amount", message="No."), 400), COMMAND), Unknown
    )


@pytest.mark.parametrize(
    ("status", "code", "kind", "comes_to"),
    [
        (409, "idempotency_key_in_use", "invalid_request_error", InFlight),
        (409, "something_new", "invalid_request_error", Unknown),
        (429, "lock_timeout", "invalid_request_error", NotSent),
        (429, "rate_limit", "invalid_request_error", NotSent),
        (401, "api_key_expired", "invalid_request_error", Misconfigured),
        (401, "secret_key_required", "invalid_request_error", Misconfigured),
        (403, None, "invalid_request_error", Misconfigured),
        (400, "parameter_unknown", "invalid_request_error", Misconfigured),
        # The same key with another body: what the first one did is not said here.
        (400, None, "idempotency_error", Unknown),
        (409, None, "idempotency_error", Unknown),
        (400, "a_code_of_next_year", "invalid_request_error", Unknown),
        (402, "card_declined", "card_error", Unknown),
        (404, "resource_missing", "invalid_request_error", Unknown),  # it does not say what is missing
        (500, None, "api_error", Unknown),
        (503, None, "api_error", Unknown),
    ],
)
def test_whatever_else_stripe_says_is_no_refusal(
    status: int, code: str | None, kind: str, comes_to: type
) -> None:
    assert isinstance(GATEWAY.read_refund(reply(error(code, kind), status), COMMAND), comes_to)


def test_a_replay_that_calls_itself_a_page_is_read_all_the_same() -> None:
    answer = GATEWAY.read_refund(reply(ours(), **{"content-type": "text/html"}), COMMAND)
    assert isinstance(answer, Accepted)


def test_the_bank_s_reference_and_the_entry_are_kept() -> None:
    card = {"type": "refund", "reference": "74907", "reference_status": "available", "reference_type": "arn"}
    told = ours(destination_details={"type": "card", "card": card}, balance_transaction="txn_1")
    accepted = GATEWAY.read_refund(reply(told), COMMAND)
    assert isinstance(accepted, Accepted)
    bank, settled = accepted.refund.bank_reference, accepted.refund.settlement
    assert bank is not None
    assert settled is not None
    assert (bank.type, bank.value, bank.status, settled.id) == ("arn", "74907", "available", "txn_1")


# Looking up


def test_a_refund_is_found_among_others_by_our_key() -> None:
    other = ours(id="re_other", metadata={"refund_attempt": "another"})
    found = GATEWAY.read_look_up(listed(other, ours(id="re_7"), sample("refund", id="re_8")), PROBE)
    assert isinstance(found, Found)
    assert found.refund.id == "re_7"
    assert GATEWAY.read_look_up(listed(other), PROBE) == Absent()


def test_a_list_is_read_to_its_end_before_anything_is_absent() -> None:
    other = [ours(id=f"re_{number}", metadata={}) for number in range(3)]
    further = GATEWAY.read_look_up(listed(*other, more=True), PROBE)
    assert isinstance(further, Further)
    asked = parse_qs(urlsplit(further.path).query)
    assert (asked["payment_intent"], asked["starting_after"]) == (["pi_1"], ["re_2"])
    assert GATEWAY.read_look_up(listed(), PROBE) == Absent()

    # Found on the first page, the second is read nevertheless: there may be another one.
    further = GATEWAY.read_look_up(listed(ours(id="re_7"), more=True), PROBE)
    assert isinstance(further, Further)
    probe = replace(PROBE, found=further.found)
    assert isinstance(GATEWAY.read_look_up(listed(), probe), Found)
    twice = GATEWAY.read_look_up(listed(ours(id="re_9")), probe)
    assert isinstance(twice, CannotTell)
    assert twice.differs


@pytest.mark.parametrize(
    "told",
    [
        {"data": []},
        {"data": [], "has_more": None},
        {"data": {}, "has_more": False},
        {"data": [], "has_more": True},
    ],
)
def test_half_a_list_says_nothing(told: dict[str, Any]) -> None:
    assert isinstance(GATEWAY.read_look_up(reply(told), PROBE), CannotTell)


def test_an_id_that_stripe_denies_is_a_riddle_and_no_absence() -> None:
    probe = replace(PROBE, gateway_refund_id="re_7")
    assert isinstance(
        GATEWAY.read_look_up(reply(error("resource_missing", param="id"), 404), probe), CannotTell
    )


# Payments, lists, cancelling, trying


def test_an_intent_leads_to_its_charge_and_the_charge_has_the_facts() -> None:
    intent = sample("payment_intent", id="pi_1", latest_charge="ch_1")
    assert GATEWAY.read_payment(reply(intent), "pi_1") == Further("/v1/charges/ch_1")
    charge = sample(
        "charge", id="ch_1", payment_intent="pi_1", amount_captured=5000, amount_refunded=1250, currency="eur",
        disputed=True,
    )  # fmt: skip
    for reference in ("pi_1", "ch_1"):
        read = GATEWAY.read_payment(reply(charge), reference)
        assert isinstance(read, PaymentRecord)
        assert (read.captured, read.refunded, read.disputed) == (Money(5000, "EUR"), Money(1250, "EUR"), True)
    assert isinstance(GATEWAY.read_payment(reply(charge), "pi_2"), CannotTell)
    assert GATEWAY.read_payment(reply(error("resource_missing"), 404), "pi_1") == Absent()
    assert isinstance(GATEWAY.read_payment(reply(error(None, "api_error"), 500), "pi_1"), CannotTell)


def test_the_account_s_refunds_are_listed_page_by_page() -> None:
    asked = GATEWAY.render_refunds(NOW - timedelta(days=1), NOW, ACCOUNT)
    page = GATEWAY.read_refunds(listed(ours(id="re_1"), sample("refund", id="re_2"), more=True), asked)
    assert isinstance(page, RefundPage)
    assert [(refund.id, refund.our_reference) for refund in page.refunds] == [
        ("re_1", str(KEY)),
        ("re_2", ""),
    ]
    assert page.further is not None
    query = parse_qs(urlsplit(page.further.path).query)
    assert query["starting_after"] == ["re_2"]
    assert query["created[gte]"] == [str(int(NOW.timestamp()) - 86_400)]
    assert GATEWAY.read_refunds(listed(), page.further) == RefundPage(())
    odd = sample("refund", status="archived")
    assert isinstance(GATEWAY.read_refunds(listed(odd), asked), CannotTell)


def test_a_refund_is_stopped_or_it_is_too_late() -> None:
    assert GATEWAY.render_cancel("re_1", ACCOUNT).path == "/v1/refunds/re_1/cancel"
    canceled = GATEWAY.read_cancel(reply(ours(status="canceled")))
    assert isinstance(canceled, Accepted)
    assert isinstance(GATEWAY.read_cancel(reply(error("refund_not_cancelable"), 400)), TooLate)
    assert isinstance(GATEWAY.read_cancel(reply(b"", 500)), Unknown)


def test_a_key_is_tried_without_a_trace() -> None:
    assert GATEWAY.render_trial(ACCOUNT).method == "GET"
    assert GATEWAY.read_trial(listed(), ACCOUNT) == Usable()
    assert isinstance(GATEWAY.read_trial(reply(error("api_key_expired"), 401), ACCOUNT), Misconfigured)
    assert isinstance(GATEWAY.read_trial(reply(b"", 500), ACCOUNT), Unknown)
    assert set(offers(GATEWAY)) == {"payments", "refund_lists", "cancel", "notifications", "trial"}


# Events


def event(type_: str, shown: dict[str, Any], **more: Any) -> bytes:
    told = {
        "id": "evt_1",
        "object": "event",
        "type": type_,
        "created": 1_772_366_400,
        "data": {"object": shown},
    }
    return json.dumps(told | more).encode()


def signed(body: bytes, secret: str = SECRET, at: datetime = NOW, **more: str) -> Delivery:
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, timestamp=int(at.timestamp())
    )
    return Delivery({"stripe-signature": header, **more}, body, NOW)


def stripes_own_verdict(delivery: Delivery, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(
            delivery.body, delivery.headers["stripe-signature"], secret, tolerance=None
        )
    except stripe.SignatureVerificationError:
        return False
    return True


BODY = b'{"id":"evt_1","object":"event","type":"refund.updated"}'


@pytest.mark.parametrize(
    ("delivery", "genuine"),
    [
        (signed(BODY), True),
        (signed(BODY, FORMER), True),
        (signed(BODY, "whsec_of_someone_else"), False),
        (replace(signed(BODY), body=BODY + b" "), False),
        (replace(signed(BODY), body=BODY.replace(b"updated", b"failed!")), False),
        (replace(signed(BODY), body=json.dumps(json.loads(BODY)).encode()), False),
    ],
)  # fmt: skip
def test_a_signature_is_believed_where_stripe_s_own_library_does(delivery: Delivery, genuine: bool) -> None:
    assert any(stripes_own_verdict(delivery, secret) for secret in (SECRET, FORMER)) is genuine
    assert isinstance(GATEWAY.verify(delivery, ACCOUNT, now=NOW), Genuine if genuine else Forged)


def test_of_two_signatures_one_suffices() -> None:
    time, _, of_another = signed(BODY, "whsec_of_someone_else").headers["stripe-signature"].partition(",")
    _, _, of_ours = signed(BODY).headers["stripe-signature"].partition(",")
    both = Delivery({"stripe-signature": f"{time},{of_another},{of_ours}"}, BODY, NOW)
    assert GATEWAY.verify(both, ACCOUNT, now=NOW) == Genuine()


@pytest.mark.parametrize(("seconds", "genuine"), [(300, True), (301, False), (-3600, True)])
def test_a_signature_may_be_five_minutes_old_and_of_a_clock_ahead(seconds: int, genuine: bool) -> None:
    delivery = signed(BODY, at=NOW - timedelta(seconds=seconds))
    assert isinstance(GATEWAY.verify(delivery, ACCOUNT, now=NOW), Genuine if genuine else Forged)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=",
        "t=1772366400",
        "v1=ab",
        "t=x,v1=ab",
        "t=1,t=2,v1=ab",
        "t=1,v0=ab",
        "t=\u0661,v1=ab",
        "v1=é,t=1",
    ],
)
def test_half_a_signature_is_none(header: str) -> None:
    delivery = Delivery({"stripe-signature": header} if header else {}, BODY, NOW)
    assert isinstance(GATEWAY.verify(delivery, ACCOUNT, now=NOW), Forged)
    without = replace(ACCOUNT, credentials={"secret_key": "sk_test_12345678"})
    assert isinstance(GATEWAY.verify(signed(BODY), without, now=NOW), Forged)


def notice(body: bytes) -> Any:
    (one,) = GATEWAY.read_notices(Delivery({}, body, NOW), ACCOUNT)
    return one


@pytest.mark.parametrize(
    "type_", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"]
)
def test_an_event_of_a_refund_says_that_it_is_time_to_look(type_: str) -> None:
    told = notice(event(type_, ours(id="re_7", status="pending")))
    assert isinstance(told, RefundNotice)
    assert (told.gateway_refund_id, told.our_reference, told.payment_reference) == ("re_7", str(KEY), "pi_1")
    assert told.refund is None, "what it shows may be older than what we know"
    assert told.dedupe_key == "evt_1"


def test_a_refund_made_in_the_dashboard_bears_no_reference_of_ours() -> None:
    told = notice(event("refund.created", sample("refund", id="re_8", metadata={})))
    assert isinstance(told, RefundNotice)
    assert (told.gateway_refund_id, told.our_reference) == ("re_8", None)


@pytest.mark.parametrize(("status", "state"), DISPUTES.items())
def test_every_status_of_a_dispute_has_its_meaning(status: str, state: DisputeState) -> None:
    told = notice(
        event("charge.dispute.updated", sample("dispute", id="dp_1", status=status, currency="eur"))
    )
    assert isinstance(told, DisputeNotice)
    assert (told.dispute_id, told.state, told.amount) == ("dp_1", state, Money(1000, "EUR"))


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (event("invoice.paid", {"id": "in_1"}), True),
        (event("refund.updated", {}), False),
        (event("charge.dispute.closed", {"id": "dp_1", "status": "archived"}), False),
        (event("charge.dispute.closed", {"id": "dp_1", "status": ["won"]}), False),
        (event("refund.updated", {"id": "re_1"}, id=None), False),
        (b"", False),
        (b"[]", False),
        (b"\xff", False),
    ],
)
def test_an_event_that_is_not_followed_or_not_read_is_told_as_such(body: bytes, known: bool) -> None:
    told = notice(body)
    assert isinstance(told, OtherNotice)
    assert told.known is known
    assert told.dedupe_key
