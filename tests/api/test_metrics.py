"""What Prometheus is told, and that it is told something whatever is the matter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from clockwork import Clock
from fault_proxy import Fault, FaultProxy
from house import House, Shop, settings_for
from sqlalchemy import text
from structlog.testing import capture_logs

from refund_service import ids
from refund_service.api.ops import NAMED_BREAKERS, Health
from refund_service.app import put_together
from refund_service.clock import seconds, utc_now
from refund_service.gateways.breaker import FAILURES_TO_OPEN, Breaker
from refund_service.refunds.watch import watch_refunds
from refund_service.reports.rounds import go_round
from refund_service.reports.verify import CHECKS

Numbers = dict[str, float]


async def scrape(health: Health) -> Numbers:
    """Every number that a scrape is told, by its name and labels."""
    transport = httpx.ASGITransport(app=health.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as prometheus:
        reply = await prometheus.get("/metrics")
    assert reply.status_code == 200
    lines = (line.rsplit(" ", 1) for line in reply.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def of_the_house(numbers: Numbers) -> set[str]:
    """What was read from the database, of all that was told."""
    names = ("open_refunds", "oldest_open", "overdue", "attention", "job_lag", "workers", "verify")
    return {name for name in numbers if name.startswith(tuple(f"refund_{one}" for one in names))}


# The database


@asynccontextmanager
async def behind_a_line(house: House) -> AsyncIterator[tuple[FaultProxy, Health]]:
    url = house.parts.settings.database_url.get_secret_value()
    async with FaultProxy.before(url) as line:
        parts = put_together(settings_for(line.instead(url)))
        yield line, Health(parts.db)
        await parts.db.close()


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.BLACKHOLE])
async def test_a_scrape_is_answered_while_the_database_is_away(house: House, fault: Fault) -> None:
    async with behind_a_line(house) as (line, health):
        there = await scrape(health)
        assert there["refund_database_up"] == 1
        assert of_the_house(there)

        line.turn(fault)
        if fault is Fault.REFUSE:
            line.abort_all()
        with capture_logs():
            away = await scrape(health)

        assert away["refund_database_up"] == 0
        # An old number would pass for a new one: no worker is not the same as no one to ask.
        assert of_the_house(away) == set()
        assert "refund_jobs_total" in " ".join(away)

        line.turn(Fault.NONE)
        assert (await scrape(health))["refund_database_up"] == 1


async def test_a_scrape_is_answered_on_a_schema_that_this_code_does_not_know(own_house: House) -> None:
    health = Health(own_house.parts.db)
    await own_house.parts.db.rows(text("ALTER TABLE verifications RENAME TO elsewhere"))
    with capture_logs() as told:
        assert (await scrape(health))["refund_database_up"] == 0
    assert [line["event"] for line in told] == ["metrics.no_database"]

    await own_house.parts.db.rows(text("ALTER TABLE elsewhere RENAME TO verifications"))
    assert (await scrape(health))["refund_database_up"] == 1


# What is open


async def test_what_is_not_to_be_sent_before_its_time_is_neither_old_nor_late_before_it(
    own_shop: Shop,
) -> None:
    house = own_shop.house
    clock, health = Clock(house), Health(house.parts.db)
    later = utc_now() + timedelta(hours=5)
    await own_shop.ask(await own_shop.pay(), 100, execute_after=later.isoformat())
    oldest = 'refund_oldest_open_seconds{status="queued"}'
    overdue = 'refund_overdue_seconds{status="queued"}'

    await clock.jump(hours=4)
    early = await scrape(health)
    assert early[oldest] == early[overdue] == 0
    await clock.jump(hours=2)
    late = await scrape(health)
    assert 3600 <= late[oldest] < 3700
    assert 45 * 60 <= late[overdue] < 46 * 60

    await own_shop.ask(await own_shop.pay(), 100)
    await clock.jump(hours=1)
    assert 7 * 3600 <= (await scrape(health))[oldest] < 7 * 3600 + 100


async def test_a_refund_stays_late_when_it_is_touched(own_shop: Shop) -> None:
    house = own_shop.house
    clock, health = Clock(house), Health(house.parts.db)
    refund = (await own_shop.ask(await own_shop.pay(), 100)).json()
    overdue = 'refund_overdue_seconds{status="queued"}'
    await clock.jump(minutes=14)
    assert (await scrape(health))[overdue] == 0

    await clock.jump(minutes=11)
    await watch_refunds(house.parts.db, now=utc_now() + timedelta(minutes=25))
    await own_shop.client.patch(f"/v1/refunds/{refund['id']}", json={"metadata": {"a": "b"}})
    numbers = await scrape(health)
    assert numbers["refund_attention"] == 1
    assert 600 <= numbers[overdue] < 660

    await own_shop.client.post(f"/v1/refunds/{refund['id']}/cancel")
    assert (await scrape(health))[overdue] == 0


# Breakers


def failing(*accounts: UUID) -> Breaker:
    breaker = Breaker()
    for account in accounts:
        for _ in range(FAILURES_TO_OPEN):
            breaker.record(account, ok=False, now=seconds())
    return breaker


def breakers_of(numbers: Numbers) -> Numbers:
    return {name: value for name, value in numbers.items() if name.startswith("refund_breaker_open")}


async def test_an_open_breaker_is_told_until_its_account_answers(house: House) -> None:
    account = uuid4()
    health = Health(house.parts.db, failing(account))
    shown = ids.show("gateway_account", account)
    assert breakers_of(await scrape(health)) == {f'refund_breaker_open{{gateway_account="{shown}"}}': 1}

    health.breaker.record(account, ok=True, now=seconds())
    assert breakers_of(await scrape(health)) == {}


async def test_the_names_of_accounts_are_bounded(house: House) -> None:
    named = [uuid4() for _ in range(NAMED_BREAKERS)]
    at_the_edge = breakers_of(await scrape(Health(house.parts.db, failing(*named))))
    assert len(at_the_edge) == NAMED_BREAKERS
    assert set(at_the_edge.values()) == {1}

    beyond = breakers_of(await scrape(Health(house.parts.db, failing(*named, uuid4(), uuid4()))))
    assert len(beyond) == NAMED_BREAKERS + 1
    assert beyond['refund_breaker_open{gateway_account="others"}'] == 2


# Verify


async def test_what_the_last_round_saw_is_told_by_every_process(own_house: House, own_shop: Shop) -> None:
    db, clock = own_house.parts.db, Clock(own_house)
    first, second = Health(db), Health(put_together(own_house.parts.settings).db)
    await clock.jump(hours=2)
    unseen = await scrape(first)
    assert 2 * 3600 <= unseen["refund_verify_age_seconds"] < 3 * 3600
    assert not [name for name in unseen if name.startswith("refund_verify_violations")]

    await go_round(db)
    seen = await scrape(first)
    assert seen["refund_verify_age_seconds"] < 60
    violations = {name: seen[name] for name in seen if name.startswith("refund_verify_violations")}
    assert len(violations) == len(CHECKS)
    assert set(violations.values()) == {0}

    await own_shop.pay()
    await db.rows(text("UPDATE payments SET held = 7"))
    await clock.jump(hours=2)
    with capture_logs() as told:
        await go_round(db)
    says = "what a payment holds is the sum of its refunds whose end is not known"
    held = f'refund_verify_violations{{check="{says}",promise="1"}}'
    assert [(line["event"], line["check"]) for line in told] == [("verify.promise_broken", says)]
    for health in (first, second):
        numbers = await scrape(health)
        assert numbers[held] == 1
        assert sum(numbers[name] for name in violations) == 1

    await db.rows(text("UPDATE payments SET held = 0"))
    await clock.jump(hours=2)
    await go_round(db)
    assert (await scrape(second))[held] == 0
    await second.db.close()


async def test_the_age_is_that_of_the_check_that_has_waited_longest(own_house: House) -> None:
    db = own_house.parts.db
    await go_round(db)
    late = text("UPDATE verifications SET looked_at = looked_at - interval '3 hours' WHERE says = :in_says")
    await db.rows(late, says=CHECKS[3][1])
    assert 3 * 3600 <= (await scrape(Health(db)))["refund_verify_age_seconds"] < 3 * 3600 + 60

    # What another version of the service has looked at says nothing here.
    strange = "INSERT INTO verifications VALUES ('a check of another version', 9, 1, now() - interval '9 d')"
    await db.rows(text(strange))
    numbers = await scrape(Health(db))
    assert numbers["refund_verify_age_seconds"] < 3 * 3600 + 60
    assert "another version" not in " ".join(numbers)
