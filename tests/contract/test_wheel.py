"""The wheel: everything that the service needs is in it, and it works from there without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from house import SECRETS

from refund_service.db.embedded import EmbeddedServer
from refund_service.db.schema_state import head

HOUSE = Path(__file__).resolve().parents[2]
IN_THE_WHEEL = {
    "src/refund_service/": "refund_service/",
    "migrations/": "refund_service/_migrations/",
    "openapi/": "refund_service/_openapi/",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=HOUSE,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content alone; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return folder


def test_the_wheel_holds_every_file_of_ours_and_no_other(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *IN_THE_WHEEL],
        cwd=HOUSE,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    ours = {
        inside + name.removeprefix(folder)
        for name in listed
        for folder, inside in IN_THE_WHEEL.items()
        if name.startswith(folder) and (HOUSE / name).is_file()
    }
    with ZipFile(wheel) as opened:
        found = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert len(ours) > 100
    assert found == ours


def test_what_was_installed_migrates_a_database_and_finds_it_well(
    installed: Path, postgres: EmbeddedServer, tmp_path: Path
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("REFUND_")
    } | SECRETS
    environment |= {
        "PYTHONPATH": str(installed),
        "REFUND_MODE": "production",
        "REFUND_DATABASE_URL": postgres.create_database("from_a_wheel"),
    }

    def said(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    where = "import refund_service.db.migrations as room; print(room.folder())"
    assert said(sys.executable, "-c", where) == str(installed / "refund_service" / "_migrations")
    service = str(installed / "bin" / "refund-service")
    assert said(service, "migrate") == f"schema {head()}"
    assert said(service, "openapi", "--check", str(HOUSE / "openapi" / "refund-service.v1.json")) == ""
    said(service, "verify")
    postgres.drop_database("from_a_wheel")
