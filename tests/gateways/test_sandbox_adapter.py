from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from refund_service.gateways.answers import (
    Accepted,
    CannotTell,
    DeclineCode,
    Declined,
    GatewayState,
    InFlight,
    NotSent,
    PreparedRequest,
    Unknown,
)
from refund_service.gateways.protocol import Account, RefundCommand, RefundProbe, Response
from refund_service.gateways.sandbox import SandboxGateway
from refund_service.money import Money

GATEWAY = SandboxGateway()
KEY = UUID("0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10")
COMMAND = RefundCommand(KEY, "pay_1", Money(1250, "EUR"), {"sandbox": "succeed"})


def account(**settings):
    return Account(
        UUID(int=1), "sandbox", "http://127.0.0.1:1", settings, {"token": "sk_sandbox_1"}, "acct_1"
    )


def read(status, told, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return GATEWAY.read_refund(Response(status, named, json.dumps(told).encode()), COMMAND)


def error(code, message="…"):
    return {"error": {"code": code, "message": message}}


def test_the_request_is_exactly_this():
    """Stored requests are sent again after an update of this code: a change here is a new format."""
    assert GATEWAY.render_refund(COMMAND, account()) == PreparedRequest(
        method="POST",
        path="/v1/refunds",
        headers={
            "Sandbox-Account": "acct_1",
            "Sandbox-Traits": "deduplicates, looks-up",
            "Content-Type": "application/json",
            "Idempotency-Key": str(KEY),
        },
        body=(
            b'{"amount":1250,"currency":"EUR","metadata":{"sandbox":"succeed"},"payment":"pay_1",'
            b'"reference":"0b0e9d6e-8f5c-4c6b-9f55-3c5b4f6d7a10"}'
        ),
    )


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, "deduplicates, looks-up"),
        ({"looks_up": False}, "deduplicates"),
        ({"deduplicates": False}, "looks-up"),
        ({"deduplicates": False, "looks_up": False}, None),
    ],
)
def test_the_account_s_settings_make_its_traits_and_tell_them_to_the_sandbox(settings, header):
    traits = GATEWAY.traits(settings)

    assert GATEWAY.render_refund(COMMAND, account(**settings)).headers.get("Sandbox-Traits") == header
    assert traits.deduplicates == settings.get("deduplicates", True)
    assert traits.looks_up == settings.get("looks_up", True)


def test_the_traits_are_those_of_a_gateway_that_keeps_keys_for_a_day():
    traits = GATEWAY.traits({})

    assert (traits.replay_horizon, traits.time_limit) == (timedelta(hours=24), timedelta(seconds=20))
    assert (traits.enough_misses, traits.enough_miss_time) == (2, timedelta(seconds=45))
    assert traits.parallel_calls == 16


def test_an_account_may_set_its_own_time_limit():
    assert GATEWAY.traits({"time_limit_seconds": 0.5}).time_limit == timedelta(seconds=0.5)


def test_a_look_up_goes_by_payment_and_reference_until_the_id_is_known():
    probe = RefundProbe(KEY, "pay 1&x", None)

    assert GATEWAY.render_look_up(probe, account()).path == f"/v1/refunds?payment=pay+1%26x&reference={KEY}"
    assert (
        GATEWAY.render_look_up(replace(probe, gateway_refund_id="sbr_1"), account()).path
        == "/v1/refunds/sbr_1"
    )


@pytest.mark.parametrize(
    ("told", "after"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", 3600),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_429_was_not_executed_and_says_how_long_to_wait(told, after):
    answer = read(429, error("rate_limited"), retry_after=told)

    assert isinstance(answer, NotSent)
    assert answer.after == (None if after is None else timedelta(seconds=after))


def test_a_409_on_our_own_key_is_in_flight_and_any_other_is_unknown():
    assert read(409, error("in_progress"), retry_after="1") == InFlight(timedelta(seconds=1))
    assert isinstance(read(409, error("something_else")), Unknown)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (422, "idempotency_mismatch"),
        (422, "mystery"),
        (400, "mystery"),
        (400, "declined"),
        (404, "not_found"),
    ],
)
def test_a_refusal_that_is_not_documented_is_unknown(status, code):
    answer = read(status, error(code))

    assert isinstance(answer, Unknown)
    assert code in answer.seen


def test_a_refund_that_failed_at_once_is_accepted_with_its_failure():
    told = {"id": "sbr_1", "payment": "pay_1", "reference": str(KEY), "amount": 1250, "currency": "EUR"}
    answer = read(201, {**told, "status": "failed", "failure_code": "disputed"})
    other = read(201, {**told, "status": "failed", "failure_code": "moon_phase"})
    fine = read(201, {**told, "status": "succeeded", "failure_code": "disputed"})

    assert isinstance(answer, Accepted)
    assert answer.refund.state is GatewayState.FAILED
    assert answer.refund.failure == (DeclineCode.DISPUTED, "disputed")
    assert other.refund.failure == (DeclineCode.OTHER, "moon_phase")
    assert fine.refund.failure is None


def test_a_message_is_kept_short_and_without_what_cannot_be_stored():
    answer = read(422, error("disputed", "no\x00\ud800 way" + "!" * 10_000))

    assert isinstance(answer, Declined)
    assert answer.message.startswith("no way!")
    assert len(answer.message) <= 500


def test_an_id_that_the_sandbox_denies_is_a_riddle_and_not_an_absence():
    probe = RefundProbe(KEY, "pay_1", "sbr_1")
    denied = Response(404, {}, json.dumps(error("not_found")).encode())

    assert isinstance(GATEWAY.read_look_up(denied, probe), CannotTell)
