"""Read a worker's case in one statement, its account unsealed."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import and_, func, select

from refund_service.db.engine import Database, Row
from refund_service.db.writeset import P
from refund_service.gateways.accounts import open_account
from refund_service.gateways.answers import PreparedRequest
from refund_service.gateways.seal import Keyring
from refund_service.gateways.tables import gateway_accounts
from refund_service.money import Money
from refund_service.orders.tables import orders
from refund_service.payments.tables import payments
from refund_service.refunds.case import Case
from refund_service.refunds.next_step import Attempt
from refund_service.refunds.states import AttemptState, Status
from refund_service.refunds.tables import attempts, refunds

_r, _p, _a, _t, _o = refunds, payments, gateway_accounts, attempts, orders
_CASE: Final = (
    select(
        func.db_now().label("now"),
        *(
            _r.c[name]
            for name in (
                "status",
                "version",
                "generation",
                "amount",
                "currency",
                "reference",
                "reason",
                "idempotency_key",
                "execute_after",
                "attention",
                "gateway_refund_id",
                "metadata",
                "payment_id",
            )
        ),
        _p.c.gateway_payment_id,
        _p.c.metadata.label("payment_metadata"),
        _o.c.order_id.label("order_name"),
        _a.c.id.label("account_id"),
        _a.c.gateway,
        _a.c.base_url,
        _a.c.remote_account,
        _a.c.settings,
        _a.c.sealed_credentials,
        _a.c.sealing_key_id,
        _a.c.status.label("account_status"),
        *(column.label(f"attempt_{column.name}") for column in _t.c),
    )
    .select_from(_r)
    .join(_p, and_(_p.c.merchant_id == _r.c.merchant_id, _p.c.id == _r.c.payment_id))
    .join(_a, and_(_a.c.merchant_id == _r.c.merchant_id, _a.c.id == _r.c.gateway_account_id))
    .outerjoin(_o, and_(_o.c.merchant_id == _r.c.merchant_id, _o.c.id == _r.c.order_id))
    .outerjoin(
        _t,
        and_(
            _t.c.merchant_id == _r.c.merchant_id,
            _t.c.refund_id == _r.c.id,
            _t.c.generation == _r.c.generation,
        ),
    )
    .where(_r.c.merchant_id == P("merchant_id"), _r.c.id == P("refund_id"))
)


async def read_case(db: Database, keyring: Keyring, merchant_id: UUID, refund_id: UUID) -> Case | None:
    """The refund as it stands; ``None`` where there is no such row."""
    row = await db.row(_CASE, merchant_id=merchant_id, refund_id=refund_id)
    if row is None:
        return None
    sent = row["attempt_generation"] is not None
    return Case(
        now=row["now"],
        merchant_id=merchant_id,
        refund_id=refund_id,
        status=Status(row["status"]),
        version=row["version"],
        generation=row["generation"],
        amount=Money(row["amount"], row["currency"]),
        reference=row["reference"],
        reason=row["reason"],
        idempotency_key=row["idempotency_key"],
        execute_after=row["execute_after"],
        attention=row["attention"],
        gateway_refund_id=row["gateway_refund_id"],
        metadata=row["metadata"],
        payment_id=row["payment_id"],
        gateway_payment_id=row["gateway_payment_id"],
        payment_metadata=row["payment_metadata"],
        order_name=row["order_name"],
        account=open_account(keyring, merchant_id, row),
        account_active=row["account_status"] == "active",
        attempt=_attempt(row) if sent else None,
        request=PreparedRequest(
            row["attempt_method"], row["attempt_path"], row["attempt_headers"], bytes(row["attempt_body"])
        )
        if sent
        else None,
    )


def _attempt(row: Row) -> Attempt:
    return Attempt(
        state=AttemptState(row["attempt_state"]),
        ambiguous=row["attempt_ambiguous"],
        sends=row["attempt_sends"],
        first_sent_at=row["attempt_first_sent_at"],
        last_sent_at=row["attempt_last_sent_at"],
        look_ups=row["attempt_look_ups"],
        misses=row["attempt_misses"],
        first_missed_at=row["attempt_first_missed_at"],
        refusal_code=row["attempt_refusal_code"],
        refusal_gateway_code=row["attempt_refusal_gateway_code"],
        gateway_refund_id=row["attempt_gateway_refund_id"],
    )
