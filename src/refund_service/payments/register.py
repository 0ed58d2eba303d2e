"""Register a capture, with its order, lines and customer where they are told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Busy, Duplicate, WriteRefused
from refund_service.db.writeset import WriteSet
from refund_service.idempotency.keys import Claim, claim_binds, claim_key, kept_under
from refund_service.payments.new import NewPayment
from refund_service.payments.registration import add_registration, registration_binds
from refund_service.payments.surroundings import (
    explain_reference,
    read_surroundings,
    refuse_contradiction,
    refuse_more_back_than_came_in,
    refuse_other_lines,
    refuse_what_has_not_come_in,
)

TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Registered:
    """The payment, and whether this request made it."""

    payment_id: UUID
    created: bool
    replayed: bool = False


async def register_payment(
    db: Database, merchant_id: UUID, new: NewPayment, *, claim: Claim | None, actor: str, now: datetime
) -> Registered:
    """Write the capture down once: the same gateway payment again is the same payment.

    Raises ``PaymentExists`` or ``OrderExists`` where it contradicts what is registered.
    """
    refuse_more_back_than_came_in(new)
    for _ in range(TRIES):
        if kept := await kept_under(db, merchant_id, claim):
            return Registered(kept.resource_id, created=True, replayed=True)
        around = await read_surroundings(db, merchant_id, new)
        if around.payment is not None:
            # It may be this very request, sent twice, that has registered it since the key was read.
            if kept := await kept_under(db, merchant_id, claim):
                return Registered(kept.resource_id, created=True, replayed=True)
            refuse_contradiction(around.payment, new)
            return Registered(around.payment["id"], created=False)
        await refuse_other_lines(db, merchant_id, around, new)
        refuse_what_has_not_come_in(new, now=now)

        payment_id = ids.new_id()
        binds = registration_binds(merchant_id, payment_id, new, around, actor=actor, now=now)
        try:
            if claim is None:
                await db.write(_REGISTER, **binds)
            else:
                await db.write(_REGISTER_KEYED, **binds, **claim_binds(claim, 201, "payment", payment_id))
        except (WriteRefused, Duplicate) as refusal:
            await explain_reference(db, merchant_id, refusal, new)
            continue  # someone was faster: read again what is there now
        return Registered(payment_id, created=True)
    raise Busy("The same payment, order or customer is being registered by others.")


def _register(*, keyed: bool) -> Select[Any]:
    write = WriteSet("payments.register")
    if keyed:
        claim_key(write)
    add_registration(write)
    return write.done()


_REGISTER: Final = _register(keyed=False)
_REGISTER_KEYED: Final = _register(keyed=True)
