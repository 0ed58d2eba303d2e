"""Everything that was asked and answered, one line each: kept where a run fails."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from chaos.script import Intent, Kind


class Outcome(StrEnum):
    """What a client knows after an exchange."""

    OK = "ok"
    FAIL = "fail"
    """It certainly did not happen."""
    INFO = "info"
    """It may have happened."""


@dataclass(slots=True)
class Exchange:
    """One request, and what came back."""

    number: int
    client: int
    kind: Kind
    process: str
    intent: Intent | None
    asked_at: float
    """Wall time, as the gateway's record has it."""
    alone: bool
    """The client had no other request out: what it reads now is no older than what it read before."""
    outcome: Outcome = Outcome.INFO
    status: int | None = None
    told: dict[str, Any] = field(default_factory=dict)
    retry_after: str | None = None


class History:
    """The lines of a run, and how many there were of each kind."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._number = 0
        self.counts: Counter[tuple[Kind, Outcome]] = Counter()

    def ask(
        self,
        client: int,
        kind: Kind,
        process: str,
        intent: Intent | None,
        *,
        request: str,
        body: object,
        alone: bool,
    ) -> Exchange:
        """Write down what is about to be asked."""
        self._number += 1
        exchange = Exchange(self._number, client, kind, process, intent, time.time(), alone)
        self._write(
            exchange, "invoke", key=intent and intent.key, request=request, body=body, process=process
        )
        return exchange

    def answer(self, exchange: Exchange, *, error: str | None = None) -> None:
        """Write down what came of it."""
        self.counts[exchange.kind, exchange.outcome] += 1
        told = {name: exchange.told[name] for name in ("id", "status", "code") if name in exchange.told}
        self._write(exchange, exchange.outcome, answer=exchange.status, told=told, error=error)

    def close(self) -> None:
        self._file.close()

    def _write(self, exchange: Exchange, phase: str, **told: Any) -> None:
        line = {
            "number": exchange.number,
            "client": exchange.client,
            "kind": exchange.kind,
            "phase": phase,
            "wall": time.time(),
            "monotonic": time.monotonic(),
        }
        self._file.write(json.dumps(line | told) + "\n")
