"""How the database answers a statement: its plan, and what of it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Executable
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement

from refund_service.db.engine import Database


class Explain(Executable, ClauseElement):
    """How the database would answer a statement, or with ``analyze`` has answered it."""

    inherit_cache = False

    def __init__(self, statement: Any, *, analyze: bool = False) -> None:
        self.statement = statement
        self.options = "ANALYZE, BUFFERS, FORMAT JSON" if analyze else "FORMAT JSON"


@compiles(Explain)
def _explain(element: Explain, compiler: Any, **how: Any) -> str:
    return f"EXPLAIN ({element.options}) {compiler.process(element.statement, **how)}"


@dataclass
class Explained:
    """Takes the statement of a read in a database's place, and asks for its plan too."""

    db: Database
    analyze: bool = False
    plan: dict[str, Any] = field(default_factory=dict)

    async def rows(self, statement: Any, /, **binds: Any) -> Sequence[Any]:
        found = await self.db.rows(cast("Any", Explain(statement, analyze=self.analyze)), **binds)
        told = found[0]["QUERY PLAN"]
        self.plan = (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]
        return await self.db.rows(statement, **binds)

    async def row(self, statement: Any, /, **binds: Any) -> Any:
        return next(iter(await self.rows(statement, **binds)), None)


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


def scans_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan that reads an index."""
    return (node for node in nodes_of(plan) if "Index Name" in node)


def by_index(plan: dict[str, Any], table: str, column: str) -> bool:
    """Whether the rows of ``table`` are found in an index by ``column``, and not looked through."""
    return any(
        scan["Index Name"] == column or re.search(rf"\b{column}\b", scan.get("Index Cond", ""))
        for scan in scans_of(plan)
        if re.match(rf"(pk|ix|uq)_{table}(_|$)", scan["Index Name"])
    )
