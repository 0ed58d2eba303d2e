"""A second version of the service: a copy of this one, with one migration more, started from its own folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from refund_service.db.schema_state import head

HOUSE = Path(__file__).resolve().parents[1]
NEXT = f"{int(head()) + 1:04d}"

TAKES = 1.5
"""Seconds that the making of the index takes at least, as it would with many refunds."""

# What an expanding migration does: a column that may be empty, a table, an index made concurrently. As
# the page for contributors has it, it can be run again from wherever it was cut off, for what stands
# before the index is committed before it: whatever is there already is passed over, but for an index,
# which may be there and not count. The index may wait for running transactions: no one waits for it.
EXPANDS = f'''"""Parcels come back with a carrier."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{head()}"


def upgrade() -> None:
    op.add_column("refunds", sa.Column("carrier", sa.Text(), nullable=True), if_not_exists=True)
    op.create_table(
        "parcels",
        sa.Column("merchant_id", sa.Uuid(), sa.ForeignKey("merchants.id"), primary_key=True),
        sa.Column("id", sa.Uuid(), primary_key=True),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SELECT pg_sleep({TAKES})")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_refunds_carrier")
        op.execute("CREATE INDEX CONCURRENTLY ix_refunds_carrier ON refunds (merchant_id, carrier)")
'''


@dataclass(frozen=True)
class Version:
    """Source and migrations in a folder of their own."""

    folder: Path

    @classmethod
    def next(cls, folder: Path) -> Version:
        for part in ("src", "migrations"):
            shutil.copytree(HOUSE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "migrations" / "versions" / f"{NEXT}_carriers.py").write_text(EXPANDS)
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Processes that are started with it run this version's code."""
        return {"PYTHONPATH": str(self.folder / "src")}
