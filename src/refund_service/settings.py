"""The only reader of the environment. Every setting is ``REFUND_…``; secrets may come from ``…_FILE``."""

from __future__ import annotations

import base64
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

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
        env_prefix="REFUND_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    mode: Mode = Field(
        default=Mode.DEVELOPMENT,
        description="`production` refuses the embedded database, the sandbox, and missing or short secrets.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`postgresql+asyncpg://…`. Without it an embedded PostgreSQL is started in `data_dir`.",
    )
    data_dir: Path = Field(
        default=Path(".data"), description="Where the embedded PostgreSQL and development secrets are kept."
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the API; 0 takes any free one.")
    ops_host: str = Field(default="127.0.0.1", description="Address of the health and metrics listener.")
    ops_port: int = Field(
        default=8081, ge=-1, le=65535, description="Port of that listener; 0 takes any free one, -1 none."
    )
    public_url: str = Field(
        default="http://127.0.0.1:8080", description="Where clients reach the API; stands in problem types."
    )
    database_pool: int = Field(default=10, ge=1, le=200, description="Database connections kept per process.")
    database_overflow: int = Field(default=10, ge=0, le=200, description="More of them under load.")
    pgbouncer: bool = Field(
        default=False, description="The database is behind PgBouncer in transaction mode."
    )
    worker_slots: int = Field(default=64, ge=1, le=1000, description="Jobs that one worker runs at once.")
    rate_limit: float = Field(default=200.0, gt=0, description="Requests per second and API key.")
    rate_burst: int = Field(default=400, ge=1, description="Requests that a key may send at once.")
    key_peppers: SecretsById = Field(
        default_factory=dict, description="`id:secret,…`: peppers of the API keys' HMACs, the newest first."
    )
    sealing_keys: SealingKeys = Field(
        default_factory=dict,
        description="`id:base64,…`: 32-byte keys that seal gateway credentials, the newest first.",
    )
    cursor_secret: SecretStr | None = Field(default=None, description="Signs the cursors of lists.")

    @field_validator("database_url")
    @classmethod
    def _by_asyncpg(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, colon, rest = url.get_secret_value().partition("://")
        if not colon or scheme not in {"postgres", "postgresql", "postgresql+asyncpg"}:
            raise ValueError("only PostgreSQL is spoken here: postgresql://user:password@host/database")
        return SecretStr(f"postgresql+asyncpg://{rest}")

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.mode is not Mode.PRODUCTION:
            return self
        missing = [
            f"REFUND_{name.upper()}"
            for name in ("database_url", "key_peppers", "sealing_keys", "cursor_secret")
            if not getattr(self, name)
        ]
        if missing:
            raise ValueError(f"production needs {', '.join(missing)}")
        secrets = [*self.key_peppers.values(), *([self.cursor_secret] if self.cursor_secret else [])]
        if any(len(secret.get_secret_value()) < SHORTEST_SECRET for secret in secrets):
            raise ValueError(f"production needs secrets of at least {SHORTEST_SECRET} characters")
        return self

    @property
    def sealing_key_bytes(self) -> dict[str, bytes]:
        """The sealing keys by id, decoded."""
        return {
            key_id: base64.b64decode(secret.get_secret_value(), validate=True)
            for key_id, secret in self.sealing_keys.items()
        }


def read_settings(**given: Any) -> Settings:
    """Settings from the environment, with ``…_FILE`` read in place of a secret; ``given`` wins."""
    for name in SECRETS:
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            given.setdefault(name.removeprefix("REFUND_").lower(), Path(path).read_text().strip())
    return Settings(**given)
