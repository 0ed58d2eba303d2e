"""Settings: production is strict, secrets come from files, and no secret is ever shown."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from refund_service.settings import (
    SECRETS,
    SHORTEST_SECRET,
    Mode,
    Settings,
    odd_variables,
    read_settings,
    try_settings,
)

PEPPER = "pepper-that-is-long-enough-for-production"
CURSOR = "cursor-secret-that-is-long-enough-to-sign"
SEALING = base64.b64encode(b"k" * 32).decode()
PASSWORD = "database-password"
PRODUCTION = {
    "REFUND_MODE": "production",
    "REFUND_DATABASE_URL": f"postgresql+asyncpg://refunds:{PASSWORD}@db.internal/refunds",
    "REFUND_KEY_PEPPERS": f"2026:{PEPPER}",
    "REFUND_SEALING_KEYS": f"2026:{SEALING}",
    "REFUND_CURSOR_SECRET": CURSOR,
}
NEVER_SHOWN = (PEPPER, CURSOR, SEALING, PASSWORD)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any setting of ours."""
    for name in [name for name in os.environ if name.startswith("REFUND_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def reading(environment: pytest.MonkeyPatch, told: dict[str, str], **given: Any) -> Settings:
    for name, value in told.items():
        environment.setenv(name, value)
    return read_settings(**given)


def test_nothing_has_to_be_set_to_begin(environment: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    assert settings.mode is Mode.DEVELOPMENT
    assert settings.database_url is None
    assert (settings.host, settings.port, settings.ops_host, settings.ops_port) == (
        "127.0.0.1",
        8080,
        "127.0.0.1",
        8081,
    )


def test_production_with_everything_is_accepted(environment: pytest.MonkeyPatch) -> None:
    settings = reading(environment, PRODUCTION)
    assert settings.mode is Mode.PRODUCTION
    assert settings.sealing_key_bytes == {"2026": b"k" * 32}


@pytest.mark.parametrize("name", [name for name in PRODUCTION if name != "REFUND_MODE"])
def test_production_names_the_setting_that_is_missing(environment: pytest.MonkeyPatch, name: str) -> None:
    told = {key: value for key, value in PRODUCTION.items() if key != name}
    with pytest.raises(ValidationError, match=name):
        reading(environment, told)


@pytest.mark.parametrize("name", ["REFUND_KEY_PEPPERS", "REFUND_CURSOR_SECRET"])
@pytest.mark.parametrize(("length", "accepted"), [(SHORTEST_SECRET - 1, False), (SHORTEST_SECRET, True)])
def test_production_refuses_a_short_secret(
    environment: pytest.MonkeyPatch, name: str, length: int, accepted: bool
) -> None:
    secret = "s" * length
    told = PRODUCTION | {name: f"2026:{secret}" if name == "REFUND_KEY_PEPPERS" else secret}
    if accepted:
        reading(environment, told)
    else:
        with pytest.raises(ValidationError, match="at least 32 characters"):
            reading(environment, told)


def test_one_short_secret_among_long_ones_is_refused(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="at least 32 characters"):
        reading(environment, PRODUCTION | {"REFUND_KEY_PEPPERS": f"2026:{PEPPER},2025:short"})


def test_development_takes_short_secrets(environment: pytest.MonkeyPatch) -> None:
    assert reading(environment, {"REFUND_CURSOR_SECRET": "short"}).cursor_secret is not None


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_come_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{PRODUCTION[name]}\n")
    told = {key: value for key, value in PRODUCTION.items() if key != name} | {f"{name}_FILE": str(file)}
    assert reading(environment, told) == reading(environment, {**PRODUCTION})


def test_a_secret_that_is_set_wins_over_its_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file")
    told = {"REFUND_CURSOR_SECRET": "from the environment", "REFUND_CURSOR_SECRET_FILE": str(file)}
    secret = reading(environment, told).cursor_secret
    assert secret is not None
    assert secret.get_secret_value() == "from the environment"


def test_a_file_that_is_not_there_is_an_error_that_names_it(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="missing"):
        reading(environment, {"REFUND_CURSOR_SECRET_FILE": str(tmp_path / "missing")})


def test_secrets_by_id_keep_their_order_and_their_colons(environment: pytest.MonkeyPatch) -> None:
    settings = reading(environment, {"REFUND_KEY_PEPPERS": " new : a:b , old:c , "})
    assert {name: secret.get_secret_value() for name, secret in settings.key_peppers.items()} == {
        "new": "a:b",
        "old": "c",
    }
    assert next(iter(settings.key_peppers)) == "new"


def test_no_secret_stands_in_what_is_printed(environment: pytest.MonkeyPatch) -> None:
    settings = reading(environment, PRODUCTION)
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings.model_dump()}"):
        for secret in NEVER_SHOWN:
            assert secret not in shown


@pytest.mark.parametrize(
    "told",
    [
        PRODUCTION | {"REFUND_PORT": "eighty"},
        {key: value for key, value in PRODUCTION.items() if key != "REFUND_DATABASE_URL"},
        PRODUCTION | {"REFUND_CURSOR_SECRET": "short-and-secret"},
        PRODUCTION | {"REFUND_KEY_PEPPERS": "2026:short-and-secret"},
        PRODUCTION | {"REFUND_MODE": "prod"},
    ],
)
def test_no_secret_stands_in_an_error(environment: pytest.MonkeyPatch, told: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        reading(environment, told)
    shown = f"{refused.value}{refused.value!r}"
    for secret in (*NEVER_SHOWN, "short-and-secret"):
        assert secret not in shown


@pytest.mark.parametrize("told", ["2026", "2026:", ":secret", "2026:a,2026:b"])
def test_secrets_without_an_id_or_with_one_twice_are_refused(
    environment: pytest.MonkeyPatch, told: str
) -> None:
    with pytest.raises(ValidationError, match="id:secret"):
        reading(environment, {"REFUND_KEY_PEPPERS": told})


@pytest.mark.parametrize("key", ["short", base64.b64encode(b"k" * 31).decode(), "not base64!" * 4])
def test_a_sealing_key_that_cannot_seal_is_refused_at_the_start(
    environment: pytest.MonkeyPatch, key: str
) -> None:
    with pytest.raises(ValidationError, match="32 bytes") as refused:
        reading(environment, {"REFUND_SEALING_KEYS": f"2026:{key}"})
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFUND_PORT", "-1"),
        ("REFUND_PORT", "65536"),
        ("REFUND_OPS_PORT", "-2"),
        ("REFUND_DATABASE_POOL", "0"),
        ("REFUND_RATE_LIMIT", "0"),
        ("REFUND_WORKER_SLOTS", "0"),
        ("REFUND_MODE", "staging"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ValidationError):
        reading(environment, {name: value})


def test_what_is_given_wins_over_the_environment(environment: pytest.MonkeyPatch) -> None:
    assert reading(environment, {"REFUND_PORT": "9000"}, port=9001).port == 9001


def test_settings_do_not_change_once_they_are_read(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        read_settings().port = 1  # type: ignore[misc]  # that it cannot be done is what is tried


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


# All at once, for `config check`


def trying(environment: pytest.MonkeyPatch, told: dict[str, str]) -> tuple[Settings | None, dict[str, str]]:
    for name, value in told.items():
        environment.setenv(name, value)
    settings, faults = try_settings()
    return settings, {fault.setting: fault.says for fault in faults}


@pytest.mark.parametrize("told", [{}, PRODUCTION, {"REFUND_PORT": "9000", "refund_worker_slots": "3"}])
def test_what_can_be_read_has_no_fault_and_is_read_the_same(
    environment: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    settings, faults = trying(environment, told)
    assert faults == {}
    assert settings == read_settings()


def test_every_fault_is_told_at_once_and_no_secret(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings, faults = trying(
        environment,
        {
            "REFUND_MODE": "production",
            "REFUND_PORT": "eighty",
            "REFUND_DATABASE_POOL": "0",
            "REFUND_DATABASE_URL": f"mysql://refunds:{PASSWORD}@db.internal/refunds",
            "REFUND_KEY_PEPPERS": "2026:short-and-secret",
            "REFUND_SEALING_KEYS": "2026:short-and-secret",
            "REFUND_CURSOR_SECRET_FILE": str(tmp_path / "missing"),
        },
    )
    assert set(faults) == {
        "REFUND_PORT",
        "REFUND_DATABASE_POOL",
        "REFUND_DATABASE_URL",
        "REFUND_KEY_PEPPERS",
        "REFUND_SEALING_KEYS",
        "REFUND_CURSOR_SECRET_FILE",
    }
    assert "No such file" in faults["REFUND_CURSOR_SECRET_FILE"]
    assert "at least 32 characters" in faults["REFUND_KEY_PEPPERS"]
    assert "32 bytes" in faults["REFUND_SEALING_KEYS"]
    assert settings is not None
    assert (settings.mode, settings.port) == (Mode.PRODUCTION, 8080)
    for secret in (PASSWORD, "short-and-secret", "eighty"):
        assert secret not in f"{faults}"


@pytest.mark.parametrize("name", [name for name in PRODUCTION if name != "REFUND_MODE"])
def test_what_production_needs_is_told_beside_the_rest(environment: pytest.MonkeyPatch, name: str) -> None:
    told = {key: value for key, value in PRODUCTION.items() if key != name} | {"REFUND_PORT": "x"}
    assert set(trying(environment, told)[1]) == {name, "REFUND_PORT"}


@pytest.mark.parametrize("name", ["REFUND_MODE", "refund_mode"])
def test_a_mode_that_there_is_not_leaves_no_settings(environment: pytest.MonkeyPatch, name: str) -> None:
    settings, faults = trying(environment, {name: "prod"})
    assert settings is None
    assert faults == {"REFUND_MODE": "is neither development nor production"}


def test_a_secret_file_that_is_not_text_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    _, faults = trying(environment, {"REFUND_CURSOR_SECRET_FILE": str(tmp_path / "secret")})
    assert faults["REFUND_CURSOR_SECRET_FILE"].endswith("it is not text")


@pytest.mark.parametrize("rest", ["host:port/db", "h:5432x/db", "[::1/db"])
def test_an_address_that_cannot_be_read_shows_nothing_of_itself(
    environment: pytest.MonkeyPatch, rest: str
) -> None:
    with pytest.raises(ValidationError, match="cannot be read") as refused:
        reading(environment, {"REFUND_DATABASE_URL": f"postgresql://refunds:{PASSWORD}@{rest}"})
    assert PASSWORD not in f"{refused.value}{refused.value!r}"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REFUND_PRT", "1", "REFUND_PORT was meant?"),
        ("REFUND_RATE_LIMITS", "1", "REFUND_RATE_LIMIT was meant?"),
        ("REFUND_CURSOR_SECRET_FIEL", "/x", "REFUND_CURSOR_SECRET_FILE was meant?"),
        ("REFUND_ZZZ", "1", "is no setting"),
        ("refund_prt", "1", "REFUND_PORT was meant?"),
        ("REFUND_PORT_FILE", "/x", "only secrets may come from a file"),
        ("REFUND_PORT", "tcp://10.0.0.1:8080", "enableServiceLinks"),
        ("REFUND_PORT", "8080", None),
        ("refund_port", "8080", None),
        ("REFUND_CURSOR_SECRET_FILE", "/x", None),
        # A Service of Kubernetes whose name begins like our settings.
        ("REFUND_API_SERVICE_HOST", "10.0.0.1", None),
        ("REFUND_API_SERVICE_PORT_HTTP", "8080", None),
        ("REFUND_API_PORT_8080_TCP_ADDR", "10.0.0.1", None),
        ("OTHER_PRT", "1", None),
    ],
)
def test_a_variable_that_no_one_reads_is_named_as_a_typo(
    environment: pytest.MonkeyPatch, name: str, value: str, says: str | None
) -> None:
    environment.setenv(name, value)
    found = odd_variables()
    assert [fault.setting for fault in found] == ([name] if says else [])
    if says:
        assert says in found[0].says


def test_a_secret_that_is_given_twice_is_told(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REFUND_CURSOR_SECRET", CURSOR)
    environment.setenv("REFUND_CURSOR_SECRET_FILE", "/x")
    assert [(fault.setting, "wins" in fault.says) for fault in odd_variables()] == [
        ("REFUND_CURSOR_SECRET_FILE", True)
    ]
