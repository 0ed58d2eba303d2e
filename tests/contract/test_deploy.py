"""What deploys the service: valid by the rules of its tools, and true about the service and its image."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyOptions
from typer.main import get_command

from refund_service.cli.main import cli
from refund_service.cli.serving import GRACE
from refund_service.settings import SECRETS, Settings, read_settings

HOUSE = Path(__file__).resolve().parents[2]
DEPLOY = HOUSE / "deploy"
DOCKERFILE = (HOUSE / "Dockerfile").read_text()
IMAGES_USER = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
IMAGES_PORTS = {int(port) for port in re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[1].split()}

KUBERNETES = "1.30"
"""The oldest that the manifests are for, as their page says."""

ENDS_WITHIN = 20
"""Seconds after SIGTERM, as DESIGN and the operator's page promise."""


def seconds(told: str) -> int:
    return int(re.fullmatch(r"(\d+)s", told)[1])


def assert_runs(arguments: list[str]) -> None:
    """A command of the service with options that it has."""
    command = get_command(cli).commands[arguments[0]]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert set(arguments[1:]) <= known, arguments


def assert_settings(environment: dict[str, str], secrets_in: str) -> None:
    """Each variable is a setting of the class; every secret is a file in ``secrets_in``, and none stands open."""
    known = {f"REFUND_{name.upper()}" for name in Settings.model_fields} | {f"{one}_FILE" for one in SECRETS}
    assert set(environment) <= known
    assert set(environment) & set(SECRETS) == set()
    for secret in SECRETS:
        name = secret.removeprefix("REFUND_").lower()
        assert environment[f"{secret}_FILE"] == f"{secrets_in}/{name}"


def test_the_grace_that_is_given_covers_what_serving_may_take() -> None:
    assert GRACE <= ENDS_WITHIN


def test_the_image_listens_where_it_says() -> None:
    told = dict(re.findall(r"(REFUND_(?:OPS_)?PORT)=(\d+)", DOCKERFILE))
    assert {int(port) for port in told.values()} == IMAGES_PORTS
    assert told == {"REFUND_PORT": "8080", "REFUND_OPS_PORT": "8081"}


# compose.yaml

COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
# As compose reads it where no variable is set.
INTERPOLATED = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE_TEXT)
COMPOSE: dict[str, Any] = yaml.safe_load(INTERPOLATED)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "refund-service"}
every_service = pytest.mark.parametrize("name", SERVICES)
every_service_of_ours = pytest.mark.parametrize("name", OURS)


def read_strictly(text: str) -> None:
    compose = PyOptions(apply_merge=True).from_yaml(text)
    compose.validate()


def test_the_compose_file_keeps_the_specification() -> None:
    assert "$" not in INTERPOLATED
    read_strictly(INTERPOLATED)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read_only: true", "readonly: true"),
        ("condition: service_healthy", "condition: healthy"),
        ("stop_grace_period: 30s", "stop_grace_period: soon"),
        ("secrets: [database_password]", "secrets: [another]"),
    ],
)
def test_a_compose_file_that_does_not_is_refused(right: str, wrong: str) -> None:
    assert right in INTERPOLATED
    with pytest.raises(ValueError, match=r"."):
        read_strictly(INTERPOLATED.replace(right, wrong))


def test_compose_itself_can_read_it() -> None:
    docker = shutil.which("docker")
    if (
        not docker
        or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no docker compose here")
    subprocess.run([docker, "compose", "--file", DEPLOY / "compose.yaml", "config", "--quiet"], check=True)


def test_it_is_postgresql_the_schema_once_the_api_and_a_worker() -> None:
    assert {name: service["command"] for name, service in OURS.items()} == {
        "migrate": ["migrate"],
        "api": ["serve", "--no-worker"],
        "worker": ["work"],
    }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert set(SERVICES) == {*OURS, "postgres"}


@every_service
def test_a_container_may_not_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])
    assert not any(
        re.search("(?i)password=|pepper.*=", f"{value}") for value in service["environment"].values()
    )


@every_service_of_ours
def test_a_container_of_ours_runs_a_command_with_settings_that_there_are(name: str) -> None:
    service = OURS[name]
    assert_runs(service["command"])
    assert_settings(service["environment"], "/run/secrets")
    assert "cap_add" not in service
    assert seconds(service["stop_grace_period"]) >= ENDS_WITHIN
    # The image's own health check holds where a process stays.
    assert service.get("healthcheck") == ({"disable": True} if name == "migrate" else None)


def test_only_the_api_is_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8080:8080"]}
    assert 8080 in IMAGES_PORTS


def test_volumes_that_are_used_are_declared() -> None:
    used = {volume.partition(":")[0] for one in SERVICES.values() for volume in one.get("volumes", ())}
    assert used == set(COMPOSE["volumes"])


# Secrets


def test_the_secrets_that_are_made_are_the_ones_that_production_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "secrets"
    make = [DEPLOY / "make-secrets", folder]
    subprocess.run(make, check=True)

    declared = {name: Path(one["file"]) for name, one in COMPOSE["secrets"].items()}
    assert {path.name for path in folder.iterdir()} == set(declared)
    assert all(path == Path("secrets") / name for name, path in declared.items())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for secret in SECRETS:
        monkeypatch.setenv(f"{secret}_FILE", str(folder / secret.removeprefix("REFUND_").lower()))
    settings = read_settings(mode="production")
    password = (folder / "database_password").read_text()
    assert settings.database_url is not None
    assert (
        settings.database_url.get_secret_value()
        == f"postgresql+asyncpg://refunds:{password}@postgres/refunds"
    )

    # Those that are there are never written over.
    assert subprocess.run(make, capture_output=True, check=False).returncode != 0
    assert (folder / "database_password").read_text() == password


def test_made_secrets_are_kept_out_of_git_and_of_the_image() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "deploy/secrets/database_url"], cwd=HOUSE, check=False
    )
    assert ignored.returncode == 0
    assert (HOUSE / ".dockerignore").read_text().splitlines()[1] == "*"


# Kubernetes


@pytest.fixture(scope="module")
def built() -> list[dict[str, Any]]:
    """What the example overlay comes to."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")
    overlay = DEPLOY / "kubernetes" / "overlays" / "example"
    done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(built: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in built if one["kind"] in kinds]


def pods(built: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each pod's template with its one container."""
    for one in of_kind(built, "Deployment", "Job"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        yield one["spec"]["template"], container


@pytest.mark.parametrize("version", [KUBERNETES, "1.37"])
def test_every_object_keeps_kubernetes_schema(built: list[dict[str, Any]], version: str) -> None:
    assert {one["kind"] for one in built} == {
        *("Namespace", "ServiceAccount", "ConfigMap", "Job", "Deployment", "Service"),
        *("PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"),
    }
    for one in built:
        kubernetes_validate.validate(one, version, strict=True)


def test_an_object_that_does_not_is_refused(built: list[dict[str, Any]]) -> None:
    api = of_kind(built, "Deployment")[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(api | {"spec": api["spec"] | {"replica": 2}}, KUBERNETES, strict=True)


def test_the_pods_are_the_schema_the_api_and_workers_of_one_image(built: list[dict[str, Any]]) -> None:
    assert sorted(container["args"] for _, container in pods(built)) == [
        ["migrate"],
        ["serve", "--no-worker"],
        ["work"],
    ]
    (settings,) = of_kind(built, "ConfigMap")
    assert_settings(settings["data"], "/run/secrets/refund-service")
    for template, container in pods(built):
        assert_runs(container["args"])
        assert container["image"] == "registry.example/refund-service:0.1.0"
        assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
        (mount,) = container["volumeMounts"]
        (volume,) = template["spec"]["volumes"]
        assert mount == {"name": volume["name"], "mountPath": "/run/secrets/refund-service", "readOnly": True}
        assert volume["secret"]["secretName"] == "refund-service"


def test_a_pod_keeps_the_restricted_standard_and_is_the_images_user(built: list[dict[str, Any]]) -> None:
    (namespace,) = of_kind(built, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    user, group = map(int, IMAGES_USER.groups())
    for template, container in pods(built):
        pod = template["spec"]
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "fsGroup": group,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert (
            {"cpu", "memory"}
            == set(container["resources"]["limits"])
            == set(container["resources"]["requests"])
        )


def test_probes_ask_the_operators_listener_and_restart_no_one_for_an_outage(
    built: list[dict[str, Any]],
) -> None:
    for deployment in of_kind(built, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert set(ports.values()) <= IMAGES_PORTS
        assert ports["operator"] == 8081
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
        assert probes == {
            "startup": {"path": "/health/startup", "port": "operator"},
            "readiness": {"path": "/health/ready", "port": "operator"},
            # The one that never looks at the database.
            "liveness": {"path": "/health/live", "port": "operator"},
        }


def test_a_pod_that_ends_is_given_the_time_that_it_needs(built: list[dict[str, Any]]) -> None:
    for deployment in of_kind(built, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        before = pod["containers"][0].get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
        assert pod["terminationGracePeriodSeconds"] >= before["sleep"]["seconds"] + ENDS_WITHIN
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_what_points_at_pods_finds_them(built: list[dict[str, Any]]) -> None:
    labels = [template["metadata"]["labels"] for template, _ in pods(built)]
    selectors = [
        *(one["spec"]["selector"] for one in of_kind(built, "Service")),
        *(
            one["spec"]["selector"]["matchLabels"]
            for one in of_kind(built, "Deployment", "PodDisruptionBudget")
        ),
        *(one["spec"]["podSelector"]["matchLabels"] for one in of_kind(built, "NetworkPolicy")),
    ]
    found = [sum(selector.items() <= pod.items() for pod in labels) for selector in selectors]
    # Service, two Deployments, two budgets: one kind of pod each. The network's rule is for all three.
    assert found == [1, 1, 1, 1, 1, 3]
    (scaled,) = of_kind(built, "HorizontalPodAutoscaler")
    deployments = {one["metadata"]["name"] for one in of_kind(built, "Deployment")}
    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
    (service,) = of_kind(built, "Service")
    (api,) = (container for _, container in pods(built) if container["args"][0] == "serve")
    assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in api["ports"]}


# The image's scripts


def test_scripts_can_be_run() -> None:
    for script in (DEPLOY / "make-secrets", *(DEPLOY / "image").iterdir()):
        assert os.access(script, os.X_OK), script
        subprocess.run(["bash", "-n", script], check=True)
