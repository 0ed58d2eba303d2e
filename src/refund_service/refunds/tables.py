"""Refunds, each move of their lives, their attempts, and every call made about them."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from refund_service.db.columns import (
    belongs_to,
    merchant_key,
    metadata,
    moment,
    of_merchant,
    one_of,
    row_id,
    text,
)
from refund_service.money import LARGEST_AMOUNT
from refund_service.refunds.states import RefundEvent, Status


class AttemptState(StrEnum):
    """What is known of the latest sending of an attempt."""

    SENDING = "sending"  # marked as being sent; no answer written down yet
    UNSENT = "unsent"  # nothing left this machine
    WAITING = "waiting"  # the gateway is still working on an earlier sending
    PENDING = "pending"  # the gateway has it and has not finished
    LOST = "lost"  # no one can say
    DONE = "done"
    REFUSED = "refused"


refunds = Table(
    "refunds",
    metadata,
    merchant_key(),
    row_id(),
    Column("payment_id", Uuid, nullable=False),
    Column("order_id", Uuid),
    Column("customer_id", Uuid),
    Column("gateway_account_id", Uuid, nullable=False),
    Column("amount", BigInteger, nullable=False),
    text("currency"),
    text("status"),
    text("reason"),
    text("channel", nullable=True),
    text("ticket", nullable=True),
    text("reference", nullable=True),
    Column("metadata", JSONB, nullable=False),
    Column("decision_id", Uuid, nullable=False),
    text("idempotency_key"),
    Column("generation", Integer, nullable=False),
    Column("replaces", Uuid),
    text("requested_by"),
    Column("requested_with", Uuid, nullable=False),
    moment("requested_at", nullable=True),
    moment("execute_after", nullable=True),
    text("gateway_refund_id", nullable=True),
    text("bank_reference_type", nullable=True),
    text("bank_reference_value", nullable=True),
    text("bank_reference_status", nullable=True),
    text("failure_code", nullable=True),
    text("failure_gateway_code", nullable=True),
    text("attention", nullable=True),
    moment("attention_since", nullable=True),
    moment("due_at", nullable=True),
    moment("expected_by", nullable=True),
    Column("version", Integer, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    moment("finished_at", nullable=True),
    of_merchant(),
    belongs_to("payments", "payment_id"),
    belongs_to("orders", "order_id"),
    belongs_to("customers", "customer_id"),
    belongs_to("gateway_accounts", "gateway_account_id"),
    belongs_to("decisions", "decision_id"),
    belongs_to("refunds", "replaces"),
    one_of("status", Status),
    CheckConstraint(f"amount BETWEEN 1 AND {LARGEST_AMOUNT}", name="amount"),
    CheckConstraint("(attention IS NULL) = (attention_since IS NULL)", name="attention"),
    Index("uq_refunds_reference", "merchant_id", "reference", unique=True),
    Index("uq_refunds_idempotency_key", "merchant_id", "idempotency_key", unique=True),
    # One gateway refund is one row: a webhook, a poll and the answer all find the same.
    Index(
        "uq_refunds_gateway_refund",
        "merchant_id",
        "gateway_account_id",
        "gateway_refund_id",
        unique=True,
    ),
    Index(None, "merchant_id", "status", "id"),
    Index(None, "merchant_id", "payment_id", "id"),
    Index(None, "merchant_id", "order_id", "id"),
    Index(None, "merchant_id", "customer_id", "id"),
    Index(None, "merchant_id", "gateway_refund_id"),
    Index(None, "merchant_id", "bank_reference_value"),
    Index(None, "merchant_id", "reason", "id"),
    Index(None, "merchant_id", "requested_by", "id"),
    Index(None, "merchant_id", "gateway_account_id", "id"),
    Index(None, "merchant_id", "amount", "id"),
    Index(None, "merchant_id", "created_at", "id"),
    Index(None, "merchant_id", "updated_at", "id"),
    Index("ix_refunds_attention", "merchant_id", "id", postgresql_where="attention IS NOT NULL"),
    Index("ix_refunds_due", "due_at", postgresql_where="due_at IS NOT NULL"),
)

refund_transitions = Table(
    "refund_transitions",
    metadata,
    merchant_key(),
    Column("refund_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    text("event"),
    text("from_status", nullable=True),
    text("to_status"),
    text("actor"),
    moment("at"),
    belongs_to("refunds", "refund_id"),
    one_of("event", RefundEvent),
    one_of("to_status", Status),
)

attempts = Table(
    "attempts",
    metadata,
    merchant_key(),
    Column("refund_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("key", Uuid, nullable=False),
    text("method"),
    text("path"),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    text("state"),
    # Once true it stays true: some sending of these bytes may have arrived.
    Column("ambiguous", Boolean, nullable=False),
    Column("sends", Integer, nullable=False),
    moment("first_sent_at"),
    moment("last_sent_at"),
    Column("look_ups", Integer, nullable=False),
    Column("misses", Integer, nullable=False),
    moment("first_missed_at", nullable=True),
    # A definite no that came after a doubt: believed once the look-ups agree.
    text("refusal_code", nullable=True),
    text("refusal_gateway_code", nullable=True),
    belongs_to("refunds", "refund_id"),
    one_of("state", AttemptState),
    Index("uq_attempts_key", "merchant_id", "key", unique=True),
)

gateway_calls = Table(
    "gateway_calls",
    metadata,
    merchant_key(),
    row_id(),
    Column("refund_id", Uuid, nullable=False),
    Column("generation", Integer, nullable=False),
    text("kind"),
    text("result"),
    text("detail"),
    moment("called_at"),
    moment("answered_at"),
    ForeignKeyConstraint(
        ["merchant_id", "refund_id", "generation"],
        ["attempts.merchant_id", "attempts.refund_id", "attempts.generation"],
    ),
    one_of("kind", ("send", "look_up")),
    Index(None, "merchant_id", "refund_id"),
)
