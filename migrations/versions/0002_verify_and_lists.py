"""What the recurring verify last saw, for every process to tell; lists by time go by ids, which begin with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("says", sa.Text(), nullable=False),
        sa.Column("broken", sa.Integer(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("says", name=op.f("pk_verifications")),
    )
    with op.get_context().autocommit_block():
        for table in ("refunds", "payments"):
            index = op.f(f"ix_{table}_merchant_id_created_at_id")
            op.drop_index(index, table_name=table, postgresql_concurrently=True, if_exists=True)
