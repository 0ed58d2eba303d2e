"""Ask for a refund: read the facts, decide, and write everything once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from refund_service import ids
from refund_service.db.engine import Database
from refund_service.db.errors import Busy, Duplicate, WriteRefused
from refund_service.gateways.registry import gateway_named
from refund_service.idempotency.keys import Kept, claim_binds, kept_as
from refund_service.money import Money
from refund_service.orders.tell import OrderNotFound
from refund_service.payments.errors import (
    PaymentAmbiguous,
    PaymentNotFound,
    ReferenceExists,
)
from refund_service.payments.registration import registration_binds
from refund_service.payments.surroundings import (
    Surroundings,
    explain_reference,
    read_surroundings,
    refuse_contradiction,
    refuse_more_back_than_came_in,
    refuse_other_lines,
    refuse_what_has_not_come_in,
)
from refund_service.policies.evaluate import Facts, evaluate
from refund_service.policies.publish import rules_of
from refund_service.policies.verdicts import Verdict
from refund_service.refunds.as_created import as_created
from refund_service.refunds.ask import By, PaymentFacts, RefundAsked, RequestFacts, read_facts
from refund_service.refunds.creation import (
    CREATE,
    QUEUED_IS_LATE_AFTER,
    REFUSE,
    Asker,
    decision_binds,
    refund_binds,
)
from refund_service.refunds.impossible import refuse_impossible, whole_rest
from refund_service.refunds.queries import Refund, refund_by_reference
from refund_service.refunds.refusals import refusal_again, refusal_of, refused_binds

TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Requested:
    """The refund that the request made, or had made before."""

    refund_id: UUID
    replayed: bool
    refund: Refund | None = None
    """As it was made, where that is known without reading it."""


async def request_refund(
    db: Database, merchant_id: UUID, asked: RefundAsked, *, asker: Asker, now: datetime
) -> Requested:
    """Set the amount aside, write down who decided what, and promise to send it; or say why not.

    The same key answers what it made before. Nothing is written on a conflict; a policy's
    refusal is written down and raised as ``RefundRefused``.
    """
    for _ in range(TRIES):
        facts = await read_facts(db, merchant_id, asked)
        if kept := kept_as(facts.kept, asked.claim):
            return await _replay(db, merchant_id, kept)
        met = await _meet(db, merchant_id, asked, facts, now=now)
        if kept := kept_as(met.facts.kept, asked.claim):
            return await _replay(db, merchant_id, kept)
        facts, payment = met.facts, met.payment
        amount = asked.amount if asked.amount is not None else whole_rest(payment)
        await refuse_impossible(db, merchant_id, asked, facts, payment=payment, amount=amount)

        weighed = Facts(Money(amount, payment.currency), payment.captured_at, now, asked.reason)
        decision = evaluate(rules_of(merchant_id, facts.policy_version, facts.policy_rules), weighed)
        allowed = decision.outcome is Verdict.ALLOWED
        refund_id, decision_id = ids.new_id(), ids.new_id()

        binds = decision_binds(
            merchant_id,
            decision_id,
            payment.id,
            decision,
            weighed,
            policy_version=facts.policy_version or 0,
            refund_id=refund_id if allowed else None,
            asker=asker,
            now=now,
        )
        if met.around is not None and asked.inline is not None:
            binds |= registration_binds(
                merchant_id,
                payment.id,
                asked.inline,
                met.around,
                actor=asker.actor,
                now=now,
                held=amount if allowed else 0,
            )
        inline = met.around is not None
        try:
            if not allowed:
                binds |= claim_binds(asked.claim, 422, "decision", decision_id)
                told = refused_binds(decision_id, payment.id, payment.order_name, decision.rule)
                await db.write(REFUSE[inline, True], **binds, **told)
                raise refusal_of(decision_id, decision.rule, decision.explanation)
            traits = gateway_named(payment.account_gateway).traits(payment.account_settings)
            refund = refund_binds(
                refund_id,
                asked,
                payment,
                amount,
                asker=asker,
                due_at=max(now, asked.execute_after or now) + QUEUED_IS_LATE_AFTER,
                expected_by=max(now, asked.execute_after or now) + traits.arrives_within,
            )
            # A new inline payment knows its order and customer rows best.
            refund |= {name: binds[name] for name in ("order_row", "customer_row") if name in binds}
            binds |= claim_binds(asked.claim, 201, "refund", refund_id) | refund
            if not inline:
                binds["expected_available"] = asked.expected_available
            written = await db.write(CREATE[inline], **binds)
        except (WriteRefused, Duplicate) as refused:
            await _explain(db, merchant_id, asked, refused)
            continue  # the facts moved between reading and writing: read them again
        # What an inline payment brought along has been found or made by the write itself: read it.
        made = None if inline else as_created(binds, payment, written)
        return Requested(refund_id, replayed=False, refund=made)
    raise Busy("Others keep changing the same payment.")


# --- meeting the facts -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Met:
    facts: RequestFacts
    """The latest: of a payment that comes with the request they are read after it was found."""
    payment: PaymentFacts
    around: Surroundings | None
    """Set where the payment is new and comes with the request."""


async def _meet(
    db: Database, merchant_id: UUID, asked: RefundAsked, facts: RequestFacts, *, now: datetime
) -> _Met:
    if asked.inline is None:
        return _Met(facts, _the_payment(asked, facts), None)
    around = await read_surroundings(db, merchant_id, asked.inline)
    if around.payment is None:
        refuse_more_back_than_came_in(asked.inline)
        refuse_what_has_not_come_in(asked.inline, now=now)
        await refuse_other_lines(db, merchant_id, around, asked.inline)
        return _Met(facts, _inline_payment(asked, around), around)
    # It is registered already: the same as if it had been named by its id.
    refuse_contradiction(around.payment, asked.inline)
    known = replace(asked, by=By.PAYMENT, name=around.payment["id"])
    facts = await read_facts(db, merchant_id, known)
    return _Met(facts, _the_payment(known, facts), None)


def _the_payment(asked: RefundAsked, facts: RequestFacts) -> PaymentFacts:
    if not facts.payments:
        if asked.by is By.ORDER:
            raise OrderNotFound(f"No payment of an order {asked.name!r} is registered.", order_id=asked.name)
        raise PaymentNotFound("This merchant has no such payment.")
    if len(facts.payments) == 1:
        return facts.payments[0]
    refundable = [payment for payment in facts.payments if payment.available > 0]
    if len(refundable) == 1:
        return refundable[0]
    if not refundable:
        return facts.payments[0]
    raise PaymentAmbiguous(
        f"{len(refundable)} payments could be refunded.",
        payments=[
            {
                "payment_id": ids.show("payment", payment.id),
                "gateway_account": payment.account_name,
                "available": payment.available,
                "currency": payment.currency,
            }
            for payment in refundable
        ],
    )


def _inline_payment(asked: RefundAsked, around: Surroundings) -> PaymentFacts:
    new = asked.inline
    assert new is not None  # noqa: S101 - the caller has looked
    return PaymentFacts(
        id=ids.new_id(),
        currency=new.captured.currency,
        captured=new.captured.minor,
        held=0,
        refunded=new.already_refunded,
        disputed=0,
        captured_at=new.captured_at,
        gateway_payment_id=new.gateway_payment_id,
        order_id=None,
        order_name=new.order.order_id if new.order else None,
        customer_id=None,
        customer_name=None,
        account_id=around.account["id"],
        account_name=around.account["name"],
        account_gateway=around.account["gateway"],
        account_settings=around.account["settings"],
        registered=False,
    )


async def _replay(db: Database, merchant_id: UUID, kept: Kept) -> Requested:
    if kept.kind == "decision":
        raise await refusal_again(db, merchant_id, kept.resource_id)
    return Requested(kept.resource_id, replayed=True)


async def _explain(
    db: Database, merchant_id: UUID, asked: RefundAsked, refused: WriteRefused | Duplicate
) -> None:
    if isinstance(refused, Duplicate) and refused.constraint == "uq_refunds_reference":
        owner = await refund_by_reference(db, merchant_id, asked.reference)
        raise ReferenceExists(
            f"{asked.reference!r} names another refund.",
            reference=asked.reference,
            refund_id=ids.show("refund", owner) if owner else None,
            links={"refund": f"/v1/refunds/{ids.show('refund', owner)}"} if owner else None,
        ) from refused
    if asked.inline is not None:
        await explain_reference(db, merchant_id, refused, asked.inline)
