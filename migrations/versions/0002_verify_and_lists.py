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
    for table in ("refunds", "payments"):
        op.drop_index(op.f(f"ix_{table}_merchant_id_created_at_id"), table_name=table)
