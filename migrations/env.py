"""Runs migrations over the connection that ``refund_service.db.migrations`` hands in."""

from __future__ import annotations

from alembic import context

from refund_service.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=False,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
