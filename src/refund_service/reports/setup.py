"""Whether the service would run well with these settings, on this machine, on this database.

Pure: ``setup_seen.py`` and the command ask, this judges. Nothing that it is given holds a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

OLDEST_SERVER: Final = 15
SKEW: Final = 2.0
"""Seconds between two clocks that no one notices; leases go by the database's, ages by this machine's."""

NAMED: Final = 5
"""Of many, so many are named."""


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    UNTRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class PortSeen:
    """Whether a port could be listened on."""

    setting: str
    address: str
    refused: str | None
    """Why not."""
    taken_by_us: bool
    """A refund-service answers there."""


@dataclass(frozen=True, slots=True)
class HeldSeen:
    """What the database holds that needs the secrets of the settings."""

    unsealable: Mapping[str, str]
    """Gateway accounts whose credentials do not open, with the id of their sealing key."""
    accounts: int
    peppers: Mapping[str, int]
    """API keys in use, by the id of their pepper."""
    not_allowed: Collection[str]
    """Tables that the role may not read or add to."""


@dataclass(frozen=True, slots=True)
class DatabaseSeen:
    """What a connected database told."""

    version: int
    limits: Collection[str]
    """Those that it does not hold."""
    schema_found: str | None
    schema_needed: str
    schema_borne: bool
    ahead: float
    """Seconds by which its clock is ahead of this machine's, and how sure that is."""
    doubt: float
    held: HeldSeen | None
    """Nothing is asked of a schema that this code does not bear."""


def judge_settings(
    faults: Mapping[str, str], odd: Mapping[str, str], *, public_url: str | None
) -> list[Line]:
    """The environment: what ``serve`` would refuse, and what it would pass over."""
    lines = [Line(setting, Verdict.WRONG, says) for setting, says in faults.items()]
    lines += [Line(name, Verdict.WARNING, says) for name, says in odd.items()]
    if public_url is not None and (urlsplit(public_url).hostname or "") in {"127.0.0.1", "localhost", "::1"}:
        says = "is this machine's own: clients are sent there to read what a problem means"
        lines.append(Line("REFUND_PUBLIC_URL", Verdict.WARNING, says))
    return lines or [Line("settings", Verdict.OK, "each can be read, and none is unknown")]


def judge_ports(ports: Sequence[PortSeen]) -> list[Line]:
    """Where it would listen."""
    lines = []
    for port in ports:
        if port.refused is None:
            lines.append(Line(port.setting, Verdict.OK, f"{port.address} is free"))
        elif port.taken_by_us:
            says = f"{port.address} is taken by a refund-service that runs"
            lines.append(Line(port.setting, Verdict.WARNING, says))
        else:
            lines.append(Line(port.setting, Verdict.WRONG, f"{port.address}: {port.refused}"))
    return lines


def judge_database(
    seen: DatabaseSeen, *, sealing_keys: Collection[str], peppers: Collection[str]
) -> list[Line]:
    """The database, and whether the secrets fit what it holds."""
    lines = [_server(seen), _limits(seen), _schema(seen), _clock(seen)]
    if seen.held is None:
        says = "on a schema that this version does not bear"
        return lines + [Line(what, Verdict.UNTRIED, says) for what in ("rights", "sealing keys", "peppers")]
    return [*lines, _rights(seen.held), *_sealing(seen.held, sealing_keys), *_peppers(seen.held, peppers)]


def _server(seen: DatabaseSeen) -> Line:
    major, minor = divmod(seen.version, 10_000)
    if major < OLDEST_SERVER:
        says = f"PostgreSQL {major}.{minor} is too old: {OLDEST_SERVER} or newer is needed"
        return Line("server", Verdict.WRONG, says)
    return Line("server", Verdict.OK, f"PostgreSQL {major}.{minor}")


def _limits(seen: DatabaseSeen) -> Line:
    if seen.limits:
        says = f"{', '.join(seen.limits)}: set them on the role, as ALTER ROLE … SET lock_timeout = '1500ms'"
        return Line("session limits", Verdict.WRONG, says)
    return Line("session limits", Verdict.OK, "lock_timeout, statement_timeout and synchronous_commit hold")


def _schema(seen: DatabaseSeen) -> Line:
    found, needed = seen.schema_found, seen.schema_needed
    if seen.schema_borne:
        return Line("schema", Verdict.OK, f"{found}, and this version needs {needed}")
    if found is None:
        return Line("schema", Verdict.WRONG, "there is none: run refund-service migrate")
    if found < needed:
        says = f"{found} is older than {needed}, which this version needs: run refund-service migrate"
        return Line("schema", Verdict.WRONG, says)
    says = f"{found} is newer than this version bears, which was made for {needed}: run a newer version"
    return Line("schema", Verdict.WRONG, says)


def _clock(seen: DatabaseSeen) -> Line:
    off = abs(seen.ahead)
    if off - seen.doubt > SKEW:
        way = "ahead of" if seen.ahead > 0 else "behind"
        says = f"the database's is {off:.1f} s {way} this machine's: see that both are synchronised"
        return Line("clock", Verdict.WARNING, says)
    return Line("clock", Verdict.OK, "the database's and this machine's agree")


def _rights(held: HeldSeen) -> Line:
    if held.not_allowed:
        says = f"the role may not read or add to {_some(sorted(held.not_allowed))}"
        return Line("rights", Verdict.WRONG, says)
    return Line("rights", Verdict.OK, "the role may read and add to every table")


def _sealing(held: HeldSeen, keys: Collection[str]) -> list[Line]:
    lines = []
    for key_id in sorted(set(held.unsealable.values())):
        accounts = sorted(account for account, of in held.unsealable.items() if of == key_id)
        why = "is another key than the one that sealed" if key_id in keys else "is missing, and seals"
        says = f"key {key_id} {why} the credentials of {_some(accounts)}"
        lines.append(Line("REFUND_SEALING_KEYS", Verdict.WRONG, says))
    if lines:
        return lines
    return [Line("sealing keys", Verdict.OK, f"the credentials of {_counted(held.accounts, 'account')} open")]


def _peppers(held: HeldSeen, peppers: Collection[str]) -> list[Line]:
    lines = [
        Line(
            "REFUND_KEY_PEPPERS",
            Verdict.WRONG,
            f"pepper {one} is missing, and {_counted(number, 'API key')} need it",
        )
        for one, number in sorted(held.peppers.items())
        if one not in peppers
    ]
    if lines:
        return lines
    return [Line("peppers", Verdict.OK, f"{_counted(sum(held.peppers.values()), 'API key')} can be read")]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
