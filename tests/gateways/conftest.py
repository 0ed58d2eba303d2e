from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from refund_service.gateways.protocol import Account, RefundCommand, RefundProbe
from refund_service.gateways.send import Sender, make_client
from refund_service.money import Money


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(make_client())
    yield sender
    await sender.close()


@pytest.fixture
def account_at() -> Callable[..., Account]:
    def make(base_url: str, remote_account: str | None = None, **settings: Any) -> Account:
        return Account(
            id=uuid4(),
            gateway="sandbox",
            base_url=base_url,
            settings=settings,
            credentials={"token": "sk_sandbox_for_tests"},
            remote_account=remote_account or f"acct_{uuid4().hex}",
        )

    return make


@pytest.fixture
def new_command() -> Callable[..., RefundCommand]:
    def make(behaviour: str = "succeed", amount: int = 1250, payment: str = "pay_1") -> RefundCommand:
        return RefundCommand(uuid4(), payment, Money(amount, "EUR"), {"sandbox": behaviour})

    return make


@pytest.fixture
def probe_of() -> Callable[..., RefundProbe]:
    def make(command: RefundCommand, gateway_refund_id: str | None = None) -> RefundProbe:
        return RefundProbe(command.key, command.payment_reference, gateway_refund_id)

    return make
