from __future__ import annotations

from uuid import uuid4

import pytest

from refund_service.gateways.breaker import FAILURES_TO_OPEN, TOLD_FOR, TRIAL_LASTS, Breaker

ACCOUNT, OTHER = uuid4(), uuid4()


@pytest.fixture
def breaker():
    return Breaker()


def fail(breaker, times, now=0.0):
    for _ in range(times):
        breaker.record(ACCOUNT, ok=False, now=now)


def test_four_failures_in_a_row_keep_no_one_from_calling(breaker):
    fail(breaker, FAILURES_TO_OPEN - 1)

    assert breaker.allows(ACCOUNT, 0)
    assert breaker.closed_to(0) == set()


def test_the_fifth_failure_keeps_the_account_from_being_called(breaker):
    fail(breaker, FAILURES_TO_OPEN)

    assert not breaker.allows(ACCOUNT, 0)
    assert breaker.closed_to(0) == {ACCOUNT}


def test_other_accounts_are_not_affected(breaker):
    fail(breaker, FAILURES_TO_OPEN)

    assert breaker.allows(OTHER, 0)


def test_a_success_between_failures_starts_the_count_anew(breaker):
    fail(breaker, FAILURES_TO_OPEN - 1)
    breaker.record(ACCOUNT, ok=True, now=0)
    fail(breaker, FAILURES_TO_OPEN - 1)

    assert breaker.allows(ACCOUNT, 0)


def test_it_opens_for_five_seconds_and_not_a_moment_less(breaker):
    fail(breaker, FAILURES_TO_OPEN)

    assert not breaker.allows(ACCOUNT, 4.999)
    assert breaker.allows(ACCOUNT, 5)


def test_after_the_pause_one_call_at_a_time_may_try(breaker):
    fail(breaker, FAILURES_TO_OPEN)

    assert breaker.allows(ACCOUNT, 5)
    assert not breaker.allows(ACCOUNT, 5)
    assert breaker.closed_to(5) == {ACCOUNT}


def test_asking_which_accounts_are_closed_takes_no_one_s_turn(breaker):
    fail(breaker, FAILURES_TO_OPEN)

    assert breaker.closed_to(5) == set()
    assert breaker.allows(ACCOUNT, 5)


def test_a_trial_that_succeeds_opens_the_account_to_all(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    breaker.allows(ACCOUNT, 5)
    breaker.record(ACCOUNT, ok=True, now=6)

    assert breaker.allows(ACCOUNT, 6)
    assert breaker.allows(ACCOUNT, 6)


def test_each_trial_that_fails_doubles_the_pause_up_to_a_minute(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    now, pauses = 0.0, []
    for _ in range(6):
        began = now
        while not breaker.allows(ACCOUNT, now):
            now += 1
        pauses.append(now - began)
        breaker.record(ACCOUNT, ok=False, now=now)

    assert pauses == [5, 10, 20, 40, 60, 60]


def test_after_a_recovery_the_next_pause_is_short_again(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    breaker.allows(ACCOUNT, 5)
    breaker.record(ACCOUNT, ok=False, now=5)
    breaker.record(ACCOUNT, ok=True, now=20)
    fail(breaker, FAILURES_TO_OPEN, now=20)

    assert breaker.allows(ACCOUNT, 25)


def test_calls_that_were_out_when_it_opened_do_not_lengthen_the_pause(breaker):
    fail(breaker, FAILURES_TO_OPEN + 11, now=0)

    assert breaker.allows(ACCOUNT, 5)


def test_a_trial_that_was_not_made_can_be_given_back(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    breaker.allows(ACCOUNT, 5)
    breaker.give_back(ACCOUNT)
    breaker.give_back(OTHER)

    assert breaker.allows(ACCOUNT, 5)
    assert not breaker.allows(ACCOUNT, 5)


def test_a_trial_that_never_reports_back_does_not_shut_the_account_for_ever(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    breaker.allows(ACCOUNT, 5)

    assert not breaker.allows(ACCOUNT, 5 + TRIAL_LASTS - 1)
    assert breaker.allows(ACCOUNT, 5 + TRIAL_LASTS)


def test_a_circuit_is_told_as_open_from_the_fifth_failure_on(breaker):
    fail(breaker, FAILURES_TO_OPEN - 1)
    assert breaker.open(0) == []

    fail(breaker, 1)
    assert breaker.open(0) == [ACCOUNT]


def test_a_circuit_is_told_as_open_while_a_trial_is_out_and_until_one_succeeds(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    breaker.allows(ACCOUNT, 5)
    assert breaker.open(6) == [ACCOUNT]

    breaker.record(ACCOUNT, ok=True, now=7)
    assert breaker.open(7) == []


def test_a_circuit_that_no_one_tries_again_is_told_for_a_while_only(breaker):
    fail(breaker, FAILURES_TO_OPEN)

    assert breaker.open(5 + TOLD_FOR - 0.001) == [ACCOUNT]
    assert breaker.open(5 + TOLD_FOR) == []


def test_the_account_that_failed_most_is_told_first(breaker):
    fail(breaker, FAILURES_TO_OPEN)
    for _ in range(FAILURES_TO_OPEN + 1):
        breaker.record(OTHER, ok=False, now=0.0)

    assert breaker.open(0) == [OTHER, ACCOUNT]
