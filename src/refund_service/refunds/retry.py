"""Try a failed refund again: decided anew, held anew, sent as the next generation under a new gateway key."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Select, func, update

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Busy, Duplicate, WriteRefused
from refund_service.db.writeset import P, WriteSet
from refund_service.errors import RefundServiceError
from refund_service.idempotency.keys import Claim, Kept, claim_binds, claim_key, kept_under
from refund_service.jobs.enqueue import job_values
from refund_service.jobs.tables import URGENT, jobs
from refund_service.money import Money
from refund_service.payments.balance import available
from refund_service.payments.tables import payments
from refund_service.policies.evaluate import Facts, evaluate
from refund_service.policies.publish import current_policy, rules_of
from refund_service.policies.verdicts import Verdict
from refund_service.refunds.conclude import PENDING_AFTER_FAILURE
from refund_service.refunds.creation import (
    QUEUED_IS_LATE_AFTER,
    REFUSE,
    Asker,
    add_decision,
    decision_binds,
)
from refund_service.refunds.errors import AmountExceedsAvailable, RefundUnclear
from refund_service.refunds.moves import TRIES, Changed, add_history, move_binds, moved_refund, refuse_status
from refund_service.refunds.queries import Refund, available_of_view, get_refund
from refund_service.refunds.refusals import refusal_again, refusal_of, refused_binds
from refund_service.refunds.states import RefundEvent
from refund_service.refunds.tables import refunds


def _retry(*, keyed: bool, followed: bool) -> Select[Any]:
    write = WriteSet("refunds.retry")
    if keyed:
        claim_key(write)
    # The job before the refund, as the worker's writes take them: the other way round each would
    # wait for what the other holds.
    if followed:
        # Someone is asking after the failed refund: that job goes on with the new generation.
        write.guard(
            "job",
            update(jobs)
            .where(jobs.c.key == P("job_key"))
            .values(lease=None, run_at=func.db_now(), priority=URGENT, tries=0, because=None),
        )
    else:
        write.insert("job", *job_values(run_at=func.db_now()))
    refund = write.guard(
        "refund",
        moved_refund(
            refunds.c.attention.is_distinct_from(PENDING_AFTER_FAILURE),
            generation=refunds.c.generation + 1,
            gateway_refund_id=None,
            decision_id=P("decision_id"),
            due_at=P("due_at"),
            finished_at=None,
        ),
        refunds.c.version,
    )
    change = P("held_change", BigInteger)
    write.guard(
        "payment",
        # The hold was given back when it failed: others may have taken the rest meanwhile.
        update(payments)
        .where(
            payments.c.merchant_id == P("merchant_id"),
            payments.c.id == P("payment_id"),
            available(payments) >= change,
        )
        .values(held=payments.c.held + change, version=payments.c.version + 1, updated_at=P("now")),
    )
    add_decision(write, when=P("decided_anew", Boolean))
    add_history(write, refund, RefundEvent.RETRY)
    return write.done()


_RETRY: Final = {
    (keyed, followed): _retry(keyed=keyed, followed=followed)
    for keyed in (False, True)
    for followed in (False, True)
}


async def retry_refund(
    db: Database, merchant_id: UUID, refund_id: UUID, *, claim: Claim | None, asker: Asker, now: datetime
) -> Changed:
    """Decide under the policy in force, hold the amount again, and queue the next generation.

    Raises ``RefundNotInStatus``, ``RefundRefused`` where the policy now stands against it,
    ``AmountExceedsAvailable`` where the rest is no longer there, and ``RefundUnclear`` where the
    gateway works on what it had refused.
    """
    followed = False
    for _ in range(TRIES):
        if kept := await kept_under(db, merchant_id, claim):
            return await _replay(db, merchant_id, kept)
        refund = await get_refund(db, merchant_id, refund_id)
        try:
            _refuse_impossible(refund)
        except RefundServiceError:
            # It may be this very request, sent twice, that has moved it since the key was read.
            if kept := await kept_under(db, merchant_id, claim):
                return await _replay(db, merchant_id, kept)
            raise
        binds = await _decide(db, merchant_id, refund, claim=claim, asker=asker, now=now)
        binds |= move_binds(merchant_id, refund, RefundEvent.RETRY, actor=asker.actor, now=now)
        binds["due_at"] = now + QUEUED_IS_LATE_AFTER
        if not followed:
            binds |= {
                "job_id": ids.new_id(),
                "job_name": "refund",
                "job_lane": refund["gateway_account_id"],
                "job_subject_id": refund_id,
            }
        if claim is not None:
            binds |= claim_binds(claim, 200, "refund", refund_id)
        try:
            await db.write(_RETRY[claim is not None, followed], **binds)
        except (WriteRefused, Duplicate) as refused:
            # It moved between reading and writing; or a job follows it, or no longer does.
            if isinstance(refused, Duplicate):
                followed = refused.constraint == "uq_jobs_key"
            elif refused.guard == "job":
                followed = False
            continue
        return Changed(refund_id, replayed=False)
    raise Busy("Others keep changing the same refund.")


async def _decide(
    db: Database, merchant_id: UUID, refund: Refund, *, claim: Claim | None, asker: Asker, now: datetime
) -> dict[str, Any]:
    """The earlier decision holds while policy and facts do; else a new one takes its place, or refuses."""
    policy = await current_policy(db, merchant_id)
    weighed = Facts(
        Money(refund["amount"], refund["currency"]), refund["payment_captured_at"], now, refund["reason"]
    )
    decision = evaluate(rules_of(merchant_id, policy["version"], policy["rules"]), weighed)
    anew = policy["version"] != refund["decision_policy_version"]
    decision_id = ids.new_id() if anew or decision.outcome is Verdict.REFUSED else refund["decision_id"]
    binds = decision_binds(
        merchant_id,
        decision_id,
        refund["payment_id"],
        decision,
        weighed,
        policy_version=policy["version"],
        refund_id=refund["id"],
        asker=asker,
        now=now,
    )
    if decision.outcome is Verdict.REFUSED:
        told = refused_binds(decision_id, refund["payment_id"], refund["order_name"], decision.rule)
        kept = claim_binds(claim, 422, "decision", decision_id) if claim else {}
        await db.write(REFUSE[False, claim is not None], **binds, **told, **kept)
        raise refusal_of(decision_id, decision.rule, decision.explanation)
    return binds | {"decided_anew": anew}


async def _replay(db: Database, merchant_id: UUID, kept: Kept) -> Changed:
    if kept.kind == "decision":
        raise await refusal_again(db, merchant_id, kept.resource_id)
    return Changed(kept.resource_id, replayed=True)


def _refuse_impossible(refund: Refund) -> None:
    refuse_status(refund, RefundEvent.RETRY)
    if refund["attention"] == PENDING_AFTER_FAILURE:
        raise RefundUnclear(
            "The gateway had refused it and now works on it: a second sending could pay twice.",
            links={"refund": f"/v1/refunds/{ids.show('refund', refund['id'])}"},
        )
    left = available_of_view(refund)
    if left < refund["amount"]:
        raise AmountExceedsAvailable(
            "The hold was given back when the refund failed, and others have taken what was left.",
            asked=refund["amount"],
            available=left,
            disputed=refund["payment_disputed"],
            currency=refund["currency"],
            links={"payment": f"/v1/payments/{ids.show('payment', refund['payment_id'])}"},
        )
