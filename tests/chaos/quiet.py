"""Afterwards it is quiet: no fault any more, and time passes until everything has come to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import text

from chaos.deployment import Deployment
from chaos.script import ACCOUNTS, TURNS_LATER

TOGETHER: Final = 5.0
"""Seconds of the service's time: what is promised so close together need not be waited for one by one."""

DEADLINE: Final = 180.0
"""Seconds."""

OPEN: Final = text(
    """
    SELECT r.id, r.status, r.attention, a.name AS account, j.run_at - db_now() AS due_in, j.because,
           coalesce(j.lease IS NOT NULL AND j.run_at > db_now(), false) AS at_work
    FROM refunds r
    JOIN gateway_accounts a ON a.merchant_id = r.merchant_id AND a.id = r.gateway_account_id
    LEFT JOIN jobs j ON j.subject_id = r.id
    WHERE r.status IN ('queued', 'processing', 'requires_action', 'unknown')
    """
)

# What the gateway was asked to do stands in what was sent; the refund's metadata may have changed.
TO_TURN: Final = text(
    """
    SELECT r.id FROM refunds r
    JOIN attempts a ON a.merchant_id = r.merchant_id AND a.refund_id = r.id AND a.generation = r.generation
    WHERE r.status = 'succeeded' AND convert_from(a.body, 'utf8') LIKE '%' || :in_behaviour || '%'
    """
)


def waits_rightly(account: str, attention: object) -> bool:
    """Whether no machine may do more: a person has been called where not all can be asked of the gateway."""
    return attention is not None and bool(ACCOUNTS[account])


@dataclass(frozen=True, slots=True)
class Calm:
    """How it became quiet."""

    seconds: float
    """Until the last refund that a machine may end had ended."""
    left: list[dict[str, Any]]
    """Those that had not, at the deadline."""
    for_a_person: int


async def become_quiet(
    deployment: Deployment,
    settle: Callable[[], Awaitable[object]],
    refresh: Callable[[Any], Awaitable[object]],
) -> Calm:
    """Let time pass to each next promise, as soon as no one is at work, until none is left."""
    began = time.monotonic()
    while True:
        await settle()
        rows = await _rows(deployment, OPEN)
        left = [row for row in rows if not waits_rightly(row["account"], row["attention"])]
        # A success that turned is told by no one: it has to be asked after.
        to_turn = [] if left else await _rows(deployment, TO_TURN, behaviour=TURNS_LATER)
        took = time.monotonic() - began
        if not (left or to_turn) or took > DEADLINE:
            return Calm(took, [dict(row) for row in [*left, *to_turn]], len(rows) - len(left))
        for row in to_turn:
            await refresh(row["id"])
        due_in = [row["due_in"].total_seconds() for row in left if row["due_in"] is not None]
        if due_in and min(due_in) > 0 and not any(row["at_work"] for row in rows):
            await deployment.turn_clock(min(due_in) + TOGETHER)
        await asyncio.sleep(0.1)


async def _rows(deployment: Deployment, statement: Any, **binds: Any) -> Sequence[Any]:
    rows: Sequence[Any] = await deployment.insist(partial(deployment.house.parts.db.rows, statement, **binds))
    return rows
