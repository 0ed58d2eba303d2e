"""How a write set promises work for after its commit: one row, in the write that makes it true."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table

from refund_service.db.writeset import P
from refund_service.jobs.tables import URGENT, jobs


def job_values(*, run_at: ColumnElement[Any]) -> tuple[Table, dict[str, Any]]:
    """Table and values of a job.

    Binds: ``job_id``, ``job_name``, ``job_key``, ``job_lane``, ``job_subject_id``.
    """
    return jobs, {
        "id": P("job_id"),
        "name": P("job_name"),
        "key": P("job_key"),
        "merchant_id": P("merchant_id"),
        "lane": P("job_lane"),
        "subject_id": P("job_subject_id"),
        "priority": URGENT,
        "run_at": run_at,
        "tries": 0,
    }
