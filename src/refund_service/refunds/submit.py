"""Mark a refund as being sent: the attempt with its key and its bytes, committed before they leave.

The one statement checks the lease, the stop switches and the account right before the send.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, DateTime, Select, exists, func, select, update
from sqlalchemy import case as sql_case

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.writeset import P, WriteSet
from refund_service.gateways.answers import PreparedRequest
from refund_service.gateways.tables import gateway_accounts, stop_switches
from refund_service.jobs.lease import Job, lease_binds, renewed
from refund_service.refunds.case import Case
from refund_service.refunds.creation import event_data
from refund_service.refunds.moves import add_history
from refund_service.refunds.states import AttemptState, Status, move, sending_event
from refund_service.refunds.tables import attempts, refunds

WORKER: Final = "worker"
"""Who caused what no person did."""


def _submit(*, first: bool) -> Select[Any]:
    write = WriteSet("refunds.submit")
    stopped = exists(
        select(stop_switches.c.scope).where(
            stop_switches.c.scope.in_((P("everything"), P("merchant_id"), P("account_id")))
        )
    )
    sendable = exists(
        select(gateway_accounts.c.id).where(
            gateway_accounts.c.merchant_id == P("merchant_id"),
            gateway_accounts.c.id == P("account_id"),
            gateway_accounts.c.status == "active",
        )
    )
    write.guard("lease", renewed().where(~stopped, sendable))
    moved = P("moved", Boolean)
    refund = write.guard(
        "refund",
        update(refunds)
        .where(
            refunds.c.merchant_id == P("merchant_id"),
            refunds.c.id == P("refund_id"),
            refunds.c.status == P("from_status"),
            refunds.c.generation == P("generation"),
        )
        .values(
            status=P("to_status"),
            version=refunds.c.version + sql_case((moved, 1), else_=0),
            # The same bytes sent once more to a gateway that is still at it change nothing that shows.
            due_at=sql_case((moved, P("due_at", DateTime(timezone=True))), else_=refunds.c.due_at),
            updated_at=sql_case((moved, P("now", DateTime(timezone=True))), else_=refunds.c.updated_at),
        ),
        refunds.c.version,
    )
    if first:
        write.insert(
            "attempt",
            attempts,
            {
                "merchant_id": P("merchant_id"),
                "refund_id": P("refund_id"),
                "generation": P("generation"),
                "key": P("gateway_key"),
                "method": P("method"),
                "path": P("path"),
                "headers": P("headers"),
                "body": P("body"),
                "state": AttemptState.SENDING.value,
                "ambiguous": P("ambiguous"),
                "sends": 1,
                "first_sent_at": func.db_now(),
                "last_sent_at": func.db_now(),
                "look_ups": 0,
                "misses": 0,
            },
        )
    else:
        write.guard(
            "attempt",
            update(attempts)
            .where(
                attempts.c.merchant_id == P("merchant_id"),
                attempts.c.refund_id == P("refund_id"),
                attempts.c.generation == P("generation"),
                attempts.c.state == P("attempt_state"),
            )
            .values(
                state=AttemptState.SENDING,
                sends=attempts.c.sends + 1,
                last_sent_at=func.db_now(),
                misses=0,
                first_missed_at=None,
            ),
        )
    add_history(write, refund, P("event"), moved=moved, tells=moved)
    return write.done(version=refund.c.version)


_SUBMIT: Final = {first: _submit(first=first) for first in (False, True)}


async def submit(
    db: Database, job: Job, case: Case, request: PreparedRequest, *, due_at: datetime, now: datetime
) -> None:
    """Commit the attempt as being sent.

    Raises ``WriteRefused("lease")`` where the lease is over, a stop switch is on or the account
    is paused, and ``WriteRefused("refund")`` where the refund was canceled or moved meanwhile.
    """
    event = sending_event(case.status)
    status = move(case.status, event) if event else case.status
    first = case.attempt is None
    binds: dict[str, Any] = {
        **lease_binds(job),
        "everything": ids.NIL,
        "merchant_id": case.merchant_id,
        "account_id": case.account.id,
        "refund_id": case.refund_id,
        "generation": case.generation,
        "from_status": case.status,
        "to_status": status,
        "moved": event is not None,
        "event": event,
        "due_at": due_at,
        "actor": WORKER,
        "now": now,
        "told_id": ids.new_id(),
        "told_type": f"refund.{status}",
        "told_resource": "refund",
        "told_resource_id": case.refund_id,
        "told_data": told(case, status),
    }
    if case.attempt is None:
        binds |= {
            "gateway_key": case.key,
            "method": request.method,
            "path": request.path,
            "headers": dict(request.headers),
            "body": request.body,
            "ambiguous": False,
        }
    else:
        binds |= {"attempt_state": case.attempt.state}
    await db.write(_SUBMIT[first], **binds)


def told(case: Case, status: Status, **more: Any) -> dict[str, Any]:
    """What an event about a worker's case tells."""
    figures = {
        "amount": case.amount.minor,
        "currency": case.amount.currency,
        "payment_id": case.payment_id,
        "reference": case.reference,
    }
    return event_data(case.refund_id, status, figures, order_name=case.order_name, **more)
