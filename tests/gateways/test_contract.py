"""What every adapter keeps to. A new adapter adds a case; one without a case fails here."""

from __future__ import annotations

import copy
import gzip
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    Answer,
    CannotTell,
    DeclineCode,
    Declined,
    Finding,
    Found,
    Further,
    Misconfigured,
    Unknown,
)
from refund_service.gateways.ask import LEAVES_ONCE
from refund_service.gateways.protocol import Account, RefundCommand, RefundProbe, Response
from refund_service.gateways.registry import gateway_named, gateway_names
from refund_service.gateways.stripe.words import DECLINES as STRIPE_DECLINES
from refund_service.money import Money

KEY = UUID("0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10")
COMMAND = RefundCommand(KEY, "pay/1 ?&#é", Money(1250, "EUR"), {"sandbox": "succeed", "note": "grün"})
PROBE = RefundProbe(KEY, COMMAND.payment_reference, None)


@dataclass
class Case:
    """An adapter's own documents, as far as the contract needs them."""

    settings: list[dict]
    """Every way an account can be set up."""
    credentials: dict[str, str]
    command: RefundCommand
    refund: dict
    """A refund as the gateway documents it, as asked by ``command``."""
    listed: dict
    """The look-up's answer that holds it."""
    empty: dict
    """The look-up's answer where it is not there."""
    declines: list[tuple[int, dict, DeclineCode]]
    """One row for each documented refusal."""
    misconfigured: list[tuple[int, dict]]
    success: int = 200
    statuses: str = "status"
    """The member that holds the status."""
    members: tuple[str, ...] = ("id", "amount", "currency", "payment", "reference", "status")
    """What a refund is nothing without."""
    never_from: tuple[int, ...] = field(default=(404, 409, 500, 502, 503))
    """Statuses that are never a documented refusal, whatever the body says."""


def sandbox_case():
    plain = replace(COMMAND, payment_reference="pay_1")
    refund = {
        "id": "sbr_1",
        "object": "refund",
        "status": "succeeded",
        "payment": "pay_1",
        "amount": 1250,
        "currency": "EUR",
        "reference": str(KEY),
        "failure_code": None,
        "bank_reference": {"type": "arn", "value": "arn_1", "status": "available"},
    }

    def error(code):
        return {"error": {"code": code, "message": "as documented"}}

    return Case(
        settings=[
            {},
            {"deduplicates": False},
            {"looks_up": False},
            {"deduplicates": False, "looks_up": False},
            {"time_limit_seconds": 90},
        ],
        credentials={"token": "sk_sandbox_very_secret"},
        command=plain,
        refund=refund,
        listed={"data": [refund]},
        empty={"data": []},
        declines=[(422, error(code.value), code) for code in DeclineCode]
        + [(422, error("unknown_behaviour"), DeclineCode.OTHER)],
        misconfigured=[(401, error("unauthorized")), (403, {}), (400, error("malformed"))],
        success=201,
    )


def stripe_case():
    plain = replace(COMMAND, payment_reference="pi_1")
    refund = {
        "id": "re_1",
        "object": "refund",
        "status": "succeeded",
        "payment_intent": "pi_1",
        "charge": "ch_1",
        "amount": 1250,
        "currency": "eur",
        "created": 1_772_366_400,
        "metadata": {"refund_attempt": str(KEY)},
        "failure_reason": None,
        "balance_transaction": "txn_1",
    }

    def error(code, **more):
        return {"error": {"type": "invalid_request_error", "code": code, "message": "as documented", **more}}

    over = "Refund amount (€20.00) is greater than unrefunded amount on charge (€12.50)"
    return Case(
        settings=[{}, {"stripe_account": "acct_1Connected"}],
        credentials={"secret_key": "sk_test_very_secret", "webhook_secret": "whsec_very_secret"},
        command=plain,
        refund=refund,
        listed={"object": "list", "data": [refund], "has_more": False},
        empty={"object": "list", "data": [], "has_more": False},
        declines=[(400, error(code), ours) for code, ours in STRIPE_DECLINES.items()]
        + [
            (404, error("resource_missing", param="payment_intent"), DeclineCode.PAYMENT_NOT_FOUND),
            (400, error(None, param="amount", message=over), DeclineCode.AMOUNT_TOO_HIGH),
        ],
        misconfigured=[
            (401, error("api_key_expired")),
            (403, {}),
            (400, error("parameter_unknown", param="amont")),
        ],
        members=("id", "amount", "currency", "status"),
        never_from=(409, 500, 502, 503),
    )


CASES = {"sandbox": sandbox_case(), "stripe": stripe_case()}

UGLY = {
    "nothing": b"",
    "half a JSON": b'{"id":"sbr_1","amount":12',
    "a page": b"<html><body>It works!</body></html>",
    "null": b"null",
    "a number": b"17",
    "a string": b'"succeeded"',
    "a list": b"[]",
    "a list of lists": b"[[[]]]",
    "an empty object": b"{}",
    "a list where an object belongs": b'{"error":[],"data":{},"id":[]}',
    "nulls": b'{"error":null,"data":null,"id":null,"status":null,"amount":null,"currency":null}',
    "deep": b"[" * 200_000,
    "deep objects": b'{"data":' * 100_000,
    "NaN": b'{"amount":NaN}',
    "a huge number": b'{"amount":1' + b"0" * 5000 + b"}",
    "not UTF-8": b'{"id":"\xff\xfe"}',
    "UTF-16": '{"id":"1"}'.encode("utf-16"),
    "NUL": b"\x00" * 64,
    "packed": gzip.compress(b'{"id":"sbr_1"}'),
    "10 MB": b'{"id":"' + b"x" * 10_000_000 + b'"}',
}


def adapter_of(name):
    return gateway_named(name)


def account_of(name, settings=None):
    case = CASES[name]
    return Account(
        id=UUID(int=1),
        gateway=name,
        base_url="http://127.0.0.1:1",
        settings=case.settings[0] if settings is None else settings,
        credentials=case.credentials,
        remote_account="acct_1",
    )


def response(status, told):
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return Response(status, {"content-type": "application/json"}, body)


every_adapter = pytest.mark.parametrize("name", CASES)


@pytest.mark.parametrize("name", gateway_names())
def test_every_installed_adapter_is_held_to_the_contract(name):
    assert name in CASES


# Rendering.


@every_adapter
def test_rendering_is_pure_and_gives_the_same_bytes_each_time(name):
    adapter = adapter_of(name)
    for settings in CASES[name].settings:
        account = account_of(name, settings)
        before = copy.deepcopy((dict(COMMAND.hints), dict(account.settings)))
        again = replace(COMMAND, hints=dict(reversed(COMMAND.hints.items())))

        assert adapter.render_refund(COMMAND, account) == adapter.render_refund(again, account)
        assert adapter.render_look_up(PROBE, account) == adapter.render_look_up(PROBE, account)
        assert before == (dict(COMMAND.hints), dict(account.settings))


@every_adapter
def test_what_is_frozen_and_stored_holds_no_secret(name):
    adapter, account = adapter_of(name), account_of(name)
    for request in (adapter.render_refund(COMMAND, account), adapter.render_look_up(PROBE, account)):
        shown = repr((request.method, request.path, dict(request.headers), request.body))
        for secret in account.credentials.values():
            assert secret not in shown
        assert "authorization" not in {name.lower() for name in request.headers}


@every_adapter
def test_the_credentials_are_in_what_is_added_at_the_moment_of_sending(name):
    account = account_of(name)

    assert any(secret in repr(adapter_of(name).authorize(account)) for secret in account.credentials.values())


@every_adapter
def test_a_request_fits_the_wire_and_asks_by_a_method_that_leaves_once(name):
    adapter = adapter_of(name)
    for settings in CASES[name].settings:
        account = account_of(name, settings)
        ask, look = adapter.render_refund(COMMAND, account), adapter.render_look_up(PROBE, account)
        by_id = adapter.render_look_up(replace(PROBE, gateway_refund_id="a/../b c"), account)

        assert ask.method in LEAVES_ONCE
        assert look.method == "GET"
        for request in (ask, look, by_id):
            assert request.path.startswith("/")
            assert request.path.isascii()
            assert not set(" #\r\n") & set(request.path)
            assert "/../" not in request.path
            assert all(
                part.isascii() and part.isprintable() for item in request.headers.items() for part in item
            )


@every_adapter
def test_the_key_travels_with_the_request_and_another_key_makes_another_request(name):
    adapter, account = adapter_of(name), account_of(name)
    ask = adapter.render_refund(COMMAND, account)
    other = adapter.render_refund(replace(COMMAND, key=UUID(int=7)), account)

    assert str(KEY) in repr((dict(ask.headers), ask.body))
    assert ask != other


@every_adapter
def test_the_look_up_asks_by_the_gateway_s_id_where_it_is_known(name):
    adapter, account = adapter_of(name), account_of(name)

    assert "sbr_77" in adapter.render_look_up(replace(PROBE, gateway_refund_id="sbr_77"), account).path


# Traits.


@every_adapter
def test_traits_agree_with_each_other(name):
    adapter = adapter_of(name)
    for settings in CASES[name].settings:
        traits = adapter.traits(settings)

        assert traits.deduplicates == (traits.replay_horizon > timedelta(0))
        assert traits.enough_miss_time > traits.time_limit > timedelta(0)
        assert traits.enough_misses >= 2
        assert traits.parallel_calls >= 1


# Reading.


@every_adapter
def test_a_refund_as_documented_is_accepted_and_found(name):  # hyperswitch#5298
    case, adapter = CASES[name], adapter_of(name)
    accepted = adapter.read_refund(response(case.success, case.refund), case.command)
    found = adapter.read_look_up(response(200, case.listed), PROBE)

    assert isinstance(accepted, Accepted)
    assert isinstance(found, Found)
    assert accepted.refund == found.refund
    assert accepted.refund.amount == case.command.amount
    assert accepted.refund.our_reference == str(KEY)
    assert accepted.refund.payment_reference == case.command.payment_reference


@every_adapter
def test_only_a_documented_empty_answer_says_that_nothing_is_there(name):
    assert adapter_of(name).read_look_up(response(200, CASES[name].empty), PROBE) == Absent()


@every_adapter
def test_each_documented_refusal_is_declined_with_our_code(name):
    case, adapter = CASES[name], adapter_of(name)
    for status, told, code in case.declines:
        answer = adapter.read_refund(response(status, told), case.command)

        assert isinstance(answer, Declined)
        assert answer.code is code


@every_adapter
def test_every_code_of_ours_has_a_documented_refusal_or_is_none_of_the_gateway_s(name):
    if name == "sandbox":  # it plays them all
        assert {code for _, _, code in CASES[name].declines} == set(DeclineCode)


@every_adapter
def test_a_refusal_s_body_under_another_status_is_not_believed(name):
    case, adapter = CASES[name], adapter_of(name)
    for _, told, _ in case.declines:
        for status in (*case.never_from, 200, 201, 202):
            assert isinstance(adapter.read_refund(response(status, told), case.command), Unknown)


@every_adapter
def test_refused_credentials_are_a_matter_for_a_person(name):
    case, adapter = CASES[name], adapter_of(name)
    for status, told in case.misconfigured:
        assert isinstance(adapter.read_refund(response(status, told), case.command), Misconfigured)


@every_adapter
def test_a_status_that_no_one_documented_is_unknown(name):  # hyperswitch#5232
    case, adapter = CASES[name], adapter_of(name)
    for odd in ("archived", "", "SUCCEEDED", None, 1, True, ["succeeded"], {"succeeded": 1}):
        told = {**case.refund, case.statuses: odd}

        assert isinstance(adapter.read_refund(response(case.success, told), case.command), Unknown)


@every_adapter
def test_a_success_that_lacks_a_member_or_has_one_of_another_type_is_unknown(name):
    case, adapter = CASES[name], adapter_of(name)
    for member in case.members:
        without = {key: value for key, value in case.refund.items() if key != member}
        for told in (without, *({**case.refund, member: odd} for odd in (None, [], {}, True, 1.5, ""))):
            assert isinstance(adapter.read_refund(response(case.success, told), case.command), Unknown)


@every_adapter
@pytest.mark.parametrize("odd", ["\x00", "a\x00b", "\ud800", "x" * 256, "a b", "é"])
def test_an_id_that_could_not_be_stored_or_sent_back_is_unknown(name, odd):
    case = CASES[name]
    answer = adapter_of(name).read_refund(response(case.success, {**case.refund, "id": odd}), case.command)

    assert isinstance(answer, Unknown)


@every_adapter
@pytest.mark.parametrize(
    "status", [100, 200, 201, 202, 204, 301, 400, 404, 409, 422, 429, 500, 502, 503, 504, 599]
)
@pytest.mark.parametrize("ugly", UGLY)
def test_no_body_however_ugly_makes_a_reader_raise_or_settle_anything(name, status, ugly):
    case, adapter = CASES[name], adapter_of(name)
    told = response(status, UGLY[ugly])
    answer, finding = adapter.read_refund(told, case.command), adapter.read_look_up(told, PROBE)

    assert not isinstance(answer, Accepted | Declined | Misconfigured)
    assert isinstance(finding, CannotTell)
    if status < 400 or status >= 500:
        assert isinstance(answer, Unknown)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@every_adapter
@given(data=st.data())
def test_a_documented_body_with_anything_put_into_it_is_read_without_raising(name, data):
    case, adapter = CASES[name], adapter_of(name)
    told = copy.deepcopy(data.draw(st.sampled_from([case.refund, case.listed, case.declines[0][1]])))
    for member in data.draw(st.lists(st.sampled_from(sorted(told)), max_size=3)):
        told[member] = data.draw(JSON)
    status = data.draw(st.integers(100, 599))

    answer = adapter.read_refund(response(status, told), case.command)
    finding = adapter.read_look_up(response(status, told), PROBE)

    assert isinstance(answer, get_args(Answer))
    assert isinstance(finding, (*get_args(Finding), Further))
    repr((answer, finding)).encode()
