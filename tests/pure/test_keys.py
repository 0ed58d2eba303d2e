"""API keys: what they look like, how a mistyped one is known, and what of them is kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_service import ids
from refund_service.clock import utc_now
from refund_service.merchants.keys import (
    CACHED_FOR,
    PREFIXES_LAST,
    KeyCabinet,
    Principal,
    TooManyStrangers,
    _checksum,
    new_key,
)
from refund_service.merchants.roles import SCOPES, Role, Scope

MERCHANT = ids.new_id()
PEPPERS = {"new": "a pepper of the tests", "old": "an older pepper of the tests"}


class Drawer:
    """A database that holds what was put into it, and counts who asks."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    async def rows(self, _statement: object, /, **row: Any) -> list[Mapping[str, Any]]:
        if not row:
            self.asked.append("all")
            return [{"prefix": prefix} for prefix in self.kept]
        self.kept[row["prefix"]] = row | {"livemode": False}
        return []

    async def row(self, _statement: object, /, *, prefix: str) -> Mapping[str, Any] | None:
        self.asked.append(prefix)
        return self.kept.get(prefix)


async def made(drawer: Drawer, peppers: Mapping[str, str] = PEPPERS, role: Role = Role.AGENT) -> str:
    cabinet = KeyCabinet(drawer, peppers)  # type: ignore[arg-type]  # it asks no more of a database than this
    return await cabinet.create(MERCHANT, livemode=False, subject="till 3", role=role, now=utc_now())


async def who(drawer: Drawer, header: str | None, peppers: Mapping[str, str] = PEPPERS) -> Principal | None:
    cabinet = KeyCabinet(drawer, peppers)  # type: ignore[arg-type]  # as above
    return await cabinet.authenticate(header, at=0.0)


@pytest.mark.parametrize(("livemode", "mode"), [(False, "test"), (True, "live")])
def test_a_key_says_its_mode_and_holds_256_random_bits(livemode: bool, mode: str) -> None:
    keys = {new_key(livemode=livemode) for _ in range(100)}
    assert len(keys) == 100
    for key, prefix in keys:
        parts = re.fullmatch(r"rk_(test|live)_([0-9A-Za-z]{12})([0-9A-Za-z]{43})([0-9A-Za-z]{6})", key)
        assert parts is not None
        assert (parts[1], parts[2]) == (mode, prefix)
    assert 62**43 > 2**256


def test_the_checksum_is_frozen() -> None:
    """Keys are in other people's hands: a release with another checksum would refuse them all."""
    assert _checksum("test", "a" * 12, "b" * 43) == "0klEJk"
    assert _checksum("live", "a" * 12, "b" * 43) == "1doAAV"


async def test_a_key_opens_what_its_role_may() -> None:
    drawer = Drawer()
    key = await made(drawer)
    principal = await who(drawer, f"Bearer {key}")
    assert principal is not None
    assert (principal.merchant_id, principal.subject) == (MERCHANT, "till 3")
    assert (principal.role, principal.scopes) == (Role.AGENT, SCOPES[Role.AGENT])


async def test_what_is_kept_is_an_hmac_and_not_the_key() -> None:
    drawer = Drawer()
    key = await made(drawer)
    (row,) = drawer.kept.values()
    assert row["secret_hmac"] == hmac.digest(PEPPERS["new"].encode(), key.encode(), "sha256")
    assert row["pepper_id"] == "new"
    secret = key[len("rk_test_") + 12 :]
    assert secret not in repr(row)


async def test_an_older_pepper_still_holds_and_a_pepper_that_is_gone_does_not() -> None:
    drawer = Drawer()
    key = await made(drawer, {"old": PEPPERS["old"]})
    assert await who(drawer, f"Bearer {key}", PEPPERS) is not None
    assert await who(drawer, f"Bearer {key}", {"new": PEPPERS["new"]}) is None
    assert await who(drawer, f"Bearer {key}", {"new": PEPPERS["new"], "old": "another"}) is None


@given(st.integers(8, 68), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
async def test_a_mistyped_key_is_known_without_asking_the_database(place: int, letter: str) -> None:
    drawer = Drawer()
    key = await made(drawer)
    mistyped = key[:place] + letter + key[place + 1 :]
    if mistyped != key:
        assert await who(drawer, f"Bearer {mistyped}") is None
        assert drawer.asked == []


async def test_a_key_of_the_other_mode_is_another_key() -> None:
    drawer = Drawer()
    key = await made(drawer)
    assert await who(drawer, f"Bearer {key.replace('rk_test_', 'rk_live_')}") is None
    assert drawer.asked == []


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer {key} {key}",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer x{key}",
        "Bearer {cut}",
        "Bearer rk_test_",
        "Bearer sk_test_{rest}",
        "Bearer " + "a" * 10_000,
        "Bearer rk_test_" + "٣" * 61,
    ],
)
async def test_what_is_no_key_is_no_one(header: str | None) -> None:
    drawer = Drawer()
    key = await made(drawer)
    told = header and header.format(key=key, cut=key[:-1], rest=key[8:])
    assert await who(drawer, told) is None
    assert drawer.asked == []


@pytest.mark.parametrize(
    "header", ["Bearer {key}", "bearer {key}", "BEARER {key}", "Bearer   {key}", "Bearer {key} "]
)
async def test_the_schemes_case_and_spaces_do_not_count(header: str) -> None:
    drawer = Drawer()
    key = await made(drawer)
    assert await who(drawer, header.format(key=key)) is not None


async def test_a_well_formed_key_that_no_one_made_is_no_one() -> None:
    drawer = Drawer()
    key, prefix = new_key(livemode=False)
    assert await who(drawer, f"Bearer {key}") is None
    assert drawer.asked == [prefix]


async def test_another_secret_under_a_known_prefix_is_no_one() -> None:
    drawer = Drawer()
    key = await made(drawer)
    other, other_prefix = new_key(livemode=False)
    drawer.kept[other_prefix] = drawer.kept[key[8:20]]
    assert await who(drawer, f"Bearer {other}") is None


async def test_a_known_key_is_believed_for_five_seconds() -> None:
    drawer = Drawer()
    header = f"Bearer {await made(drawer)}"
    cabinet = KeyCabinet(drawer, PEPPERS)  # type: ignore[arg-type]  # as above
    assert await cabinet.authenticate(header, at=100.0) is not None
    drawer.kept.clear()  # revoked
    assert CACHED_FOR == 5
    assert await cabinet.authenticate(header, at=104.999) is not None
    assert len(drawer.asked) == 1
    assert await cabinet.authenticate(header, at=105.0) is None


async def test_a_refusal_is_not_kept() -> None:
    drawer = Drawer()
    header = f"Bearer {await made(drawer)}"
    cabinet = KeyCabinet(drawer, PEPPERS)  # type: ignore[arg-type]  # as above
    kept = dict(drawer.kept)
    drawer.kept.clear()
    assert await cabinet.authenticate(header, at=100.0) is None
    drawer.kept |= kept
    assert await cabinet.authenticate(header, at=100.0) is not None


READS = {"refunds:read", "payments:read", "policies:read", "events:read"}


@pytest.mark.parametrize(
    ("role", "besides"),
    [
        (Role.INTEGRATION, {"refunds:write", "payments:write", "act_as"}),
        (Role.AGENT, {"refunds:write"}),
        (Role.APPROVER, set()),
        (Role.ACCOUNTANT, set()),
        (Role.AUDITOR, set()),
        (Role.ADMIN, {"refunds:write", "payments:write", "policies:write", "act_as"}),
    ],
)
def test_a_role_may_no_more_than_it_needs(role: Role, besides: set[str]) -> None:
    assert {scope.value for scope in SCOPES[role]} == READS | besides


def test_every_role_has_its_scopes_and_only_the_admin_has_all() -> None:
    assert set(SCOPES) == set(Role)
    assert [role for role in Role if SCOPES[role] == set(Scope)] == [Role.ADMIN]


async def test_whoever_was_not_known_a_moment_ago_is_a_stranger() -> None:  # SEC-27
    drawer = Drawer()
    header = f"Bearer {await made(drawer)}"
    unknown = f"Bearer {new_key(livemode=False)[0]}"
    cabinet = KeyCabinet(drawer, PEPPERS)  # type: ignore[arg-type]  # as above
    strangers: list[float] = []

    async def come(told: str, at: float) -> bool:
        def may_ask(_prefix: str | None) -> bool:
            strangers.append(at)
            return True

        return bool(await cabinet.authenticate(told, at=at, may_ask=may_ask))

    assert await come(header, 1.0)
    assert await come(header, 2.0)
    assert await come(header, 7.0), "it is asked after anew, and is known nevertheless"
    assert not await come(unknown, 8.0)
    assert not await come(unknown, 9.0)
    assert not await come("Bearer rk_test_cut", 10.0), "what is no key asks no one"
    drawer.kept.clear()  # revoked
    assert not await come(header, 13.0)
    assert not await come(header, 14.0)

    assert strangers == [1.0, 8.0, 9.0, 14.0]
    assert len(drawer.asked) == 6


async def test_a_crowd_of_strangers_holds_up_no_key_that_was_made() -> None:  # SEC-27
    drawer = Drawer()
    header = f"Bearer {await made(drawer)}"
    (prefix,) = drawer.kept
    cabinet = KeyCabinet(drawer, PEPPERS)  # type: ignore[arg-type]  # as above
    crowd = {None}

    async def come(told: str, at: float) -> bool:
        return bool(await cabinet.authenticate(told, at=at, may_ask=lambda asked: asked not in crowd))

    for _ in range(3):
        with pytest.raises(TooManyStrangers):
            await come(f"Bearer {new_key(livemode=False)[0]}", 1.0)
    assert drawer.asked == ["all"], "one question for all of them"

    assert await come(header, 1.5)
    assert drawer.asked == ["all", prefix]

    # Nor may one prefix be asked about for ever: whoever guesses at the rest of a key is a crowd too.
    drawer.asked.clear()
    crowd.add(prefix)
    with pytest.raises(TooManyStrangers):
        await come(f"Bearer rk_test_{prefix}{'b' * 43}{_checksum('test', prefix, 'b' * 43)}", 1.9)
    assert await come(header, 6.0), "who was known a moment ago is no stranger"
    assert drawer.asked == []


async def test_a_key_made_during_a_crowd_is_let_in_a_second_later() -> None:  # SEC-27
    drawer = Drawer()
    cabinet = KeyCabinet(drawer, PEPPERS)  # type: ignore[arg-type]  # as above
    with pytest.raises(TooManyStrangers):
        await cabinet.authenticate(f"Bearer {new_key(livemode=False)[0]}", at=1.0, may_ask=bool)
    header = f"Bearer {await made(drawer)}"
    with pytest.raises(TooManyStrangers):
        await cabinet.authenticate(header, at=1.0 + PREFIXES_LAST / 2, may_ask=bool)
    assert await cabinet.authenticate(header, at=1.0 + PREFIXES_LAST, may_ask=bool)
