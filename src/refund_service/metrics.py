"""What Prometheus is told. Names and meanings are part of the contract with operators."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

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
    "refund_jobs_total", "Jobs worked on, by name and end", ("job", "end"), registry=REGISTRY
)
REFUNDS: Final = Gauge(
    "refund_open_refunds", "Refunds whose end is not known, by status", ("status",), registry=REGISTRY
)
OLDEST: Final = Gauge(
    "refund_oldest_open_seconds",
    "Age of the oldest refund in a status whose end is not known",
    ("status",),
    registry=REGISTRY,
)
ATTENTION: Final = Gauge("refund_attention", "Refunds that a person must look at", registry=REGISTRY)
JOB_LAG: Final = Gauge("refund_job_lag_seconds", "How late the most overdue job is", registry=REGISTRY)
WORKERS: Final = Gauge("refund_workers", "Workers seen in the last 30 seconds", registry=REGISTRY)
"""Set by the worker's watch and by each scrape's own look at the database."""
