"""The sandbox does what it is told, over real HTTP, and its record tells what it did."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from refund_service.gateways.answers import (
    Absent,
    Accepted,
    CannotTell,
    DeclineCode,
    Declined,
    Found,
    GatewayState,
    InFlight,
    Misconfigured,
    NotSent,
    Unknown,
)
from refund_service.gateways.ask import ask_refund, look_up
from refund_service.gateways.sandbox import SandboxGateway
from refund_service.gateways.sandbox.behaviours import NAMES, UnknownBehaviour, read_behaviour

GATEWAY = SandboxGateway()


@pytest.fixture
def desk(sandbox, sender, account_at, probe_of):
    """Ask and look up as the service does, at an account of this test's own."""

    class Desk:
        def __init__(self, at=sandbox, remote_account=None, **settings):
            self.sandbox = at
            self.account = account_at(at.base_url, remote_account, **settings)

        async def ask(self, command):
            request = GATEWAY.render_refund(command, self.account)
            return await ask_refund(sender, GATEWAY, self.account, command, request)

        async def look_up(self, command, gateway_refund_id=None):
            probe = probe_of(command, gateway_refund_id)
            request = GATEWAY.render_look_up(probe, self.account)
            return await look_up(sender, GATEWAY, self.account, probe, request)

        def executions(self):
            return self.sandbox.executions(account=self.account.remote_account)

        def tell_payment(self, payment, amount, currency="EUR"):
            self.sandbox.tell_payment(self.account.remote_account, payment, amount, currency)

    return Desk


async def test_by_default_a_refund_succeeds_and_is_in_the_record_once(desk, new_command):
    here, command = desk(), new_command()
    answer = await here.ask(command)
    (execution,) = here.executions()

    assert isinstance(answer, Accepted)
    assert answer.refund.state is GatewayState.SUCCEEDED
    assert answer.refund.bank_reference is not None
    assert execution["refund"] == answer.refund.id
    assert (execution["payment"], execution["amount"], execution["currency"]) == ("pay_1", 1250, "EUR")
    assert execution["key"] == execution["reference"] == str(command.key)


async def test_the_look_up_finds_it_by_reference_and_by_id(desk, new_command):
    here, command = desk(), new_command()
    answer = await here.ask(command)

    assert await here.look_up(command) == Found(answer.refund)
    assert await here.look_up(command, answer.refund.id) == Found(answer.refund)
    assert await here.look_up(new_command()) == Absent()


async def until(condition):
    """Another process cannot set an event of ours: it has to be asked."""
    while not condition():
        await asyncio.sleep(0.01)


# What the answer is and whether money moved, for each behaviour.


@pytest.mark.parametrize(
    ("behaviour", "kind", "executed"),
    [
        ("succeed", Accepted, 1),
        ("pend", Accepted, 1),
        ("requires_action", Accepted, 1),
        ("succeed_late", Accepted, 1),
        ("fail_late", Accepted, 1),
        ("fail_after_success", Accepted, 1),
        ("slow:0", Accepted, 1),
        ("in_progress:0", Accepted, 1),
        ("lose_answer", Unknown, 1),
        ("cut_answer", Unknown, 1),
        ("nonsense", Unknown, 1),
        ("other_amount", Unknown, 1),
        ("unknown_status", Unknown, 1),
        ("error_500_executed", Unknown, 1),
        ("lookup_lags", Unknown, 1),
        ("lose_request", Unknown, 0),
        ("error_500", Unknown, 0),
        ("undocumented", Unknown, 0),
        ("decline", Declined, 0),
        ("rate_limit", NotSent, 0),
        ("unauthorized", Misconfigured, 0),
        ("no_such_behaviour", Declined, 0),
    ],
)
async def test_each_behaviour_answers_and_executes_as_documented(
    desk, new_command, behaviour, kind, executed
):
    here = desk()
    answer = await here.ask(new_command(behaviour))

    assert isinstance(answer, kind)
    assert len(here.executions()) == executed


def test_every_behaviour_is_in_the_table_above():
    marks = test_each_behaviour_answers_and_executes_as_documented.pytestmark
    (table,) = (mark.args[1] for mark in marks if mark.name == "parametrize")

    assert {row[0].partition(":")[0] for row in table} - {"no_such_behaviour"} == NAMES


@pytest.mark.parametrize(
    "behaviour",
    ["lose_answer", "cut_answer", "nonsense", "other_amount", "unknown_status", "error_500_executed"],
)
async def test_what_was_executed_behind_a_bad_answer_is_found_and_a_second_post_is_the_same_refund(
    desk, new_command, behaviour
):
    here, command = desk(), new_command(behaviour)
    await here.ask(command)
    found = await here.look_up(command)
    again = await here.ask(command)

    assert isinstance(found, Found)
    assert again == Accepted(found.refund)
    assert len(here.executions()) == 1


@pytest.mark.parametrize("behaviour", ["lose_request", "error_500", "rate_limit"])
async def test_what_was_not_executed_is_absent_and_the_second_post_executes_it(desk, new_command, behaviour):
    here, command = desk(), new_command(behaviour)
    await here.ask(command)

    assert await here.look_up(command) == Absent()
    assert isinstance(await here.ask(command), Accepted)
    assert len(here.executions()) == 1


async def test_a_rate_limit_says_how_long_to_wait(desk, new_command):
    assert (await desk().ask(new_command("rate_limit"))).after == timedelta(seconds=1)


@pytest.mark.parametrize("code", DeclineCode)
async def test_every_refusal_can_be_played_by_its_code(desk, new_command, code):
    answer = await desk().ask(new_command(f"decline:{code.value}"))

    assert isinstance(answer, Declined)
    assert (answer.code, answer.gateway_code) == (code, code.value)


async def test_a_mismatch_is_called_so(desk, new_command):
    assert (await desk().ask(new_command("other_amount"))).seen.startswith("mismatch:")


@pytest.mark.parametrize("end", ["succeeded", "failed"])
@pytest.mark.parametrize("behaviour", ["pend", "requires_action"])
async def test_a_refund_that_waits_ends_as_it_is_settled_and_only_once(desk, new_command, behaviour, end):
    here, command = desk(), new_command(behaviour)
    waiting = await here.ask(command)
    here.sandbox.settle(waiting.refund.id, end)
    found = await here.look_up(command)

    assert waiting.refund.state in {GatewayState.PENDING, GatewayState.REQUIRES_ACTION}
    assert found.refund.state == end
    assert (found.refund.failure is not None) == (end == "failed")
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        here.sandbox.settle(waiting.refund.id, end)


@pytest.mark.parametrize(
    ("behaviour", "life"),
    [
        ("succeed_late:600", ["pending", "pending", "succeeded"]),
        ("fail_late:600", ["pending", "pending", "failed"]),
        ("fail_after_success:600", ["succeeded", "succeeded", "failed"]),
    ],
)
async def test_what_comes_late_comes_when_the_clock_says_so(
    desk, new_command, start_sandbox, behaviour, life
):
    here, command = desk(start_sandbox()), new_command(behaviour)
    answer = await here.ask(command)
    here.sandbox.advance(590)
    meanwhile = await here.look_up(command)
    here.sandbox.advance(10)
    late = await here.look_up(command)

    assert [one.refund.state for one in (answer, meanwhile, late)] == life


async def test_a_slow_answer_is_on_record_before_it_comes(desk, new_command, start_sandbox):
    here = desk(start_sandbox())
    asking = asyncio.create_task(here.ask(new_command("slow:3600")))
    await until(here.executions)
    assert not asking.done()
    here.sandbox.advance(3600)

    assert isinstance(await asking, Accepted)


async def test_a_refund_in_progress_turns_others_under_its_key_away_until_it_is_done(
    desk, new_command, start_sandbox
):
    here, command = desk(start_sandbox()), new_command("in_progress:3600")
    asking = asyncio.create_task(here.ask(command))
    await until(lambda: here.sandbox.record()["counts"]["refund"])

    assert await here.ask(command) == InFlight(timedelta(seconds=1))
    assert await here.look_up(command) == Absent()
    here.sandbox.advance(3600)
    first = await asking
    assert isinstance(first, Accepted)
    assert await here.ask(command) == first
    assert len(here.executions()) == 1


async def test_a_lagging_look_up_misses_as_often_as_it_was_told(desk, new_command):
    here, command = desk(), new_command("lookup_lags:2")
    await here.ask(command)
    findings = [await here.look_up(command) for _ in range(4)]

    assert [type(finding) for finding in findings] == [Absent, Absent, Found, Found]


# Keys.


async def test_an_account_that_deduplicates_answers_the_same_and_says_that_it_is_a_replay(desk, new_command):
    here, command = desk(), new_command()
    request = GATEWAY.render_refund(command, here.account)
    headers = {**request.headers, **GATEWAY.authorize(here.account)}
    async with httpx.AsyncClient(base_url=here.sandbox.base_url, trust_env=False) as http:
        first = await http.post(request.path, headers=headers, content=request.body)
        again = await http.post(request.path, headers=headers, content=request.body)

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert "sandbox-replayed" not in first.headers
    assert again.headers["sandbox-replayed"] == "true"
    assert len(here.executions()) == 1


async def test_a_declined_key_stays_declined(desk, new_command):
    here, command = desk(), new_command(amount=100)
    here.tell_payment("pay_1", 50)
    first = await here.ask(command)
    again = await here.ask(command)

    assert first == again
    assert first.code is DeclineCode.AMOUNT_TOO_HIGH


async def test_an_account_that_does_not_deduplicate_executes_each_time(desk, new_command):
    here, command = desk(deduplicates=False), new_command()
    first = await here.ask(command)
    again = await here.ask(command)

    assert first.refund.id != again.refund.id
    assert len(here.executions()) == 2
    assert isinstance(await here.look_up(command), CannotTell)


async def test_the_same_key_with_another_body_is_a_mismatch_and_moves_nothing(desk, new_command):
    here, command = desk(), new_command()
    await here.ask(command)
    answer = await here.ask(replace(command, payment_reference="pay_2"))

    assert isinstance(answer, Unknown)
    assert "idempotency_mismatch" in answer.seen
    assert len(here.executions()) == 1


async def test_the_same_key_at_another_account_is_another_key(desk, new_command):
    one, other, command = desk(), desk(), new_command()
    first, second = await one.ask(command), await other.ask(command)

    assert first.refund.id != second.refund.id
    assert await other.look_up(command, first.refund.id) != Found(first.refund)


async def test_a_hundred_at_once_under_one_key_are_one_refund(desk, new_command):
    here, command = desk(), new_command()
    answers = await asyncio.gather(*(here.ask(command) for _ in range(100)))

    assert len(set(answers)) == 1
    assert len(here.executions()) == 1


async def test_a_key_is_known_for_more_than_the_day_that_is_promised_and_not_for_ever(
    desk, new_command, start_sandbox
):
    here, command = desk(start_sandbox()), new_command()
    first = await here.ask(command)
    here.sandbox.advance(47 * 3600)
    within = await here.ask(command)
    here.sandbox.advance(3600)
    after = await here.ask(command)

    assert within == first
    assert after.refund.id != first.refund.id
    assert len(here.executions()) == 2


async def test_an_account_without_look_up_cannot_tell_by_reference_but_shows_by_id(desk, new_command):
    here, command = desk(looks_up=False), new_command("pend")
    answer = await here.ask(command)
    finding = await here.look_up(command)

    assert isinstance(finding, CannotTell)
    assert "not_supported" in finding.seen
    assert await here.look_up(command, answer.refund.id) == Found(answer.refund)


# Ceilings.


async def test_a_payment_that_the_sandbox_was_told_of_is_never_refunded_beyond_its_capture(desk, new_command):
    here = desk()
    here.tell_payment("pay_1", 1000)
    codes = []
    for amount in (600, 401, 400, 1):
        answer = await here.ask(new_command(amount=amount))
        codes.append(answer.code if isinstance(answer, Declined) else None)

    assert codes == [None, DeclineCode.AMOUNT_TOO_HIGH, None, DeclineCode.ALREADY_REFUNDED]
    assert sum(one["amount"] for one in here.executions()) == 1000


async def test_a_refund_that_failed_gives_its_amount_back_to_the_payment(desk, new_command):
    here = desk()
    here.tell_payment("pay_1", 1000)
    waiting = await here.ask(new_command("pend", amount=1000))

    assert isinstance(await here.ask(new_command(amount=1)), Declined)
    here.sandbox.settle(waiting.refund.id, "failed")
    assert isinstance(await here.ask(new_command(amount=1000)), Accepted)


async def test_another_currency_than_the_payment_s_is_refused(desk, new_command):
    here = desk()
    here.tell_payment("pay_1", 1000, "USD")

    assert (await here.ask(new_command(amount=1))).code is DeclineCode.CURRENCY_MISMATCH


async def test_a_payment_that_the_sandbox_was_not_told_of_has_no_ceiling(desk, new_command):
    here = desk()
    answers = [await here.ask(new_command(amount=999_999_999_999)) for _ in range(2)]

    assert all(isinstance(answer, Accepted) for answer in answers)


async def test_a_payment_can_be_told_again_but_not_otherwise(desk):
    here = desk()
    here.tell_payment("pay_1", 1000)
    here.tell_payment("pay_1", 1000)

    with pytest.raises(httpx.HTTPStatusError, match="409"):
        here.tell_payment("pay_1", 1001)


# The record.


async def test_the_record_survives_a_kill_and_the_next_start_goes_on_where_it_stood(
    desk, new_command, start_sandbox
):
    first = start_sandbox()
    here = desk(first)
    here.tell_payment("pay_1", 2000)
    lost, pending, lagging, refused = (
        new_command(behaviour, amount=500)
        for behaviour in ("lose_answer", "pend", "lookup_lags:2", "error_500")
    )
    for command in (lost, pending, lagging, refused):
        await here.ask(command)
    await here.look_up(lagging)
    first.advance(3600)
    before = first.record()
    first.kill()

    second = start_sandbox(first.record_path, first.port)
    there = desk(second, here.account.remote_account)
    assert second.record() == before
    assert second.port == first.port
    # A look-up first: a POST on the connection that died with the first one would be in doubt.
    assert isinstance(await there.look_up(lost), Found)
    assert isinstance(await there.ask(lost), Accepted)
    assert await there.look_up(lagging) == Absent()
    assert isinstance(await there.look_up(lagging), Found)
    assert isinstance(await there.ask(refused), Accepted)
    assert (await there.ask(new_command(amount=1))).code is DeclineCode.ALREADY_REFUNDED
    second.settle((await there.look_up(pending)).refund.id, "failed")
    assert len(there.executions()) == 4


async def test_a_line_that_a_crash_cut_off_is_forgotten_and_the_rest_is_kept(
    desk, new_command, start_sandbox
):
    first = start_sandbox()
    here = desk(first)
    await here.ask(new_command())
    first.kill()
    with first.record_path.open("ab") as record:
        record.write(b'{"fact":"execution","refu')

    second = start_sandbox(first.record_path)
    there = desk(second, here.account.remote_account)
    assert len(there.executions()) == 1
    assert isinstance(await there.ask(new_command()), Accepted)
    second.kill()
    assert all(json.loads(line) for line in second.record_path.read_bytes().splitlines())


async def test_what_was_answered_stands_in_the_record_already(desk, new_command, start_sandbox):
    running = start_sandbox()
    here = desk(running)
    answer = await here.ask(new_command())

    assert answer.refund.id in running.record_path.read_text()


def test_a_record_has_one_writer(start_sandbox):
    running = start_sandbox()
    second = subprocess.run(
        [sys.executable, "-m", "refund_service.gateways.sandbox", "--record", str(running.record_path)],
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert second.returncode == 1
    assert b"another sandbox" in second.stderr


async def test_every_request_is_seen_with_its_key_and_filters_narrow_the_record(desk, new_command):
    here, command, other = desk(), new_command("rate_limit"), new_command(payment="pay_2")
    await here.ask(command)
    await here.ask(command)
    await here.ask(other)
    await here.look_up(command)
    account = here.account.remote_account

    asked = here.sandbox.record(account=account, reference=str(command.key))
    assert [one["action"] for one in asked["requests"]] == ["refund", "refund", "look_up"]
    assert {one["key"] for one in asked["requests"] if one["action"] == "refund"} == {str(command.key)}
    assert asked["counts"] == {"executions": 1, "requests": 3, "refund": 2, "look_up": 1, "get": 0}
    assert here.sandbox.record(account=account)["counts"]["executions"] == 2
    by_payment = here.sandbox.record(account=account, payment="pay_2")
    assert by_payment["counts"] == {"executions": 1, "requests": 1, "refund": 1, "look_up": 0, "get": 0}


# The edge.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer rk_live_1"}, 401),
        ({"Authorization": "Bearer sk_sandbox_"}, 401),
        ({"Authorization": "Bearer sk_sandbox_1"}, 201),
    ],
)
def test_a_token_begins_with_its_prefix(sandbox, headers, status):
    reply = httpx.post(
        f"{sandbox.base_url}/v1/refunds",
        headers={"Sandbox-Account": sandbox.new_account(), "Idempotency-Key": "k", **headers},
        json={"payment": "p", "amount": 1, "currency": "EUR", "reference": "r"},
        trust_env=False,
    )

    assert reply.status_code == status


GOOD = {"payment": "p", "amount": 1, "currency": "EUR", "reference": "r", "metadata": {}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 60_000,
        *(
            json.dumps({**GOOD, **odd}).encode()
            for odd in (
                {"amount": 0},
                {"amount": -1},
                {"amount": True},
                {"amount": 1.0},
                {"amount": "1"},
                {"amount": 10**12},
                {"currency": "eur"},
                {"currency": "XXX"},
                {"currency": ["EUR"]},
                {"payment": ""},
                {"payment": None},
                {"reference": 5},
                {"metadata": []},
            )
        ),
    ],
)
def test_a_request_that_cannot_be_read_is_malformed_and_executes_nothing(sandbox, body):
    account = sandbox.new_account()
    reply = httpx.post(
        f"{sandbox.base_url}/v1/refunds",
        headers={"Authorization": "Bearer sk_sandbox_1", "Sandbox-Account": account, "Idempotency-Key": "k"},
        content=body,
        trust_env=False,
    )

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "malformed")
    assert sandbox.executions(account=account) == []


def test_a_request_that_is_too_large_is_refused(sandbox):
    reply = httpx.post(f"{sandbox.base_url}/v1/refunds", content=b"x" * 70_000, trust_env=False)

    assert reply.status_code == 413


@pytest.mark.parametrize("seconds", [-1, True, "1", None, 1e300])
def test_the_clock_goes_forward_and_not_out_of_sight(sandbox, seconds):
    reply = httpx.post(f"{sandbox.base_url}/v1/clock", json={"advance_seconds": seconds}, trust_env=False)

    assert reply.status_code == 400


def test_a_sandbox_ends_with_its_parent(start_sandbox):
    running = start_sandbox()
    running.stop()

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.base_url}/health", trust_env=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Succeed",
        "succeed:1",
        "slow:",
        "slow:soon",
        "slow:-1",
        "slow:nan",
        "slow:inf",
        "decline:",
        "decline:mood",
        "lookup_lags:-1",
        "lookup_lags:1.5",
        "lookup_lags:1001",
    ],
)
def test_a_behaviour_that_is_misspelt_is_told_and_not_guessed(text):
    with pytest.raises(UnknownBehaviour):
        read_behaviour(text)
