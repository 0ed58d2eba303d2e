"""The only reader of the environment. Every setting is ``REFUND_…``; secrets may come from ``…_FILE``."""

from __future__ import annotations

import base64
import difflib
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url

PREFIX: Final = "REFUND_"
SECRETS = ("REFUND_KEY_PEPPERS", "REFUND_SEALING_KEYS", "REFUND_CURSOR_SECRET", "REFUND_DATABASE_URL")
SHORTEST_SECRET = 32
SEALING_KEY_BYTES = 32


class Mode(StrEnum):
    """Where the service runs."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


def _by_id(value: object) -> object:
    """``id:secret,id:secret``: the first one is used for what is new, the others still hold."""
    if not isinstance(value, str):
        return value
    found: dict[str, SecretStr] = {}
    for pair in value.split(","):
        if not pair.strip():
            continue
        key_id, _, secret = (part.strip() for part in pair.partition(":"))
        if not key_id or not secret or key_id in found:
            # Which one is not said: what stands before a colon may be the secret itself.
            raise ValueError("not written as id:secret,id:secret with each id once")
        found[key_id] = SecretStr(secret)
    return found


def _sealing_keys_fit(keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for key_id, key in keys.items():
        try:
            fits = len(base64.b64decode(key.get_secret_value(), validate=True)) == SEALING_KEY_BYTES
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"the key {key_id} is not {SEALING_KEY_BYTES} bytes in base64")
    return keys


SecretsById = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_by_id)]
SealingKeys = Annotated[SecretsById, AfterValidator(_sealing_keys_fit)]


class Settings(BaseSettings):
    """What the operator chooses. Secrets are never shown in logs or errors."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    mode: Mode = Field(
        default=Mode.DEVELOPMENT,
        description="`production` refuses the embedded database, the sandbox, and missing or short secrets.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL 15 or newer. Without it an embedded one is started in `REFUND_DATA_DIR`. "
        "In a password, write `@ : / ? # %` as `%40 %3A %2F %3F %23 %25`.",
    )
    data_dir: Path = Field(
        default=Path(".data"), description="Where the embedded PostgreSQL and development secrets are kept."
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on; `0.0.0.0` for all.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the API; 0 takes any free one.")
    ops_host: str = Field(
        default="127.0.0.1", description="Address of the health and metrics listener; for your network only."
    )
    ops_port: int = Field(
        default=8081, ge=-1, le=65535, description="Port of that listener; 0 takes any free one, -1 none."
    )
    public_url: str = Field(
        default="http://127.0.0.1:8080", description="Where clients reach the API; stands in problem types."
    )
    database_pool: int = Field(
        default=6,
        ge=1,
        le=200,
        description="Database connections per process, at most. More than PostgreSQL has processors for "
        "only wait for each other; all processes together must fit into `max_connections`.",
    )
    pgbouncer: bool = Field(
        default=False,
        description="The database is behind PgBouncer in transaction mode: the role brings the limits.",
    )
    worker_slots: int = Field(
        default=64,
        ge=1,
        le=1000,
        description="Jobs that one worker runs at once; most of them wait for a gateway.",
    )
    rate_limit: float = Field(
        default=200.0, gt=0, description="Requests per second and API key, in each process."
    )
    rate_burst: int = Field(default=400, ge=1, description="Requests that a key may send at once.")
    key_peppers: SecretsById = Field(
        default_factory=dict,
        description="Peppers of the API keys' HMACs, the newest first. Without them no API key is known.",
    )
    sealing_keys: SealingKeys = Field(
        default_factory=dict,
        description="They seal gateway credentials, the newest first. Without them no gateway is called.",
    )
    cursor_secret: SecretStr | None = Field(
        default=None, description="Signs the cursors of lists. Changing it ends those that clients hold."
    )

    @field_validator("database_url")
    @classmethod
    def _by_asyncpg(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, colon, rest = url.get_secret_value().partition("://")
        if not colon or scheme not in {"postgres", "postgresql", "postgresql+asyncpg"}:
            raise ValueError("only PostgreSQL is spoken here: postgresql://user:password@host/database")
        try:
            make_url(f"postgresql+asyncpg://{rest}")
        except Exception:  # noqa: BLE001 - whatever it says, it may say a part of the password
            raise ValueError(
                "cannot be read: write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25"
            ) from None
        return SecretStr(f"postgresql+asyncpg://{rest}")

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.mode is not Mode.PRODUCTION:
            return self
        if wanting := wanting_in_production(self):
            raise ValueError("; ".join(f"{fault.setting} {fault.says}" for fault in wanting))
        return self

    @property
    def sealing_key_bytes(self) -> dict[str, bytes]:
        """The sealing keys by id, decoded."""
        return {
            key_id: base64.b64decode(secret.get_secret_value(), validate=True)
            for key_id, secret in self.sealing_keys.items()
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one setting, without its value."""

    setting: str
    says: str


NEEDED_IN_PRODUCTION: Final = ("database_url", "key_peppers", "sealing_keys", "cursor_secret")


def wanting_in_production(settings: Settings) -> list[Fault]:
    """What production would not accept of these settings."""
    missing = [
        Fault(variable(name), "is missing, and production needs it")
        for name in NEEDED_IN_PRODUCTION
        if not getattr(settings, name)
    ]
    short = [
        Fault(variable(name), f"is too short: production needs at least {SHORTEST_SECRET} characters")
        for name, secrets in (
            ("key_peppers", [*settings.key_peppers.values()]),
            ("cursor_secret", [settings.cursor_secret] if settings.cursor_secret else []),
        )
        if any(len(secret.get_secret_value()) < SHORTEST_SECRET for secret in secrets)
    ]
    return missing + short


def variable(name: str) -> str:
    """The variable of the environment that a setting comes from."""
    return f"{PREFIX}{name.upper()}"


def read_settings(**given: Any) -> Settings:
    """Settings from the environment, with ``…_FILE`` read in place of a secret; ``given`` wins."""
    for name in SECRETS:
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            given.setdefault(name.removeprefix(PREFIX).lower(), Path(path).read_text().strip())
    return Settings(**given)


def try_settings(**given: Any) -> tuple[Settings | None, list[Fault]]:
    """What ``read_settings`` would make of the environment, or everything that keeps it from that.

    With faults, the settings are those that are left when the faulty ones are passed over; ``None``
    where the mode itself cannot be read.
    """
    faults = []
    for name in SECRETS:
        path, field = os.environ.get(f"{name}_FILE"), name.removeprefix(PREFIX).lower()
        if path and name not in os.environ and field not in given:
            try:
                given[field] = Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                faults.append(Fault(f"{name}_FILE", f"names {path}, which cannot be read: {why}"))
    try:
        # Development first, which demands nothing: what production wants is told beside the rest.
        settings = Settings(**given | {"mode": Mode.DEVELOPMENT})
    except ValidationError as refused:
        errors = refused.errors(include_input=False, include_url=False, include_context=False)
        faulty = {str(error["loc"][0]): error["msg"].removeprefix("Value error, ") for error in errors}
        faults += [Fault(variable(name), f"{says[:1].lower()}{says[1:]}") for name, says in faulty.items()]
        fields = Settings.model_fields
        left = {name: fields[name].get_default(call_default_factory=True) for name in faulty}
        settings = Settings(**given | left | {"mode": Mode.DEVELOPMENT})
    # Read as pydantic reads it: in capitals or not.
    named = (value for name, value in os.environ.items() if name.upper() == variable("mode"))
    told = given.get("mode", next(named, Mode.DEVELOPMENT))
    try:
        mode = Mode(told)
    except ValueError:
        return None, [*faults, Fault(variable("mode"), f"is neither {' nor '.join(Mode)}")]
    if mode is Mode.PRODUCTION:
        known = {fault.setting.removesuffix("_FILE") for fault in faults}
        faults += [fault for fault in wanting_in_production(settings) if fault.setting not in known]
    return settings.model_copy(update={"mode": mode}), faults


# Kubernetes tells every container of every Service in such variables.
_OF_KUBERNETES: Final = re.compile(r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_(?:TCP|UDP)(?:_.*)?)$")


def odd_variables() -> list[Fault]:
    """Variables that look like settings and are none, or that no one reads: probable typos."""
    known = {variable(name) for name in Settings.model_fields}
    from_files = {f"{name}_FILE" for name in SECRETS}
    found = []
    for name in sorted(name for name in os.environ if name.upper().startswith(PREFIX)):
        told = name.upper()
        if told in known and os.environ[name].startswith("tcp://"):
            found.append(Fault(name, "is set by Kubernetes for a Service: use enableServiceLinks: false"))
        elif told in from_files and told.removesuffix("_FILE") in os.environ:
            found.append(Fault(name, f"is not read: {told.removesuffix('_FILE')} is set too, and wins"))
        elif told.endswith("_FILE") and told.removesuffix("_FILE") in known and told not in from_files:
            found.append(Fault(name, "is not read: only secrets may come from a file"))
        elif told not in known | from_files and not _OF_KUBERNETES.match(told):
            near = difflib.get_close_matches(told, sorted(known | from_files), n=1)
            found.append(Fault(name, f"is no setting; {near[0]} was meant?" if near else "is no setting"))
    return found
