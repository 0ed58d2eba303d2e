"""Free text by people, in rows of its own: it may hold personal data and can be erased alone."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Uuid

from refund_service.db.columns import merchant_key, metadata, moment, of_merchant, one_of, row_id, text

notes = Table(
    "notes",
    metadata,
    merchant_key(),
    row_id(),
    text("subject_kind"),
    Column("subject_id", Uuid, nullable=False),
    text("text"),
    text("author"),
    moment("created_at"),
    of_merchant(),
    one_of("subject_kind", ("order", "payment", "refund")),
    Index(None, "merchant_id", "subject_id"),
)
