"""Every metric of ours with its labels, as Prometheus names them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from refund_service import metrics


def metric_labels() -> dict[str, set[str]]:
    """By name; a histogram under the name that it is declared with."""
    found: dict[str, set[str]] = {}
    for one in vars(metrics).values():
        if isinstance(one, Counter | Gauge | Histogram):
            (family,) = one.describe()
            name = family.name + ("_total" if isinstance(one, Counter) else "")
            found[name] = set(one._labelnames)
    registered = sum(
        len(list(book.collect())) for book in vars(metrics).values() if isinstance(book, CollectorRegistry)
    )
    assert registered == len(found), "a metric has no name in refund_service.metrics"
    return found
