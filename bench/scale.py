"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The usual run; ``QUICK`` only shows that everything works."""

    rounds: int = 5
    requests: int = 1_200
    """Of one round of the service, for most verbs."""
    queued: int = 1_024
    """Refunds of one round of the worker."""
    refunds: int = 20_000
    """In the database that the verbs are measured on."""
    sends: int = 10_000
    """Refunds that one worker sends to a slow gateway."""
    list_rounds: int = 3
    list_requests: int = 150
    profile_seconds: int = 15
    starts: int = 5

    def transactions(self, clients: int) -> int:
        """Of one round of pgbench: enough that a connection's start and first plans count for little."""
        return max(2 * self.requests, self.requests // 5 * clients)


QUICK = Scale(
    rounds=1,
    requests=150,
    queued=256,
    refunds=4_000,
    sends=400,
    list_rounds=1,
    list_requests=20,
    profile_seconds=3,
    starts=1,
)
