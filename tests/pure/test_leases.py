"""A call to a gateway, and what is written down after it, fit into one lease."""

from __future__ import annotations

from datetime import timedelta

import pytest

from refund_service.gateways.protocol import LONGEST_CALL, GatewayTraits
from refund_service.jobs.lease import LEASE
from refund_service.refunds.advance import INSIST_FOR


def traits(time_limit: timedelta) -> GatewayTraits:
    return GatewayTraits(
        idempotency="header",
        replay_horizon=timedelta(hours=20),
        lookup="by_reference",
        enough_misses=2,
        enough_miss_time=timedelta(minutes=1),
        time_limit=time_limit,
    )


def test_the_longest_call_and_the_longest_insisting_end_before_the_lease() -> None:
    assert LONGEST_CALL + timedelta(seconds=INSIST_FOR) < LEASE


def test_no_gateway_may_take_longer_than_that() -> None:
    assert traits(LONGEST_CALL).time_limit == LONGEST_CALL
    with pytest.raises(ValueError, match="lease"):
        traits(LONGEST_CALL + timedelta(milliseconds=1))
