"""Where a command works: settings, secrets and a database, the embedded one where none is named."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refund_service.db.embedded import EmbeddedServer, attach
from refund_service.settings import Mode, Settings, read_settings


class NoDatabase(Exception):
    """There is none to work on."""


@contextmanager
def own_place(data_dir: Path | None = None, **given: Any) -> Iterator[Settings]:
    """Settings with a database, started here and ended here where it is the embedded one."""
    settings = _with_secrets(_settings(data_dir, given))
    if settings.database_url is not None:
        yield settings
        return
    with EmbeddedServer.start(settings.data_dir) as server:
        yield settings.model_copy(update={"database_url": _secret(server.url)})


@contextmanager
def attached_place(data_dir: Path | None = None, **given: Any) -> Iterator[Settings]:
    """Settings with a database that is running already: a named one, or one that ``serve`` has started."""
    settings = _with_secrets(_settings(data_dir, given))
    if settings.database_url is None:
        url = attach(settings.data_dir)
        if url is None:
            raise NoDatabase(
                f"No PostgreSQL runs for {settings.data_dir.resolve()}. Start `refund-service serve` first, "
                "or name a server in REFUND_DATABASE_URL."
            )
        settings = settings.model_copy(update={"database_url": _secret(url)})
    yield settings


@contextmanager
def any_place(data_dir: Path | None = None, **given: Any) -> Iterator[Settings]:
    """The running database where there is one, else the embedded one for the time of the command."""
    try:
        with attached_place(data_dir, **given) as settings:
            yield settings
            return
    except NoDatabase:
        pass
    with own_place(data_dir, **given) as settings:
        if settings.database_url is not None:
            # The embedded one, which may never have been served from.
            from refund_service.db.migrations import migrate  # noqa: PLC0415 - Alembic is large, and seldom needed

            asyncio.run(migrate(settings.database_url.get_secret_value()))
        yield settings


def _settings(data_dir: Path | None, given: dict[str, Any]) -> Settings:
    if data_dir is not None:
        given["data_dir"] = data_dir
    return read_settings(**given)


def _secret(value: str) -> Any:
    return Settings.model_validate({"database_url": value}).database_url


def as_it_is(settings: Settings) -> Settings:
    """The settings with what a first start has left in ``data_dir``; nothing is made or started."""
    settings = _with_secrets(settings, make=False)
    if settings.database_url is None and settings.mode is not Mode.PRODUCTION:
        url = attach(settings.data_dir)
        return settings.model_copy(update={"database_url": url and _secret(url)})
    return settings


def _with_secrets(settings: Settings, *, make: bool = True) -> Settings:
    """In development, secrets of this folder's own are made at the first start and kept there."""
    if settings.mode is Mode.PRODUCTION or (
        settings.key_peppers and settings.sealing_keys and settings.cursor_secret
    ):
        return settings
    path = settings.data_dir / "development-secrets.json"
    if not path.exists():
        if not make:
            return settings
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        made = {
            "key_peppers": f"dev:{secrets.token_urlsafe(32)}",
            "sealing_keys": f"dev:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "cursor_secret": secrets.token_urlsafe(32),
        }
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(made))
        # Linked, not renamed: of two first starts at once, one wins and both read the same file.
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
    kept = Settings.model_validate(json.loads(path.read_text()))
    return settings.model_copy(
        update={
            name: getattr(settings, name) or getattr(kept, name)
            for name in ("key_peppers", "sealing_keys", "cursor_secret")
        }
    )
