"""The ways on from an answer, for the OpenAPI document: operation → what can be done with what it gave.

People read them as "and then", generators and testers follow them.
"""

from __future__ import annotations

from typing import Any, Final

Link = dict[str, Any]


def _to(operation: str, told: str, **parameters: str) -> Link:
    return {"operationId": operation, "description": told, "parameters": parameters}


_ID: Final = "$response.body#/id"
_NEXT: Final = "$response.body#/next_cursor"

_OF_A_REFUND: Final[dict[str, Link]] = {
    "read": _to("get_refund", "The refund as it is later", refund_id=_ID),
    "relabel": _to("update_refund", "Other metadata", refund_id=_ID),
    "cancel": _to("cancel_refund", "Stop it before it is sent", refund_id=_ID),
    "retry": _to("retry_refund", "Try it again once it has failed", refund_id=_ID),
    "refresh": _to("refresh_refund", "Ask the gateway at once", refund_id=_ID),
    "attempts": _to("list_refund_attempts", "What was sent, and what came back", refund_id=_ID),
    "events": _to("list_refund_events", "What became of it", refund_id=_ID),
    "payment": _to("get_payment", "What is left of its payment", payment_id="$response.body#/payment/id"),
    "decision": _to("get_decision", "Why it was allowed", decision_id="$response.body#/decision/id"),
}
_OF_A_PAYMENT: Final[dict[str, Link]] = {
    "read": _to("get_payment", "The payment as it is later", payment_id=_ID),
    "refunds": _to("list_refunds", "What was given back of it", payment_id=_ID),
    "refund": {
        "operationId": "create_refund",
        "description": "Give back all that is left of it",
        "requestBody": {"payment_id": _ID},
    },
}

LINKS: Final[dict[str, dict[str, Link]]] = {
    "register_payment": _OF_A_PAYMENT,
    "get_payment": _OF_A_PAYMENT,
    "create_refund": _OF_A_REFUND,
    "get_refund": _OF_A_REFUND,
    "retry_refund": _OF_A_REFUND,
    "get_order": {
        "tell": _to("update_order", "What was learned of it later", order_id="$request.path.order_id"),
        "refunds": _to("list_refunds", "What was given back of it", order_id="$request.path.order_id"),
    },
    "update_order": {"read": _to("get_order", "The order as it now is", order_id="$request.path.order_id")},
    "list_payments": {"next": _to("list_payments", "The page behind it", cursor=_NEXT)},
    "list_refunds": {"next": _to("list_refunds", "The page behind it", cursor=_NEXT)},
    "list_events": {"next": _to("list_events", "What came after it", cursor=_NEXT)},
}
