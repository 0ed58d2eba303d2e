"""How a write set records an event: one insert, with the sequence that the guard returned."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table

from refund_service.db.writeset import P
from refund_service.events.tables import events


def event_values(name: str, *, sequence: Any) -> tuple[Table, dict[str, Any]]:
    """Table and values of an event whose bind parameters begin with ``name``.

    Binds: ``<name>_id``, ``_type``, ``_resource``, ``_resource_id``, ``_data``; besides
    ``merchant_id``, ``actor`` and ``now`` of the whole write.
    """
    return events, {
        "merchant_id": P("merchant_id"),
        "id": P(f"{name}_id"),
        "type": P(f"{name}_type"),
        "resource": P(f"{name}_resource"),
        "resource_id": P(f"{name}_resource_id"),
        "sequence": sequence,
        "data": P(f"{name}_data"),
        "caused_by": P("actor"),
        "occurred_at": P("now"),
    }
