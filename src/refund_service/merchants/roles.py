"""Who may do what: roles are bundles of scopes, and a route asks for one scope."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """One thing a key may do."""

    REFUNDS_READ = "refunds:read"
    REFUNDS_WRITE = "refunds:write"
    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"
    EVENTS_READ = "events:read"
    ACT_AS = "act_as"


class Role(StrEnum):
    """A key's role, as a merchant's staff would call it."""

    INTEGRATION = "integration"
    AGENT = "agent"
    APPROVER = "approver"
    ACCOUNTANT = "accountant"
    AUDITOR = "auditor"
    ADMIN = "admin"


_READS: Final = frozenset({Scope.REFUNDS_READ, Scope.PAYMENTS_READ, Scope.POLICIES_READ, Scope.EVENTS_READ})

SCOPES: Final[dict[Role, frozenset[Scope]]] = {
    Role.INTEGRATION: _READS | {Scope.REFUNDS_WRITE, Scope.PAYMENTS_WRITE, Scope.ACT_AS},
    Role.AGENT: _READS | {Scope.REFUNDS_WRITE},
    Role.APPROVER: _READS,
    Role.ACCOUNTANT: _READS,
    Role.AUDITOR: _READS,
    Role.ADMIN: frozenset(Scope),
}
