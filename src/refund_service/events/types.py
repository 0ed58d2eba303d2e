"""Every type of event, and when it happens. ``docs/reference/events.md`` is made from this."""

from __future__ import annotations

from typing import Final

EVENT_TYPES: Final = {
    "order.registered": "An order came with the registration of a payment.",
    "order.updated": "Facts, tags or the country of an order were told, or its lines came later.",
    "payment.registered": "A captured payment was registered, by itself or with its refund.",
    "refund.created": "A refund was asked for and allowed. Its amount is set aside on the payment.",
    "refund.refused": "The merchant's policy refused a refund. Nothing is set aside; the decision says why.",
    "refund.queued": "It waits to be sent: after a sending that never left, an approval, or a retry.",
    "refund.processing": "It is being sent, or the gateway has it and has not finished.",
    "refund.requires_action": "The gateway waits for the customer.",
    "refund.unknown": "The gateway's answer was lost: the money may have moved. It is being looked up.",
    "refund.succeeded": "The gateway says that the money is on its way.",
    "refund.failed": "It certainly was not done. What was set aside is available again.",
    "refund.canceled": "The merchant stopped it before it was sent.",
    "refund.rejected": "An approver said no.",
    "refund.expired": "No one approved it in time.",
    "refund.reversed": "It had succeeded, then the money came back.",
    "refund.needs_attention": "A person must look at it; `data.attention` says why.",
    "refund.updated": "Its metadata were replaced.",
    "policy.published": "A new version of the policy is in force.",
    "gateway_account.added": "An account at a payment gateway was added.",
    "gateway_account.paused": "The gateway refused the account's credentials: nothing is sent through it.",
    "gateway_account.resumed": "The account is sent through again.",
}
