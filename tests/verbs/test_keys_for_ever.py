"""A key is kept for ever: after a year it answers as on the first day, and after many more it is found as fast."""

from __future__ import annotations

from typing import Any, cast

from clockwork import Clock
from explained import Explained, scans_of
from house import House, Shop
from over_http import problem
from sqlalchemy import text

from refund_service.db.engine import Database
from refund_service.idempotency.keys import Claim, kept_under
from refund_service.refunds.ask import By, RefundAsked, read_facts

MANY = 100_000
AGE = """
UPDATE payments SET captured_at = captured_at - interval '400 days', created_at = created_at - interval '400 days';
UPDATE refunds SET created_at = created_at - interval '400 days', updated_at = updated_at - interval '400 days',
    finished_at = finished_at - interval '400 days';
UPDATE idempotency_keys SET created_at = created_at - interval '400 days'
"""


async def age(db: Database) -> None:
    """All that is written was written more than a year ago."""
    async with db.transaction() as tx:
        for statement in AGE.split(";"):
            await tx.execute(text(statement))


async def test_a_key_acts_once_a_year_later_too(own_house: House, own_shop: Shop) -> None:  # IDM-24
    await own_house.start_worker()
    payment = await own_shop.pay(5990)
    refund = await own_shop.refund(payment, 1250, key="last-year")
    no_more = problem(await own_shop.ask(payment, 4741, key="free"), 422, "amount-exceeds-available")
    await age(own_house.parts.db)
    await Clock(own_house).turn(days=400)
    # By now the policy would refuse it: whoever repeats it does not ask again.
    problem(await own_shop.ask(payment, 1250, key="this-year"), 422, "refund-refused")

    again = await own_shop.ask(payment, 1250, key="last-year")
    other = await own_shop.ask(payment, 1251, key="last-year")

    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert (again.json()["id"], again.json()["status"]) == (refund["id"], "succeeded")
    problem(other, 422, "idempotency-key-reused")
    assert (await own_shop.count("refunds"), len(own_shop.executions())) == (1, 1)
    assert no_more["available"] == (await own_shop.payment(payment))["available"] == 4740


FILL = """
INSERT INTO idempotency_keys (merchant_id, key, fingerprint, status_code, kind, resource_id, created_at)
SELECT :merchant_id, md5(n::text), decode(md5(n::text), 'hex'), 201, 'payment', :payment_id, now()
FROM generate_series(1, :many) n
"""


def buffers(plan: dict[str, Any]) -> int:
    hit, read = plan["Shared Hit Blocks"], plan["Shared Read Blocks"]
    assert isinstance(hit, int)
    assert isinstance(read, int)
    return hit + read


async def test_a_key_is_found_among_a_hundred_thousand_without_looking_through_them(  # IDM-39
    own_house: House, own_shop: Shop
) -> None:
    db, payment = own_house.parts.db, await own_shop.pay()
    payment_id = await db.value(text("SELECT id FROM payments"))
    async with db.transaction() as tx:
        filled = {"merchant_id": own_shop.merchant_id, "payment_id": payment_id, "many": MANY}
        await tx.execute(text(FILL), filled)
        await tx.execute(text("ANALYZE"))
    claim = Claim("c4ca4238a0b923820dcc509a6f75849b", bytes.fromhex("c4ca4238a0b923820dcc509a6f75849b"))
    asked = RefundAsked(By.PAYMENT, payment_id, 100, "damaged", claim)

    for look_up in (
        lambda db: kept_under(db, own_shop.merchant_id, claim),
        lambda db: read_facts(db, own_shop.merchant_id, asked),
    ):
        explained = Explained(db, analyze=True)
        with_rows = cast("Any", explained)
        await look_up(with_rows)
        (scan,) = (one for one in scans_of(explained.plan) if one["Index Name"] == "pk_idempotency_keys")
        assert (scan["Node Type"], scan["Actual Rows"]) in {("Index Scan", 1), ("Index Only Scan", 1)}
        assert buffers(scan) <= 6, "the root, its branches, the leaf and the row"

    assert (await own_shop.ask(payment, 100)).status_code == 201
