"""What becomes of the figures as the tables grow."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fill import fill
from bench.rounds import Meter, Pair, in_turn
from bench.scale import Scale
from bench.shop import Shop
from bench.sql import Sql
from bench.verbs import Client, Verb, api, create, every_page, read

TO_SPARE = 1.2
LARGE_ENOUGH = 1_000
"""Rows from which on a sequential scan is a finding."""

LONGEST_LIST = 2.0
"""Seconds for one round of a list: where a page takes long, fewer are asked for."""


class NoRoom(Exception):
    """The disk would not hold what is to be filled."""


@dataclass(frozen=True)
class Plan:
    """How PostgreSQL goes about a statement."""

    verb: str
    indexes: Sequence[str]
    sequential: Sequence[str]
    """Tables that are read from end to end."""


@dataclass(frozen=True)
class Size:
    """Everything that was measured with so many refunds in the tables."""

    refunds: int
    seconds_to_fill: float
    bytes: dict[str, int]
    """Of each table and index that was filled."""
    pairs: Sequence[Pair]
    plans: Sequence[Plan]
    unanswered: Sequence[str]
    """Lists that were not answered in time, and what was said instead."""


def check_room(folder: Path, *, refunds: int, bytes_each: float) -> str:
    """Say what filling needs and what there is; ``NoRoom`` where it does not fit with a fifth to spare."""
    needed, free = refunds * bytes_each * TO_SPARE, shutil.disk_usage(folder).free
    said = (
        f"{refunds:,} refunds at {bytes_each:,.0f} bytes each and a fifth to spare need "
        f"{needed / 1e9:.1f} GB; "
        f"{free / 1e9:.1f} GB are free"
    )
    if needed > free:
        raise NoRoom(said)
    return said


def filled(shop: Shop, *, lanes: int) -> tuple[float, dict[str, int]]:
    """Fill the shop's database: how many seconds it took, and the bytes of each table and index."""
    began = time.perf_counter()
    fill(shop, lanes=lanes)
    seconds = time.perf_counter() - began
    sys.stderr.write(f"  filled {shop.history.refunds:,} refunds in {seconds:.0f} s\n")
    rows = shop.sql.rows(
        "SELECT c.relname AS name, pg_relation_size(c.oid) + "
        "CASE c.relkind WHEN 'r' THEN coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) "
        "ELSE 0 END AS bytes "
        "FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid "
        "WHERE coalesce(i.indrelid, c.oid) = ANY($1::text[]::regclass[]) ORDER BY 2 DESC",
        [
            "refunds",
            "decisions",
            "refund_transitions",
            "events",
            "idempotency_keys",
            "attempts",
            "gateway_calls",
        ],
    )
    return seconds, {row["name"]: row["bytes"] for row in rows}


def measured(shop: Shop, meter: Meter, scale: Scale) -> tuple[list[Pair], list[Plan], list[str]]:
    """Create, read and every kind of list, by one client."""
    client = Client(shop)
    with api(shop) as (process, url):

        def pair(verb: Verb, requests: int, rounds: int) -> Pair:
            return in_turn(
                verb.name,
                1,
                bare=lambda: meter.bare(verb.bare, clients=1, transactions=3 * requests, many=verb.many),
                service=lambda: meter.service(
                    [process.pid], [url], verb.requests(requests), clients=1, expect=verb.status
                ),
                rounds=rounds,
            )

        writes, reads, lists = create(client), read(client), every_page(client)
        meter.service([process.pid], [url], writes.requests(scale.requests // 3), clients=4, expect=201)
        shop.sql.run("VACUUM (ANALYZE)", "CHECKPOINT")
        pairs = [pair(verb, scale.requests, scale.rounds) for verb in (writes, reads)]
        shop.sql.run("VACUUM (ANALYZE)", "CHECKPOINT")
        unanswered = []
        for verb in lists:
            try:
                one = meter.service([process.pid], [url], verb.requests(3), clients=1, expect=200)
                few = max(3, min(scale.list_requests, int(LONGEST_LIST / (one.ms / 1000))))
                pairs.append(pair(verb, few, scale.list_rounds))
            except RuntimeError as failed:
                sys.stderr.write(f"  {verb.name}: {failed}\n")
                unanswered.append(f"{verb.name}: {failed}")
        plans = [plan_of(shop.sql, verb) for verb in (writes, reads, *lists)]
    return pairs, plans, unanswered


def plan_of(sql: Sql, verb: Verb) -> Plan:
    """Which indexes the verb's statements use, and which tables they read from end to end."""
    indexes: dict[str, None] = {}
    sequential: dict[str, None] = {}
    for statement in verb.bare.examples(max(1, verb.many // 2)):
        (told,) = json.loads(sql.value(f"EXPLAIN (FORMAT JSON) {statement}"))
        for node in _nodes(told["Plan"]):
            if "Index Name" in node:
                indexes[node["Index Name"]] = None
            if node["Node Type"] == "Seq Scan":
                rows = sql.value(
                    "SELECT reltuples FROM pg_class WHERE oid = $1::text::regclass", node["Relation Name"]
                )
                if rows >= LARGE_ENOUGH:
                    sequential[node["Relation Name"]] = None
    return Plan(verb.name, list(indexes), list(sequential))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)
