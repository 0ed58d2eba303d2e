"""What each client does, from the seed alone: for whom, how much, in which order.

Nothing here depends on an answer, so the same seed asks for the same things however fast the
machine is. Targets of later operations are told as numbers of the client's own intents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

CLIENTS = 16
HOT_PAYMENTS = 12

ACCOUNTS: dict[str, dict[str, Any]] = {
    "both": {},
    "keys": {"looks_up": False},
    "look-ups": {"deduplicates": False},
    "neither": {"looks_up": False, "deduplicates": False},
}
"""The personalities of the gateway, an account for each: a resend is seen only where none deduplicates."""

SUCCEED = "succeed"
BEHAVIOURS = {
    SUCCEED: 55,
    "lose_answer": 6,
    "slow:6": 4,  # longer than a call may take
    "error_500_executed": 4,
    "lose_request": 3,
    "error_500": 2,
    "cut_answer": 2,
    "lookup_lags:1": 2,
    "nonsense": 1,
    "other_amount": 1,
    "unknown_status": 1,
    "decline": 5,
    "fail_late:1": 3,
    "succeed_late:1": 3,
    "fail_after_success:1": 2,
    "in_progress:1": 2,
    "rate_limit": 2,
    "pend": 2,
}
"""What the gateway is told to do, and how often."""

TURNS_LATER = "fail_after_success:1"
"""Only where it can be looked up: elsewhere no one would ever know."""


class Kind(StrEnum):
    """What a client can do, with its share in a hundred operations."""

    CREATE = "create"
    REPLAY = "replay"
    OTHER_BODY = "other body"
    GET = "get"
    LIST = "list"
    CANCEL = "cancel"
    RETRY = "retry"
    RELABEL = "relabel"
    """Goes before a retry, so that the gateway does something else this time."""
    REFRESH = "refresh"
    FEED = "feed"


SHARES = {
    Kind.CREATE: 60,
    Kind.REPLAY: 12,
    Kind.OTHER_BODY: 3,
    Kind.GET: 8,
    Kind.LIST: 3,
    Kind.CANCEL: 4,
    Kind.RETRY: 5,
    Kind.REFRESH: 3,
    Kind.FEED: 2,
}


@dataclass(frozen=True, slots=True)
class Intent:
    """A refund that a client wants, once."""

    key: str
    payment: str
    captured: int
    amount: int | None
    """The whole rest, where there is none."""
    account: str
    behaviour: str

    @property
    def solo(self) -> bool:
        """Alone on its payment, which bears it a thousand times: a second execution cannot hide."""
        return self.payment.startswith("solo")

    def body(self) -> dict[str, Any]:
        """The request, with its payment inline."""
        return {
            "payment": {
                "gateway_payment_id": self.payment,
                "captured": self.captured,
                "currency": "EUR",
                "gateway_account": self.account,
            },
            **({} if self.amount is None else {"amount": self.amount}),
            "metadata": {} if self.behaviour == SUCCEED else {"sandbox": self.behaviour},
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client does, to its intents or to one of them."""

    kind: Kind
    intents: tuple[Intent, ...] = ()
    twice: bool = False
    """Sent a second time before the first is answered, as the impatient do."""
    wait: int = 0
    outcome: str = ""
    """Of the refunds that are listed."""


class Script:
    """The operations of one client."""

    def __init__(self, seed: int, client: int) -> None:
        self._chance = Random(f"{seed}/client {client}")
        self._seed, self._client = seed, client
        self._made: list[Intent] = []
        self._doubtful: list[Intent] = []

    def operations(self) -> Iterator[Operation]:
        """Without end."""
        for number in self._count():
            kind = self._chance.choices(list(SHARES), SHARES.values())[0] if self._made else Kind.CREATE
            match kind:
                case Kind.CREATE:
                    yield self._create(number)
                case Kind.FEED:
                    yield Operation(kind)
                case Kind.LIST:
                    yield Operation(kind, outcome=self._chance.choice(["open", "failed"]))
                case Kind.CANCEL:
                    yield Operation(kind, (self._made[-1],))
                case Kind.RETRY:
                    yield Operation(kind, (self._chance.choice((self._doubtful or self._made)[-12:]),))
                case _:
                    yield Operation(kind, (self._chance.choice(self._made[-20:]),))

    @staticmethod
    def _count() -> Iterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    def _create(self, number: int) -> Operation:
        match self._chance.choices(["solo", "hot", "shared"], [50, 25, 25])[0]:
            case "solo":
                amount = self._chance.randint(1, 5000)
                payment = f"solo-{self._seed}-{self._client}-{number}"
                account = self._chance.choice(list(ACCOUNTS))
                intents = [self._intent(payment, 1000 * amount, amount, account)]
            case "hot":
                # All clients turn to fresh ones at about the same time, and ask in pairs for what is left.
                slot = self._chance.randrange(HOT_PAYMENTS)
                payment = f"hot-{self._seed}-{slot}-{number // 25}"
                account = list(ACCOUNTS)[slot % len(ACCOUNTS)]
                amounts = [self._chance.choice([None, self._chance.randint(150, 500)]) for _ in range(2)]
                intents = [self._intent(payment, 1000, amount, account) for amount in amounts]
            case _:
                count = len(self._made) // 4
                account = list(ACCOUNTS)[count % len(ACCOUNTS)]
                payment = f"shared-{self._seed}-{self._client}-{count}"
                intents = [self._intent(payment, 10_000, self._chance.randint(500, 2500), account)]
        return Operation(
            Kind.CREATE,
            tuple(intents),
            twice=self._chance.random() < 0.15,
            wait=self._chance.random() < 0.1,
        )

    def _intent(self, payment: str, captured: int, amount: int | None, account: str) -> Intent:
        behaviour = self._chance.choices(list(BEHAVIOURS), BEHAVIOURS.values())[0]
        if behaviour == TURNS_LATER and not ACCOUNTS[account].get("looks_up", True):
            behaviour = SUCCEED
        key = f"{self._seed}-{self._client}-{len(self._made)}"
        intent = Intent(key, payment, captured, amount, account, behaviour)
        self._made.append(intent)
        if behaviour != SUCCEED:
            self._doubtful.append(intent)
        return intent
