"""Examples for the OpenAPI document, by operation. A test sends every request and checks every answer.

They tell one story: an order of EUR 59.90, of which 12.50 are given back.
"""

from __future__ import annotations

from typing import Any, Final

Example = dict[str, Any]

_ID: Final = "01jejcavr0fay8vvr14d2pf2db"
_PAYMENT_ID: Final = f"pay_{_ID}"
_REFUND_ID: Final = f"rf_{_ID}"
_DECISION_ID: Final = f"dec_{_ID}"
_PAID: Final = "2026-03-01T09:12:44Z"
_ASKED: Final = "2026-03-04T10:00:00Z"
_DONE: Final = "2026-03-04T10:00:01.250000Z"
_ARRIVES: Final = "2026-03-14T10:00:00Z"
_HERE: Final = f"/v1/refunds/{_REFUND_ID}"

_LINES: Final[list[Example]] = [
    {"id": "1", "sku": "MUG-BLUE", "name": "Mug, blue", "quantity": 2, "unit_price": 2495, "tax": 797},
    {"id": "2", "kind": "shipping", "unit_price": 1000, "tax": 160},
]

REQUESTS: Final[dict[str, dict[str, tuple[str, Example]]]] = {
    "register_payment": {
        "least": (
            "What is needed",
            {"gateway_payment_id": "pi_3MtwBwLkdIwHu7ix28a3tqPa", "captured": 12900, "currency": "EUR"},
        ),
        "with_order": (
            "With its order, so that refunds can name the order",
            {
                "gateway_payment_id": "pi_3NbQ0yLkdIwHu7ix1aXcDpOe",
                "captured": 5990,
                "currency": "EUR",
                "captured_at": _PAID,
                "method": "card",
                "entity": "shop-fr",
                "reference": "PAY-1001",
                "customer": {"id": "C-2041", "email": "ada@shop.example", "locale": "fr-FR"},
                "order": {"id": "ORDER-1001", "country": "FR", "tags": ["web"], "lines": _LINES},
                "metadata": {"cart": "c-17"},
            },
        ),
        "partly_refunded": (
            "Of which a part was given back before",
            {
                "gateway_payment_id": "pi_before",
                "captured": 4800,
                "currency": "JPY",
                "already_refunded": 1000,
            },
        ),
    },
    "update_order": {
        "delivered": (
            "It was delivered",
            {"facts": {"fulfilled": True, "delivered_on": "2026-03-03"}, "tags": ["web", "delivered"]},
        ),
    },
    "create_refund": {
        "by_order": (
            "A part of what was paid for an order",
            {"order_id": "ORDER-1001", "amount": 1250, "reason": "damaged"},
        ),
        "by_gateway_payment_id": (
            "All that is left of a payment, named as the gateway names it",
            {"gateway_payment_id": "pi_3MtwBwLkdIwHu7ix28a3tqPa"},
        ),
        "by_payment_reference": (
            "With everything that can be told",
            {
                "payment_reference": "PAY-1001",
                "amount": 500,
                "currency": "EUR",
                "reason": "price_adjustment",
                "note": "Agreed on the phone.",
                "channel": "phone",
                "ticket": "T-2041",
                "reference": "RETURN-77",
                "requested_at": "2026-03-04T09:58:00+01:00",
                "metadata": {"agent": "a-12"},
            },
        ),
        "inline": (
            "Of a payment that was not registered before",
            {
                "payment": {
                    "gateway_payment_id": "pi_3OcR1zLkdIwHu7ix0bYdEqPf",
                    "captured": 5990,
                    "currency": "EUR",
                    "order_id": "A-7",
                },
                "amount": 1250,
                "reason": "not_received",
            },
        ),
        "later": (
            "Not before a certain time, and only if nothing else was given back meanwhile",
            {
                "payment_reference": "PAY-1001",
                "amount": 100,
                "execute_after": "2026-03-05T08:00:00Z",
                "expected_available": 4240,
            },
        ),
        "rehearsed": (
            "With a test key: a gateway that loses its answer",
            {"order_id": "A-7", "amount": 300, "metadata": {"sandbox": "lose_answer"}},
        ),
    },
    "update_refund": {
        "relabel": ("Other metadata", {"metadata": {"agent": "a-12", "parcel": "seen"}}),
    },
    "publish_policy": {
        "strict": (
            "Thirty days, at most EUR 500.00, for two reasons",
            {
                "rules": {
                    "max_age_days": 30,
                    "max_amount": {"EUR": 50000},
                    "reasons": ["damaged", "not_received"],
                }
            },
        ),
        "free": ("No limit of age or amount", {"rules": {"max_age_days": None}}),
    },
    "put_reason": {
        "add": ("A reason of one's own", {"title": "The sample was not wanted"}),
        "switch_off": ("No longer to be given", {"title": "Goodwill", "active": False}),
    },
}
"""Request bodies: operation → name → what it shows, and the body."""

_PAYMENT: Final[Example] = {
    "id": _PAYMENT_ID,
    "livemode": False,
    "gateway_account": "sandbox",
    "gateway": "sandbox",
    "gateway_payment_id": "pi_3NbQ0yLkdIwHu7ix1aXcDpOe",
    "captured": 5990,
    "held": 0,
    "refunded": 1250,
    "refunded_elsewhere": 0,
    "disputed": 0,
    "excess": 0,
    "available": 4740,
    "available_decimal": "47.40",
    "currency": "EUR",
    "captured_at": _PAID,
    "method": "card",
    "entity": "shop-fr",
    "reference": "PAY-1001",
    "order_id": "ORDER-1001",
    "customer_id": "C-2041",
    "metadata": {"cart": "c-17"},
    "created_at": "2026-03-01T09:12:45Z",
    "updated_at": _DONE,
    "links": {
        "self": f"/v1/payments/{_PAYMENT_ID}",
        "refunds": f"/v1/refunds?payment_id={_PAYMENT_ID}",
        "order": "/v1/orders/ORDER-1001",
    },
}
_NEW_PAYMENT: Final[Example] = _PAYMENT | {
    "refunded": 0,
    "available": 5990,
    "available_decimal": "59.90",
    "updated_at": _PAYMENT["created_at"],
}

_LINKS: Final[Example] = {
    "self": _HERE,
    "payment": f"/v1/payments/{_PAYMENT_ID}",
    "decision": f"/v1/decisions/{_DECISION_ID}",
    "attempts": f"{_HERE}/attempts",
    "events": f"{_HERE}/events",
    "order": "/v1/orders/ORDER-1001",
}
_REFUND: Final[Example] = {
    "id": _REFUND_ID,
    "livemode": False,
    "status": "succeeded",
    "outcome": "succeeded",
    "amount": 1250,
    "amount_decimal": "12.50",
    "currency": "EUR",
    "payment": {
        name: _PAYMENT[name]
        for name in ("id", "gateway_payment_id", "captured", "held", "refunded", "disputed", "available")
    },
    "order_id": "ORDER-1001",
    "customer_id": "C-2041",
    "gateway_account": "sandbox",
    "reason": "damaged",
    "channel": None,
    "ticket": None,
    "reference": None,
    "metadata": {},
    "decision": {"id": _DECISION_ID, "outcome": "allowed", "rule": "default", "policy_version": 0},
    "requested_by": "backend",
    "requested_at": None,
    "execute_after": None,
    "generation": 1,
    "replaces": None,
    "gateway_refund_id": "re_01JEJCAVR0",
    "bank_reference": {"type": "arn", "value": "74537604221222132710572", "status": "available"},
    "failure": None,
    "attention": None,
    "due_at": None,
    "expected_by": _ARRIVES,
    "created_at": _ASKED,
    "updated_at": _DONE,
    "finished_at": _DONE,
    "links": _LINKS,
}
_NOT_SENT: Final[Example] = {"gateway_refund_id": None, "bank_reference": None}
_QUEUED: Final[Example] = (
    _REFUND
    | _NOT_SENT
    | {
        "status": "queued",
        "outcome": "open",
        "payment": _REFUND["payment"] | {"held": 1250, "refunded": 0},
        "due_at": "2026-03-04T10:15:00Z",
        "updated_at": _ASKED,
        "finished_at": None,
        "links": _LINKS | {"cancel": f"{_HERE}/cancel"},
    }
)
_CANCELED: Final[Example] = (
    _REFUND
    | _NOT_SENT
    | {
        "status": "canceled",
        "outcome": "stopped",
        "payment": _REFUND["payment"] | {"refunded": 0, "available": 5990},
    }
)
_ORDER: Final[Example] = {
    "id": "ORDER-1001",
    "internal_id": f"ord_{_ID}",
    "livemode": False,
    "currency": "EUR",
    "customer_id": "C-2041",
    "country": "FR",
    "tags": ["web", "delivered"],
    "facts": {"fulfilled": True, "delivered_on": "2026-03-03"},
    "lines": [
        {
            "position": 1,
            "line_id": "1",
            "kind": "product",
            "sku": "MUG-BLUE",
            "name": "Mug, blue",
            "quantity": 2,
            "unit_price": 2495,
            "tax": 797,
            "total": 4990,
            "tags": [],
        },
        {
            "position": 2,
            "line_id": "2",
            "kind": "shipping",
            "sku": None,
            "name": None,
            "quantity": 1,
            "unit_price": 1000,
            "tax": 160,
            "total": 1000,
            "tags": [],
        },
    ],
    "history": [
        {
            "version": 2,
            "facts": {
                "fulfilled": True,
                "delivered_on": "2026-03-03",
                "tags": ["web", "delivered"],
            },
            "told_by": "backend",
            "told_at": "2026-03-03T16:20:00Z",
        }
    ],
    "captured": 5990,
    "held": 0,
    "refunded": 1250,
    "available": 4740,
    "payments": [_PAYMENT],
    "refunds": [_REFUND],
    "created_at": _PAYMENT["created_at"],
    "updated_at": "2026-03-03T16:20:00Z",
}
_EVENT: Final[Example] = {
    "id": f"evt_{_ID}",
    "type": "refund.succeeded",
    "resource": "refund",
    "sequence": 3,
    "caused_by": "worker",
    "occurred_at": _DONE,
    "data": {
        "refund_id": _REFUND_ID,
        "status": "succeeded",
        "outcome": "succeeded",
        "amount": 1250,
        "currency": "EUR",
        "payment_id": _PAYMENT_ID,
        "order_id": "ORDER-1001",
        "reference": None,
    },
}
_CURSOR: Final = "AZSkxW8AfKuN7wEjRWeJq4Qh0Jm3cTn2dVb1sYp5gLk"
_POLICY: Final[Example] = {
    "id": "policy-1",
    "version": 1,
    "rules": {"max_age_days": 30, "max_amount": {"EUR": 50000}, "reasons": ["damaged", "not_received"]},
    "published_by": "backend",
    "published_at": _PAID,
}

ANSWERS: Final[dict[str, Example]] = {
    "get_me": {
        "merchant_id": f"mer_{_ID}",
        "livemode": False,
        "subject": "backend",
        "actor": "backend",
        "role": "integration",
        "scopes": [
            "act_as",
            "events:read",
            "payments:read",
            "payments:write",
            "policies:read",
            "refunds:read",
            "refunds:write",
        ],
        "gateway_accounts": [
            {
                "id": f"ga_{_ID}",
                "name": "sandbox",
                "gateway": "sandbox",
                "status": "active",
                "paused_reason": None,
            }
        ],
    },
    "register_payment": _NEW_PAYMENT,
    "list_payments": {"data": [_PAYMENT], "next_cursor": None},
    "get_payment": _PAYMENT,
    "get_order": _ORDER,
    "update_order": _ORDER,
    "create_refund": _QUEUED,
    "list_refunds": {"data": [_REFUND], "next_cursor": _CURSOR},
    "get_refund": _REFUND,
    "update_refund": _REFUND | {"metadata": {"agent": "a-12", "parcel": "seen"}},
    "cancel_refund": _CANCELED,
    "retry_refund": _QUEUED | {"generation": 2},
    "refresh_refund": _REFUND,
    "list_refund_attempts": {
        "data": [
            {
                "generation": 1,
                "key": "a3914f65-1042-48eb-b8bf-4cc895172850",
                "state": "done",
                "sends": 1,
                "look_ups": 0,
                "first_sent_at": _ASKED,
                "last_sent_at": _ASKED,
                "calls": [
                    {
                        "kind": "send",
                        "result": "accepted",
                        "detail": "succeeded",
                        "called_at": _ASKED,
                        "answered_at": _DONE,
                    }
                ],
            }
        ]
    },
    "list_refund_events": {"data": [_EVENT]},
    "publish_policy": _POLICY,
    "get_current_policy": _POLICY,
    "list_reasons": {
        "data": [
            {"code": "damaged", "title": "The goods arrived damaged", "active": True},
            {"code": "goodwill", "title": "Goodwill", "active": False},
        ]
    },
    "put_reason": {"code": "sample_unwanted", "title": "The sample was not wanted", "active": True},
    "get_decision": {
        "id": _DECISION_ID,
        "outcome": "allowed",
        "rule": "default",
        "policy_version": 0,
        "explanation": "No rule of the policy stands against it.",
        "payment_id": _PAYMENT_ID,
        "refund_id": _REFUND_ID,
        "facts": {"amount": 1250, "currency": "EUR", "age_days": 3, "reason": "damaged"},
        "trace": [
            {
                "rule": "max_age_days",
                "limit": 365,
                "found": 3,
                "passed": True,
                "sentence": "The payment was captured 3 days ago; 365 are allowed.",
            }
        ],
        "decided_for": "backend",
        "decided_at": _ASKED,
    },
    "list_events": {"data": [_EVENT], "next_cursor": _CURSOR},
}
"""What a success looks like: operation → body."""
