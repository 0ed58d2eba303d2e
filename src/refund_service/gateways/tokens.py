"""Tokens that credentials were traded for: kept in memory, renewed once however many need one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from refund_service.clock import seconds
from refund_service.gateways.answers import Misconfigured, NotSent, Token, Unknown
from refund_service.gateways.protocol import Account

EARLIER: Final = 60.0
"""Seconds before its end that a token is renewed, or half of its life where that is less."""

Trade = Callable[[], Awaitable[Token | NotSent | Unknown | Misconfigured]]


@dataclass(slots=True)
class _Kept:
    token: Token
    until: float


class TokenCabinet:
    """One token for each account and its present credentials."""

    def __init__(self) -> None:
        self._kept: dict[tuple[UUID, bytes], _Kept] = {}
        self._trades: dict[tuple[UUID, bytes], asyncio.Task[Token | NotSent | Unknown | Misconfigured]] = {}

    async def admit(
        self, account: Account, trade: Trade
    ) -> tuple[Account, bool] | NotSent | Unknown | Misconfigured:
        """The account with a token that still lasts, and whether it was traded only now."""
        key = _key(account)
        kept = self._kept.get(key)
        if kept is not None and kept.until > seconds():
            return replace(account, token=kept.token.value), False
        task = self._trades.get(key)
        if task is None:
            task = self._trades[key] = asyncio.create_task(self._trade(key, trade))
            task.add_done_callback(lambda _: self._trades.pop(key, None))
        # Whoever asked first may be cut off: the others still wait for the same trade.
        traded = await asyncio.shield(task)
        return (replace(account, token=traded.value), True) if isinstance(traded, Token) else traded

    def forget(self, account: Account) -> None:
        """The gateway does not take this token any more; a newer one stays."""
        key = _key(account)
        kept = self._kept.get(key)
        if kept is not None and kept.token.value == account.token:
            del self._kept[key]

    async def _trade(
        self, key: tuple[UUID, bytes], trade: Trade
    ) -> Token | NotSent | Unknown | Misconfigured:
        began = seconds()
        traded = await trade()
        if isinstance(traded, Token):
            lasts = traded.lasts.total_seconds()
            for old in [old for old in self._kept if old[0] == key[0]]:
                del self._kept[old]
            self._kept[key] = _Kept(traded, began + lasts - min(EARLIER, lasts / 2))
        return traded


def _key(account: Account) -> tuple[UUID, bytes]:
    # With new credentials the old token is worth nothing.
    told = json.dumps([account.base_url, dict(account.credentials)], sort_keys=True)
    return account.id, hashlib.sha256(told.encode()).digest()
