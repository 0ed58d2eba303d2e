"""Write down what came of a call to the gateway: status, hold, attempt, history, event and job at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Delete,
    Integer,
    Select,
    Text,
    Update,
    func,
    or_,
    update,
)
from sqlalchemy import case as sql_case

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.writeset import P, WriteSet
from refund_service.jobs.lease import Job, done, lease_binds, put_back, renewed
from refund_service.payments.tables import payments
from refund_service.refunds.case import Case
from refund_service.refunds.conclude import Conclusion
from refund_service.refunds.moves import add_history
from refund_service.refunds.states import HOLDING, AttemptState, hold_change, move, refunded_change
from refund_service.refunds.submit import WORKER, told
from refund_service.refunds.tables import attempts, gateway_calls, refunds

_TOLD_BY_GATEWAY: Final = (
    "gateway_refund_id",
    "bank_reference_type",
    "bank_reference_value",
    "bank_reference_status",
)
_OF_FAILURE: Final = ("failure_code", "failure_gateway_code")


def _record(lease: Update | Delete) -> Select[Any]:
    write = WriteSet("refunds.record")
    write.guard("lease", lease)
    moved, tells = P("moved", Boolean), P("tells", Boolean)
    calls_person = P("attention", Text).is_not(None)
    settles = or_(moved, P("calm", Boolean))
    shown: dict[str, ColumnElement[Any]] = {
        "status": P("to_status", Text),
        **{name: func.coalesce(P(name, Text), refunds.c[name]) for name in _TOLD_BY_GATEWAY},
        **{name: sql_case((moved, P(name, Text)), else_=refunds.c[name]) for name in _OF_FAILURE},
        "attention": sql_case(
            (calls_person, P("attention", Text)), (settles, None), else_=refunds.c.attention
        ),
        # A status that is only confirmed does not become late later.
        "due_at": sql_case(
            (P("due_anew", Boolean), P("due_at", DateTime(timezone=True))),
            else_=func.coalesce(refunds.c.due_at, P("due_at", DateTime(timezone=True))),
        ),
        "finished_at": sql_case(
            (moved, P("finished_at", DateTime(timezone=True))), else_=refunds.c.finished_at
        ),
    }
    # A look-up that finds everything as it was makes no refund younger.
    changed = or_(*(refunds.c[name].is_distinct_from(value) for name, value in shown.items()))
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
            **shown,
            version=refunds.c.version + sql_case((tells, 1), else_=0),
            attention_since=sql_case(
                (calls_person, func.coalesce(refunds.c.attention_since, P("now", DateTime(timezone=True)))),
                (settles, None),
                else_=refunds.c.attention_since,
            ),
            updated_at=sql_case((changed, P("now", DateTime(timezone=True))), else_=refunds.c.updated_at),
        ),
        refunds.c.version,
    )
    touched = P("payment_touched", Boolean)
    held = payments.c.held + P("held_change", BigInteger)
    refunded = payments.c.refunded + P("refunded_change", BigInteger)
    write.guard(
        "payment",
        # What the gateway tells is recorded always; what exceeds the capture shows as excess.
        update(payments)
        .where(payments.c.merchant_id == P("merchant_id"), payments.c.id == P("payment_id"), touched)
        .values(
            held=held,
            refunded=refunded,
            excess=func.greatest(
                payments.c.excess, held + refunded + payments.c.disputed - payments.c.captured
            ),
            version=payments.c.version + 1,
            updated_at=P("now"),
        ),
        times=sql_case((touched, 1), else_=0),
    )
    tried = P("attempt_touched", Boolean)
    missed = P("missed", Boolean)
    write.guard(
        "attempt",
        update(attempts)
        .where(
            attempts.c.merchant_id == P("merchant_id"),
            attempts.c.refund_id == P("refund_id"),
            attempts.c.generation == P("generation"),
            tried,
        )
        .values(
            state=func.coalesce(P("attempt_state", Text), attempts.c.state),
            gateway_refund_id=func.coalesce(P("gateway_refund_id", Text), attempts.c.gateway_refund_id),
            ambiguous=or_(attempts.c.ambiguous, P("ambiguous", Boolean)),
            look_ups=attempts.c.look_ups + P("look_ups", Integer),
            misses=sql_case((missed.is_(None), attempts.c.misses), (missed, attempts.c.misses + 1), else_=0),
            first_missed_at=sql_case(
                (missed.is_(None), attempts.c.first_missed_at),
                (missed, func.coalesce(attempts.c.first_missed_at, func.db_now())),
                else_=None,
            ),
            refusal_code=func.coalesce(P("refusal_code", Text), attempts.c.refusal_code),
            refusal_gateway_code=func.coalesce(
                P("refusal_gateway_code", Text), attempts.c.refusal_gateway_code
            ),
        ),
        times=sql_case((tried, 1), else_=0),
    )
    write.insert(
        "call",
        gateway_calls,
        {
            "merchant_id": P("merchant_id"),
            "id": P("call_id"),
            "refund_id": P("refund_id"),
            "generation": P("generation"),
            "kind": P("call_kind"),
            "result": P("call_result"),
            "detail": P("call_detail"),
            "called_at": P("called_at"),
            "answered_at": P("answered_at"),
        },
        when=P("call_kind", Text).is_not(None),
    )
    add_history(write, refund, P("event"), moved=moved, tells=tells)
    return write.done(version=refund.c.version)


_AND_END: Final = _record(done())
_AND_WAIT: Final = _record(put_back())
_AND_GO_ON: Final = _record(renewed())


async def record(
    db: Database,
    job: Job,
    case: Case,
    said: Conclusion,
    *,
    now: datetime,
    goes_on: bool = False,
) -> None:
    """Write the conclusion.

    With ``goes_on`` the worker keeps its lease, because its next step follows at once.
    ``case.status`` and its generation are what the refund must still be. Raises
    ``WriteRefused("lease")`` where the worker came too late and ``WriteRefused("refund")`` where
    someone else has settled it: either way nothing is changed.
    """
    status = move(case.status, said.event) if said.event else case.status
    amount = case.amount.minor
    held, refunded = hold_change(case.status, status, amount), refunded_change(case.status, status, amount)
    calls_person = said.attention is not None and said.attention != case.attention
    tells = said.event is not None or calls_person
    bank, call = said.bank_reference, said.call
    binds: dict[str, Any] = {
        **lease_binds(job),
        "merchant_id": case.merchant_id,
        "refund_id": case.refund_id,
        "payment_id": case.payment_id,
        "generation": case.generation,
        "from_status": case.status,
        "to_status": status,
        "moved": said.event is not None,
        "tells": tells,
        "event": said.event,
        "gateway_refund_id": said.gateway_refund_id,
        "bank_reference_type": bank.type if bank else None,
        "bank_reference_value": bank.value if bank else None,
        "bank_reference_status": bank.status if bank else None,
        "failure_code": said.failure[0] if said.failure else None,
        "failure_gateway_code": said.failure[1] if said.failure else None,
        "attention": said.attention,
        "calm": said.calm,
        "due_at": now + said.due_in if said.due_in is not None else None,
        "due_anew": said.event is not None or _attempt_moves(case, said),
        "finished_at": None if status in HOLDING else now,
        "payment_touched": bool(held or refunded),
        "held_change": held,
        "refunded_change": refunded,
        "attempt_touched": case.attempt is not None or said.attempt_state is not None,
        "attempt_state": said.attempt_state,
        "ambiguous": said.ambiguous,
        "look_ups": said.look_ups,
        "missed": said.missed,
        "refusal_code": said.refusal[0] if said.refusal else None,
        "refusal_gateway_code": said.refusal[1] if said.refusal else None,
        "call_id": ids.new_id(),
        "call_kind": call.kind if call else None,
        "call_result": call.result if call else None,
        "call_detail": call.detail if call else None,
        "called_at": call.called_at if call else None,
        "answered_at": call.answered_at if call else None,
        "actor": WORKER,
        "now": now,
        "told_id": ids.new_id(),
        "told_type": f"refund.{status}" if said.event else "refund.needs_attention",
        "told_resource": "refund",
        "told_resource_id": case.refund_id,
        "told_data": told(case, status, attention=said.attention, **said.more),
    }
    if goes_on:
        statement = _AND_GO_ON
    elif said.wait is None:
        statement = _AND_END
    else:
        statement = _AND_WAIT
        # What failed together shall not come back together.
        wait = timedelta(seconds=ids.jitter(said.wait.total_seconds()))
        binds |= {"wait": wait, "because": said.because}
    await db.write(statement, **binds)


def _attempt_moves(case: Case, said: Conclusion) -> bool:
    """Whether the gateway told something new, though the status stays: accepted, and pending there."""
    # That it is still at it is nothing new, however often the same bytes are sent again.
    old = {None, AttemptState.WAITING}
    return case.attempt is not None and said.attempt_state not in old | {case.attempt.state}
