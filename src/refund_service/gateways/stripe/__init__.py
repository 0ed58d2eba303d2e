"""Stripe: ``adapter.py`` renders and reads, ``words.py`` holds its codes, ``notifications.py`` its events."""

from refund_service.gateways.stripe.adapter import StripeGateway

__all__ = ["StripeGateway"]
