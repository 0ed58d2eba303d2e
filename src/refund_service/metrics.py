"""What Prometheus is told. Names and meanings are part of the contract with operators.

Two books: what this process has done itself, and what it reads from the database at each scrape,
which is the same whichever process is asked. The second one is left out while the database is
away: an old number would pass for a new one.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()
"""What this process has done and met itself."""

HOUSE: Final = CollectorRegistry()
"""What the database says of the whole house."""

REQUESTS: Final = Histogram(
    "refund_http_request_seconds",
    "Time to answer a request",
    ("method", "route", "status"),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 20),
    registry=REGISTRY,
)
CALLS: Final = Histogram(
    "refund_gateway_call_seconds",
    "Time that a call to a gateway took, by what came back",
    ("gateway", "kind", "result"),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
    registry=REGISTRY,
)
JOBS: Final = Counter(
    # Not "job": that is Prometheus's own label for what it scrapes.
    "refund_jobs_total",
    "Jobs worked on, by name and end",
    ("name", "end"),
    registry=REGISTRY,
)
DATABASE_UP: Final = Gauge(
    "refund_database_up", "1 where the database answered this scrape, else 0", registry=REGISTRY
)
BREAKERS: Final = Gauge(
    "refund_breaker_open",
    "Circuit breakers of this process that are open, by gateway account",
    ("gateway_account",),
    registry=REGISTRY,
)
REFUNDS: Final = Gauge(
    "refund_open_refunds", "Refunds whose end is not known, by status", ("status",), registry=HOUSE
)
OLDEST: Final = Gauge(
    "refund_oldest_open_seconds",
    "Time since the refund of a status that has been left alone longest last changed",
    ("status",),
    registry=HOUSE,
)
OVERDUE: Final = Gauge(
    "refund_overdue_seconds",
    "How far the latest refund of a status is past the time at which that status is late",
    ("status",),
    registry=HOUSE,
)
ATTENTION: Final = Gauge("refund_attention", "Refunds that a person must look at", registry=HOUSE)
JOB_LAG: Final = Gauge("refund_job_lag_seconds", "How late the most overdue job is", registry=HOUSE)
WORKERS: Final = Gauge("refund_workers", "Workers seen in the last 30 seconds", registry=HOUSE)
VIOLATIONS: Final = Gauge(
    "refund_verify_violations",
    "Rows that break a promise, as the recurring verify last saw them; 20 a check at most",
    ("promise", "check"),
    registry=HOUSE,
)
VERIFY_AGE: Final = Gauge(
    "refund_verify_age_seconds", "Time since the check that has waited longest was last made", registry=HOUSE
)
