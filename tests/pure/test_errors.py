"""What the database refuses, in our words; and what every refusal carries."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from refund_service.db.errors import (
    WRITE_REFUSED,
    Busy,
    DatabaseUnavailable,
    Deadlock,
    Duplicate,
    IdempotencyKeyInUse,
    InvariantBroken,
    WriteRefused,
    translate,
)
from refund_service.errors import Conflict, RefundServiceError, Unavailable, Unprocessable


class OfTheDriver(Exception):
    """An error as asyncpg raises it: its attributes are what PostgreSQL told."""

    def __init__(self, **told: Any) -> None:
        super().__init__("ERROR: a text with the failing row in it")
        vars(self).update(told)


def database_said(sqlstate: str | None, *, lost: bool = False, **told: Any) -> DBAPIError:
    cause = OfTheDriver(sqlstate=sqlstate, **told)
    # SQLAlchemy wraps the driver's error in its own, with the driver's as the cause.
    wrapped = OfTheDriver(sqlstate=sqlstate)
    wrapped.__cause__ = cause
    return DBAPIError("SELECT 1", {}, wrapped, connection_invalidated=lost)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("RF001", WriteRefused),
        ("23505", Duplicate),
        ("40P01", Deadlock),
        ("40001", Deadlock),
        ("25006", DatabaseUnavailable),  # demoted: a failover is under way
        ("28P01", DatabaseUnavailable),
        ("3D000", DatabaseUnavailable),
        ("55P03", Busy),
        ("57014", Busy),
        ("23514", InvariantBroken),
        ("23503", InvariantBroken),
        ("23502", InvariantBroken),
        ("08006", DatabaseUnavailable),
        ("53300", DatabaseUnavailable),
        ("57P01", DatabaseUnavailable),
        (None, DatabaseUnavailable),
    ],
)
def test_what_the_database_says_is_told_in_our_words(sqlstate: str | None, kind: type[Exception]) -> None:
    assert type(translate(database_said(sqlstate))) is kind


def test_a_refused_write_names_its_guard_and_a_duplicate_its_constraint() -> None:
    refused = translate(database_said("RF001", message="payment"))
    assert isinstance(refused, WriteRefused)
    assert refused.guard == "payment"
    taken = translate(database_said("23505", constraint_name="uq_refunds_reference"))
    assert isinstance(taken, Duplicate)
    assert taken.constraint == "uq_refunds_reference"


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        ('while inserting index tuple (0,5) in relation "idempotency_keys"', IdempotencyKeyInUse),
        ('while updating tuple (0,5) in relation "payments"', Busy),
        (None, Busy),
    ],
)
def test_waiting_on_a_key_is_told_from_waiting_on_a_row(context: str | None, kind: type[Exception]) -> None:
    told = translate(database_said("55P03", context=context))
    assert type(told) is kind
    assert isinstance(told, RefundServiceError)
    assert (told.retryable, told.retry_after) == (True, 1)


@pytest.mark.parametrize("error", [OSError("refused"), ConnectionResetError(), TimeoutError()])
def test_a_database_that_does_not_answer_is_away(error: Exception) -> None:
    assert type(translate(error)) is DatabaseUnavailable


def test_a_connection_that_broke_means_away_whatever_it_said() -> None:
    assert type(translate(database_said("XX000", lost=True))) is DatabaseUnavailable


def test_a_connection_that_breaks_while_it_is_made_is_told_as_any_other() -> None:
    # SQLAlchemy's pool raises its own kind of error there, which is none of its documented ones.
    broken = AsyncAdapt_asyncpg_dbapi.Error("connection was closed in the middle of operation")
    broken.__cause__ = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    assert type(translate(broken)) is DatabaseUnavailable


def test_a_pool_that_is_used_up_is_busy() -> None:
    assert type(translate(PoolTimeout("QueuePool limit"))) is Busy


@pytest.mark.parametrize(
    "error",
    [ValueError("ours"), InvalidRequestError("ours"), IntegrityError("x", {}, OfTheDriver(sqlstate="42P01"))],
)
def test_what_is_a_mistake_of_ours_stays_what_it_is(error: Exception) -> None:
    assert translate(error) is error


def test_no_refusal_repeats_what_the_database_wrote() -> None:
    for sqlstate in ("23514", "23503", "55P03", "57014", "08006", None):
        assert "failing row" not in str(translate(database_said(sqlstate)))


class TooMuch(Unprocessable):
    code = "too-much"
    title = "Too much"
    help = "Ask for less."


def test_a_refusal_carries_its_sentence_its_facts_and_the_ways_on() -> None:
    refusal = TooMuch("Only 4 are left.", asked=5, available=4, links={"payment": "/v1/payments/pay_1"})
    assert str(refusal) == refusal.detail == "Only 4 are left."
    assert refusal.facts == {"asked": 5, "available": 4}
    assert refusal.links == {"payment": "/v1/payments/pay_1"}
    assert (refusal.status, refusal.retryable, refusal.retry_after) == (422, False, None)


def test_a_wait_that_is_named_wins_over_the_usual_one() -> None:
    assert Busy("x").retry_after == 1
    assert Busy("x", retry_after=7).retry_after == 7
    assert Busy.retry_after == 1


def test_the_families_of_refusals_have_their_status() -> None:
    assert (Conflict.status, Unprocessable.status, Unavailable.status) == (409, 422, 503)
    assert (Conflict.retryable, Unprocessable.retryable, Unavailable.retryable) == (False, False, True)


def test_the_state_that_our_function_raises_is_the_one_that_is_read() -> None:
    assert type(translate(database_said(WRITE_REFUSED, message="payment"))) is WriteRefused
