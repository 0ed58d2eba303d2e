"""Every table in one place, for the migrations and for ``verify``."""

from __future__ import annotations

from refund_service.customers.tables import customers
from refund_service.db.columns import metadata
from refund_service.events.tables import events, feed_epochs
from refund_service.gateways.tables import gateway_accounts, stop_switches
from refund_service.idempotency.tables import idempotency_keys
from refund_service.jobs.tables import heartbeats, jobs, verifications
from refund_service.merchants.tables import api_keys, merchants
from refund_service.notes.tables import notes
from refund_service.orders.tables import order_facts, order_lines, orders
from refund_service.payments.tables import payments
from refund_service.policies.tables import decisions, policies, reasons
from refund_service.refunds.tables import attempts, gateway_calls, refund_transitions, refunds

TABLES = metadata.sorted_tables

__all__ = [
    "TABLES",
    "api_keys",
    "attempts",
    "customers",
    "decisions",
    "events",
    "feed_epochs",
    "gateway_accounts",
    "gateway_calls",
    "heartbeats",
    "idempotency_keys",
    "jobs",
    "merchants",
    "metadata",
    "notes",
    "order_facts",
    "order_lines",
    "orders",
    "payments",
    "policies",
    "reasons",
    "refund_transitions",
    "refunds",
    "stop_switches",
    "verifications",
]
