"""What a refund looks like right after the write that made it, without reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from refund_service.refunds.ask import PaymentFacts
from refund_service.refunds.creation import BALANCE
from refund_service.refunds.queries import Refund

_UNTOLD: Final = dict.fromkeys(
    (
        "gateway_refund_id",
        "bank_reference_type",
        "bank_reference_value",
        "bank_reference_status",
        "failure_code",
        "failure_gateway_code",
        "attention",
        "attention_since",
        "finished_at",
    )
)
"""What no refund has at its beginning."""

_AS_BOUND: Final = (
    "status",
    "amount",
    "currency",
    "payment_id",
    "reason",
    "channel",
    "ticket",
    "reference",
    "metadata",
    "decision_id",
    "decision_outcome",
    "decision_rule",
    "requested_at",
    "execute_after",
    "replaces",
    "due_at",
    "expected_by",
)


def as_created(binds: Mapping[str, Any], payment: PaymentFacts, balance: Mapping[str, int]) -> Refund:
    """The refund's view (``refunds/queries.py``) from what was written.

    ``balance`` is the payment's after the write, as its guard returned it.
    """
    return _UNTOLD | {
        **{name: binds[name] for name in _AS_BOUND},
        "id": binds["refund_id"],
        "generation": 1,
        "requested_by": binds["actor"],
        "created_at": binds["now"],
        "updated_at": binds["now"],
        "order_name": payment.order_name,
        "customer_name": payment.customer_name,
        "account_name": payment.account_name,
        "decision_policy_version": binds["policy_version"],
        "payment_gateway_payment_id": payment.gateway_payment_id,
        **{f"payment_{part}": balance[part] for part in BALANCE},
    }
