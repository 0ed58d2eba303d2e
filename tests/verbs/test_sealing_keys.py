"""Sealing keys come and go: what an old one sealed is sealed anew, and without its key nothing is sent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from clockwork import Clock
from house import House, Shop, open_house
from pydantic import SecretStr
from sqlalchemy import text

from refund_service import ids
from refund_service.gateways.reseal import reseal_accounts
from refund_service.gateways.seal import SealBroken

OLD = {"test": base64.b64encode(b"k" * 32).decode()}
NEW = {"2027": base64.b64encode(b"n" * 32).decode()}
OTHER = {"test": base64.b64encode(b"o" * 32).decode()}
"""The id of the old key, and not the old key."""


@pytest.fixture
def house_with(own_house: House) -> Callable[..., object]:
    """Another process on the same database, with other sealing keys: the first one seals."""

    @asynccontextmanager
    async def open_with(keys: dict[str, str], *, work: bool = False) -> AsyncIterator[House]:
        kept = {key_id: SecretStr(key) for key_id, key in keys.items()}
        settings = own_house.parts.settings.model_copy(update={"sealing_keys": kept})
        async with open_house(settings, work=work) as opened:
            yield opened

    return open_with


async def sealed_by(shop: Shop) -> str:
    statement = text("SELECT sealing_key_id FROM gateway_accounts WHERE id = :in_id")
    key_id: str = await shop.house.parts.db.value(statement, id=shop.account_id)
    return key_id


async def test_an_old_key_can_be_taken_away_once_all_is_sealed_anew(
    own_shop: Shop, house_with
) -> None:  # SEC-19
    refund = (await own_shop.ask(await own_shop.pay(), 1250)).json()

    async with house_with(NEW | OLD) as rotating:
        assert await sealed_by(own_shop) == "test"
        assert await reseal_accounts(rotating.parts.db, rotating.parts.keyring) == 1
        assert await sealed_by(own_shop) == "2027"
        assert await reseal_accounts(rotating.parts.db, rotating.parts.keyring) == 0

    async with house_with(NEW, work=True):
        assert (await own_shop.until(refund, "succeeded"))["payment"]["refunded"] == 1250
    assert len(own_shop.executions()) == 1


@pytest.mark.parametrize("keys", [NEW, OTHER], ids=["gone", "another under its id"])
async def test_without_the_key_nothing_is_sent_and_nothing_is_lost(  # SEC-19
    own_house: House, own_shop: Shop, house_with, keys: dict[str, str]
) -> None:
    refund = (await own_shop.ask(await own_shop.pay(), 1250)).json()
    gave_up = text("SELECT count(*) FROM jobs WHERE subject_id = :in_id AND because = 'failed'")

    async with house_with(keys, work=True), asyncio.timeout(20):
        while not await own_house.parts.db.value(gave_up, id=ids.read("refund", refund["id"])):
            await asyncio.sleep(0.01)
    seen = await own_shop.see(refund)
    assert (seen["status"], seen["payment"]["held"]) == ("queued", 1250)
    assert own_shop.sandbox.record(account=own_shop.remote)["requests"] == []

    await own_house.start_worker()
    await Clock(own_house).turn(minutes=10)
    assert (await own_shop.see(refund))["status"] == "succeeded"


async def test_what_no_key_here_opens_is_named_and_stays_as_it_is(
    own_shop: Shop, house_with
) -> None:  # SEC-19
    async with house_with(NEW) as keyless:
        with pytest.raises(SealBroken, match=ids.show("gateway_account", own_shop.account_id)):
            await reseal_accounts(keyless.parts.db, keyless.parts.keyring)
    assert await sealed_by(own_shop) == "test"
