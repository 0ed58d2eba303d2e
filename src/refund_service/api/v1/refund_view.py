"""What a refund looks like to a caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from pydantic import Field

from refund_service import ids
from refund_service.api.pages import (
    Page,
)
from refund_service.api.wire import (
    Moment,
    PublicId,
    Wire,
)
from refund_service.money import decimal_of
from refund_service.refunds.failures import explain_failure
from refund_service.refunds.queries import available_of_view
from refund_service.refunds.states import Outcome, RefundEvent, Status, allows, outcome


class RefundPayment(Wire):
    """The payment that the refund is taken from, in minor units."""

    id: Annotated[UUID, PublicId("payment")]
    gateway_payment_id: str
    captured: int
    held: int
    refunded: int
    disputed: int
    available: int


class RefundDecision(Wire):
    """Why it was allowed."""

    id: Annotated[UUID, PublicId("decision")]
    outcome: str
    rule: str
    policy_version: int


class BankReferenceOut(Wire):
    """What the customer's bank knows it by."""

    type: str
    value: str
    status: str | None


class Failure(Wire):
    """Why it failed, for the merchant and in words for the customer."""

    code: str
    gateway_code: str | None
    merchant_text: str
    customer_text: str
    retryable: bool


class Attention(Wire):
    """Why a person must look, and since when."""

    code: str
    since: Moment


class RefundOut(Wire):
    """A refund as it now is."""

    id: Annotated[UUID, PublicId("refund")]
    livemode: bool
    status: Status
    outcome: Outcome
    amount: int = Field(description="In minor units")
    amount_decimal: str
    currency: str
    payment: RefundPayment
    order_id: str | None
    customer_id: str | None
    gateway_account: str
    reason: str
    channel: str | None
    ticket: str | None
    reference: str | None
    metadata: dict[str, str]
    decision: RefundDecision
    requested_by: str
    requested_at: Moment | None
    execute_after: Moment | None
    generation: int = Field(description="Rises only after a definite refusal, with each retry")
    replaces: Annotated[UUID, PublicId("refund")] | None
    gateway_refund_id: str | None
    bank_reference: BankReferenceOut | None
    failure: Failure | None
    attention: Attention | None
    due_at: Moment | None = Field(description="When this status is late")
    expected_by: Moment | None = Field(description="When the customer should have the money")
    created_at: Moment
    updated_at: Moment
    finished_at: Moment | None
    links: dict[str, str]


class RefundPage(Page[RefundOut]):
    """One page of refunds, newest first."""


def refund_out(row: Mapping[str, Any], *, livemode: bool) -> RefundOut:
    """A refund's view as the API shows it."""
    status = Status(row["status"])
    bank = row["bank_reference_value"]
    return RefundOut.model_construct(
        id=row["id"],
        livemode=livemode,
        status=status,
        outcome=outcome(status),
        amount=row["amount"],
        amount_decimal=decimal_of(row["amount"], row["currency"]),
        currency=row["currency"],
        payment=RefundPayment.model_construct(
            id=row["payment_id"],
            gateway_payment_id=row["payment_gateway_payment_id"],
            captured=row["payment_captured"],
            held=row["payment_held"],
            refunded=row["payment_refunded"],
            disputed=row["payment_disputed"],
            available=available_of_view(row),
        ),
        order_id=row["order_name"],
        customer_id=row["customer_name"],
        gateway_account=row["account_name"],
        reason=row["reason"],
        channel=row["channel"],
        ticket=row["ticket"],
        reference=row["reference"],
        metadata=row["metadata"],
        decision=RefundDecision.model_construct(
            id=row["decision_id"],
            outcome=row["decision_outcome"],
            rule=row["decision_rule"],
            policy_version=row["decision_policy_version"],
        ),
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        execute_after=row["execute_after"],
        generation=row["generation"],
        replaces=row["replaces"],
        gateway_refund_id=row["gateway_refund_id"],
        bank_reference=BankReferenceOut(
            type=row["bank_reference_type"], value=bank, status=row["bank_reference_status"]
        )
        if bank
        else None,
        failure=_failure(row),
        attention=Attention(code=row["attention"], since=row["attention_since"])
        if row["attention"]
        else None,
        due_at=row["due_at"],
        expected_by=row["expected_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
        links=_links(row, status),
    )


def _failure(row: Mapping[str, Any]) -> Failure | None:
    if row["failure_code"] is None:
        return None
    told = explain_failure(row["failure_code"])
    return Failure(
        code=row["failure_code"],
        gateway_code=row["failure_gateway_code"],
        merchant_text=told.merchant_text,
        customer_text=told.customer_text,
        retryable=told.retryable,
    )


def _links(row: Mapping[str, Any], status: Status) -> dict[str, str]:
    here = f"/v1/refunds/{ids.show('refund', row['id'])}"
    links = {
        "self": here,
        "payment": f"/v1/payments/{ids.show('payment', row['payment_id'])}",
        "decision": f"/v1/decisions/{ids.show('decision', row['decision_id'])}",
        "attempts": f"{here}/attempts",
        "events": f"{here}/events",
    }
    if row["order_name"] is not None:
        links["order"] = f"/v1/orders/{quote(row['order_name'])}"
    if allows(status, RefundEvent.CANCEL):
        links["cancel"] = f"{here}/cancel"
    if allows(status, RefundEvent.RETRY):
        links["retry"] = f"{here}/retry"
    return links
