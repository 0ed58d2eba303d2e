"""The first schema: merchants, orders, payments, refunds, and everything that happens to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from refund_service.db.columns import XID8

revision = "0001"
down_revision = None

HISTORY = ("decisions", "events", "gateway_calls", "order_facts", "refund_transitions")

BEFORE = (
    # The clock of leases and sweeps: the same for every process. Tests replace the function to turn it.
    """
    CREATE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN statement_timestamp()
    """,
    # Called by a write set whose guard did not hold: raising rolls all of it back.
    """
    CREATE FUNCTION write_refused(guard text) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'RF001', MESSAGE = guard;
    END
    $$
    """,
    # History is added to and never edited. Retention alone may delete, under a setting of its own.
    """
    CREATE FUNCTION history_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('refund.retention', true) = 'on' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'RF002', MESSAGE = TG_TABLE_NAME || ' is history';
    END
    $$
    """,
)

AFTER_FEED_EPOCHS = (
    """
    CREATE FUNCTION feed_epoch() RETURNS integer LANGUAGE sql STABLE
    RETURN (SELECT coalesce(max(epoch), 0) FROM feed_epochs)
    """,
    # Whoever restores a dump elsewhere gets a new epoch: transaction numbers start anew there.
    """
    INSERT INTO feed_epochs (epoch, system_identifier, began_at)
    SELECT 1, system_identifier::text || '/' || timeline_id, now()
    FROM pg_control_system(), pg_control_checkpoint()
    """,
)


def upgrade() -> None:
    for statement in BEFORE:
        op.execute(statement)
    op.create_table(
        "feed_epochs",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("system_identifier", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_feed_epochs")),
    )
    for statement in AFTER_FEED_EPOCHS:
        op.execute(statement)
    op.create_table(
        "heartbeats",
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("lane", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease", sa.Uuid(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("because", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("key", name=op.f("uq_jobs_key")),
    )
    op.create_index(
        op.f("ix_jobs_lane_priority_run_at"), "jobs", ["lane", "priority", "run_at"], unique=False
    )
    op.create_index(op.f("ix_jobs_subject_id"), "jobs", ["subject_id"], unique=False)
    op.create_table(
        "merchants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merchants")),
    )
    op.create_table(
        "stop_switches",
        sa.Column("scope", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stopped_by", sa.Text(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_stop_switches")),
    )
    op.create_table(
        "api_keys",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.TEXT(), nullable=False),
        sa.Column("secret_hmac", sa.LargeBinary(), nullable=False),
        sa.Column("pepper_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.TEXT()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role IN ('integration', 'agent', 'approver', 'accountant', 'auditor', 'admin')",
            name=op.f("ck_api_keys_role"),
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_api_keys_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "customers",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_customers_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_customers")),
        sa.UniqueConstraint("merchant_id", "customer_id", name=op.f("uq_customers_merchant_id_customer_id")),
    )
    op.create_table(
        "decisions",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("refund_id", sa.Uuid(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trace", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("decided_for", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('allowed', 'refused')", name=op.f("ck_decisions_outcome")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_decisions_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_decisions")),
    )
    op.create_index(
        op.f("ix_decisions_merchant_id_payment_id"), "decisions", ["merchant_id", "payment_id"], unique=False
    )
    op.create_table(
        "events",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("feed_epoch()"), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("caused_by", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_events_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_feed", "events", ["merchant_id", "epoch", "xid", "id"], unique=False)
    op.create_index("uq_events_sequence", "events", ["merchant_id", "resource_id", "sequence"], unique=True)
    op.create_table(
        "gateway_accounts",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("remote_account", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sealed_credentials", sa.LargeBinary(), nullable=False),
        sa.Column("sealing_key_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('active', 'paused')", name=op.f("ck_gateway_accounts_status")),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchants.id"], name=op.f("fk_gateway_accounts_merchant_id")
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_gateway_accounts")),
        sa.UniqueConstraint("merchant_id", "name", name=op.f("uq_gateway_accounts_merchant_id_name")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status_code", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchants.id"], name=op.f("fk_idempotency_keys_merchant_id")
        ),
        sa.PrimaryKeyConstraint("merchant_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "notes",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "subject_kind IN ('order', 'payment', 'refund')", name=op.f("ck_notes_subject_kind")
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_notes_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_notes")),
    )
    op.create_index(
        op.f("ix_notes_merchant_id_subject_id"), "notes", ["merchant_id", "subject_id"], unique=False
    )
    op.create_table(
        "policies",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_policies_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "version", name=op.f("pk_policies")),
    )
    op.create_table(
        "reasons",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_reasons_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "code", name=op.f("pk_reasons")),
    )
    op.create_table(
        "orders",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_orders_currency")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "customer_id"],
            ["customers.merchant_id", "customers.id"],
            name=op.f("fk_orders_merchant_id_customer_id"),
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_orders_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_orders")),
        sa.UniqueConstraint("merchant_id", "order_id", name=op.f("uq_orders_merchant_id_order_id")),
    )
    op.create_index(
        op.f("ix_orders_merchant_id_customer_id"), "orders", ["merchant_id", "customer_id"], unique=False
    )
    op.create_table(
        "order_facts",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("told_by", sa.Text(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "order_id"],
            ["orders.merchant_id", "orders.id"],
            name=op.f("fk_order_facts_merchant_id_order_id"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "order_id", "version", name=op.f("pk_order_facts")),
    )
    op.create_table(
        "order_lines",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price", sa.BigInteger(), nullable=False),
        sa.Column("tax", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "kind IN ('product', 'shipping', 'fee', 'discount')", name=op.f("ck_order_lines_kind")
        ),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_lines_quantity")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "order_id"],
            ["orders.merchant_id", "orders.id"],
            name=op.f("fk_order_lines_merchant_id_order_id"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "order_id", "position", name=op.f("pk_order_lines")),
    )
    op.create_table(
        "payments",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("gateway_account_id", sa.Uuid(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("remote_account", sa.Text(), nullable=False),
        sa.Column("gateway_payment_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("customer_id", sa.Uuid(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("captured", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("refunded_elsewhere", sa.BigInteger(), nullable=False),
        sa.Column("disputed", sa.BigInteger(), nullable=False),
        sa.Column("excess", sa.BigInteger(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=True),
        sa.Column("entity", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_payments_currency")),
        sa.CheckConstraint("captured BETWEEN 1 AND 999999999999", name=op.f("ck_payments_captured")),
        sa.CheckConstraint(
            "held + refunded + disputed <= captured + excess", name=op.f("ck_payments_within_capture")
        ),
        sa.CheckConstraint(
            "held >= 0 AND refunded >= 0 AND refunded_elsewhere >= 0 AND disputed >= 0 AND excess >= 0",
            name=op.f("ck_payments_not_negative"),
        ),
        sa.CheckConstraint("refunded_elsewhere <= refunded", name=op.f("ck_payments_elsewhere")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "customer_id"],
            ["customers.merchant_id", "customers.id"],
            name=op.f("fk_payments_merchant_id_customer_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "gateway_account_id"],
            ["gateway_accounts.merchant_id", "gateway_accounts.id"],
            name=op.f("fk_payments_merchant_id_gateway_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "order_id"],
            ["orders.merchant_id", "orders.id"],
            name=op.f("fk_payments_merchant_id_order_id"),
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_payments_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_payments")),
    )
    op.create_index(
        op.f("ix_payments_merchant_id_created_at_id"),
        "payments",
        ["merchant_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_payments_merchant_id_customer_id"), "payments", ["merchant_id", "customer_id"], unique=False
    )
    op.create_index(
        op.f("ix_payments_merchant_id_gateway_payment_id"),
        "payments",
        ["merchant_id", "gateway_payment_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_payments_merchant_id_order_id"), "payments", ["merchant_id", "order_id"], unique=False
    )
    op.create_index(
        "uq_payments_gateway_payment",
        "payments",
        ["merchant_id", "gateway", "remote_account", "gateway_payment_id"],
        unique=True,
    )
    op.create_index("uq_payments_reference", "payments", ["merchant_id", "reference"], unique=True)
    op.create_table(
        "refunds",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("customer_id", sa.Uuid(), nullable=True),
        sa.Column("gateway_account_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("ticket", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_with", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("execute_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gateway_refund_id", sa.Text(), nullable=True),
        sa.Column("bank_reference_type", sa.Text(), nullable=True),
        sa.Column("bank_reference_value", sa.Text(), nullable=True),
        sa.Column("bank_reference_status", sa.Text(), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("failure_gateway_code", sa.Text(), nullable=True),
        sa.Column("attention", sa.Text(), nullable=True),
        sa.Column("attention_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expected_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('awaiting_approval', 'queued', 'processing', 'requires_action', 'unknown', 'succeeded', 'failed', 'canceled', 'rejected', 'expired', 'reversed')",
            name=op.f("ck_refunds_status"),
        ),
        sa.CheckConstraint(
            "(attention IS NULL) = (attention_since IS NULL)", name=op.f("ck_refunds_attention")
        ),
        sa.CheckConstraint("amount BETWEEN 1 AND 999999999999", name=op.f("ck_refunds_amount")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "customer_id"],
            ["customers.merchant_id", "customers.id"],
            name=op.f("fk_refunds_merchant_id_customer_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "decision_id"],
            ["decisions.merchant_id", "decisions.id"],
            name=op.f("fk_refunds_merchant_id_decision_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "gateway_account_id"],
            ["gateway_accounts.merchant_id", "gateway_accounts.id"],
            name=op.f("fk_refunds_merchant_id_gateway_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "order_id"],
            ["orders.merchant_id", "orders.id"],
            name=op.f("fk_refunds_merchant_id_order_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payment_id"],
            ["payments.merchant_id", "payments.id"],
            name=op.f("fk_refunds_merchant_id_payment_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "replaces"],
            ["refunds.merchant_id", "refunds.id"],
            name=op.f("fk_refunds_merchant_id_replaces"),
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name=op.f("fk_refunds_merchant_id")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_refunds")),
    )
    op.create_index(
        "ix_refunds_attention",
        "refunds",
        ["merchant_id", "id"],
        unique=False,
        postgresql_where=sa.text("attention IS NOT NULL"),
    )
    op.create_index(
        "ix_refunds_due", "refunds", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_amount_id"), "refunds", ["merchant_id", "amount", "id"], unique=False
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_bank_reference_value"),
        "refunds",
        ["merchant_id", "bank_reference_value"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_created_at_id"),
        "refunds",
        ["merchant_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_customer_id_id"),
        "refunds",
        ["merchant_id", "customer_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_gateway_account_id_id"),
        "refunds",
        ["merchant_id", "gateway_account_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_gateway_refund_id"),
        "refunds",
        ["merchant_id", "gateway_refund_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_order_id_id"), "refunds", ["merchant_id", "order_id", "id"], unique=False
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_payment_id_id"),
        "refunds",
        ["merchant_id", "payment_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_reason_id"), "refunds", ["merchant_id", "reason", "id"], unique=False
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_requested_by_id"),
        "refunds",
        ["merchant_id", "requested_by", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_status_id"), "refunds", ["merchant_id", "status", "id"], unique=False
    )
    op.create_index(
        op.f("ix_refunds_merchant_id_updated_at_id"),
        "refunds",
        ["merchant_id", "updated_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_refunds_open",
        "refunds",
        ["status", "updated_at"],
        unique=False,
        postgresql_where=sa.text(
            "status IN ('awaiting_approval', 'processing', 'queued', 'requires_action', 'unknown')"
        ),
    )
    op.create_index(
        "uq_refunds_gateway_refund",
        "refunds",
        ["merchant_id", "gateway_account_id", "gateway_refund_id"],
        unique=True,
    )
    op.create_index("uq_refunds_idempotency_key", "refunds", ["merchant_id", "idempotency_key"], unique=True)
    op.create_index("uq_refunds_reference", "refunds", ["merchant_id", "reference"], unique=True)
    op.create_table(
        "attempts",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("gateway_refund_id", sa.Text(), nullable=True),
        sa.Column("ambiguous", sa.Boolean(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("first_sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("look_ups", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("first_missed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refusal_code", sa.Text(), nullable=True),
        sa.Column("refusal_gateway_code", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('sending', 'unsent', 'waiting', 'pending', 'lost', 'done', 'refused')",
            name=op.f("ck_attempts_state"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "refund_id"],
            ["refunds.merchant_id", "refunds.id"],
            name=op.f("fk_attempts_merchant_id_refund_id"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "refund_id", "generation", name=op.f("pk_attempts")),
    )
    op.create_index("uq_attempts_key", "attempts", ["merchant_id", "key"], unique=True)
    op.create_table(
        "refund_transitions",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "event IN ('request', 'request_approval', 'approve', 'reject', 'expire', 'cancel', 'submit', 'resubmit', 'not_sent', 'lose_track', 'find_pending', 'need_action', 'succeed', 'fail', 'reverse', 'turn_out_done', 'retry')",
            name=op.f("ck_refund_transitions_event"),
        ),
        sa.CheckConstraint(
            "to_status IN ('awaiting_approval', 'queued', 'processing', 'requires_action', 'unknown', 'succeeded', 'failed', 'canceled', 'rejected', 'expired', 'reversed')",
            name=op.f("ck_refund_transitions_to_status"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "refund_id"],
            ["refunds.merchant_id", "refunds.id"],
            name=op.f("fk_refund_transitions_merchant_id_refund_id"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "refund_id", "version", name=op.f("pk_refund_transitions")),
    )
    op.create_table(
        "gateway_calls",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("refund_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("called_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('send', 'look_up')", name=op.f("ck_gateway_calls_kind")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "refund_id", "generation"],
            ["attempts.merchant_id", "attempts.refund_id", "attempts.generation"],
            name=op.f("fk_gateway_calls_merchant_id_refund_id_generation"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("pk_gateway_calls")),
    )
    op.create_index(
        op.f("ix_gateway_calls_merchant_id_refund_id"),
        "gateway_calls",
        ["merchant_id", "refund_id"],
        unique=False,
    )

    for table in HISTORY:
        op.execute(
            f"CREATE TRIGGER history_is_kept BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION history_is_kept()"
        )
        op.execute(
            f"CREATE TRIGGER history_is_not_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION history_is_kept()"
        )
