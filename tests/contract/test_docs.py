"""The pages: made from the code where they can be, and true where they are written."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from bench import report
from bench.aims import aims_of
from bench.figures import FORM
from bench.scale import QUICK
from house import Shop
from told_metrics import metric_labels
from typer.main import get_command

from refund_service.cli.docs import PAGES, outdated, write_pages
from refund_service.cli.main import cli
from refund_service.db.embedded import EmbeddedServer
from refund_service.db.schema_state import head
from refund_service.events.types import EVENT_TYPES
from refund_service.gateways.answers import Absent, Accepted, CannotTell, Declined, Found, Unknown
from refund_service.gateways.protocol import Account, RefundCommand, RefundProbe, Response
from refund_service.gateways.sandbox.behaviours import NAMES
from refund_service.money import Money
from refund_service.refunds import conclude, next_step
from refund_service.refunds.states import HOLDING, TRANSITIONS
from refund_service.settings import NEEDED_IN_PRODUCTION, SECRETS, Settings, variable

HOUSE = Path(__file__).resolve().parents[2]
SOURCE = HOUSE / "src" / "refund_service"
HOW_TO = {page.stem: page.read_text() for page in sorted((HOUSE / "docs" / "how-to").glob("*.md"))}
WRITTEN = [HOUSE / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + [
    page
    for folder in ("how-to", "adr", "reference")
    for page in sorted((HOUSE / "docs" / folder).glob("*.md"))
]


# Made from the code


MADE_ELSEWHERE = {"cases.md", report.PAGE}
"""From the tests (test_cases.py), and from what was measured."""


def test_the_reference_pages_are_what_the_code_says() -> None:
    assert outdated(HOUSE / "docs" / "reference") == [], "run: make docs"
    pages = {page.name for page in (HOUSE / "docs" / "reference").glob("*.md")}
    assert pages == {*PAGES, *MADE_ELSEWHERE}


def test_the_performance_page_and_its_plots_are_what_the_figures_say() -> None:
    reference = HOUSE / "docs" / "reference"
    figures = FORM.validate_json((reference / report.FIGURES).read_bytes())

    files = report.files_of(figures)

    assert [name for name, told in files.items() if (reference / name).read_text() != told] == []
    plots = {f"performance/{plot.name}" for plot in (reference / "performance").glob("*.svg")}
    assert plots == set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", files[report.PAGE]))


def test_the_performance_page_is_of_a_whole_run() -> None:
    figures = FORM.validate_json((HOUSE / "docs" / "reference" / report.FIGURES).read_bytes())

    assert figures.scale != QUICK, "run: make bench"


def test_the_performance_page_tells_of_every_aim_whether_it_is_met() -> None:
    page = (HOUSE / "docs" / "reference" / report.PAGE).read_text()
    figures = FORM.validate_json((HOUSE / "docs" / "reference" / report.FIGURES).read_bytes())

    told = re.findall(
        r"^\| (.*?) \| (.*?) \| .*? \| (met|\*\*missed\*\*|not measured so far) \|$", page, re.MULTILINE
    )

    assert [(name, wanted) for name, wanted, _ in told] == [
        (aim.name, aim.wanted) for aim in aims_of(figures)
    ]
    verbs = {("create", 1), ("create", 32), ("read", 1), ("read", 32)}
    assert {(pair.name, pair.clients) for pair in figures.verbs} >= verbs
    assert set(figures.resident_mb) == {"API", "worker"}


def test_a_page_that_was_changed_or_lost_is_told(tmp_path: Path) -> None:
    write_pages(tmp_path)
    assert outdated(tmp_path) == []
    (tmp_path / "states.md").write_text("# Other words\n")
    (tmp_path / "events.md").unlink()
    assert outdated(tmp_path) == ["states.md", "events.md"]


def test_the_states_page_draws_every_move() -> None:
    page = PAGES["states.md"]()
    for (before, event), after in TRANSITIONS.items():
        assert f"    {before.value if before else '[*]'} --> {after.value}: {event.value}\n" in page
    assert page.count(" --> ") == len(TRANSITIONS) + 4


def test_the_settings_page_names_every_setting_and_shows_no_secret() -> None:
    page = PAGES["settings.md"]()
    for name in Settings.model_fields:
        assert f"`REFUND_{name.upper()}`" in page
    for name in SECRETS:
        assert f"`{name}_FILE`" in page
    demanded = page.partition("## In production")[2]
    for name in NEEDED_IN_PRODUCTION:
        assert f"`{variable(name)}`" in demanded


def test_the_settings_page_says_what_each_may_be() -> None:
    rows = dict(re.findall(r"^\| `(REFUND_\w+)`.*? \| .*? \| (.*?) \|", PAGES["settings.md"](), re.MULTILINE))
    assert set(rows) == {variable(name) for name in Settings.model_fields}
    assert all(rows.values())
    assert rows["REFUND_MODE"] == "`development` or `production`"
    assert rows["REFUND_DATABASE_POOL"] == "1 to 200"
    assert rows["REFUND_RATE_LIMIT"] == "above 0"
    assert rows["REFUND_RATE_BURST"] == "1 or more"


# Events


@cache
def event_types_in_code() -> frozenset[str]:
    """Every value that some write binds as an event's type, by the name of its parameter."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg=str(name), value=value) if name.endswith("_type"):
                    found |= words_of(value)
                case ast.Dict(keys=keys, values=values):
                    for key, value in zip(keys, values, strict=True):
                        if isinstance(key, ast.Constant) and str(key.value).endswith("_type"):
                            found |= words_of(value)
    return frozenset(word for word in found if re.fullmatch(r"[a-z_]+\.[a-z_]+", word))


def words_of(value: ast.expr) -> set[str]:
    match value:
        case ast.Constant(value=str(word)):
            return {word}
        case ast.Name(id=name) if isinstance(word := getattr(conclude, name, None), str):
            return {word}
        case ast.IfExp(body=body, orelse=orelse):
            return words_of(body) | words_of(orelse)
        case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), ast.FormattedValue(value=inner)]):
            # "refund." and a status that some move leads to, or one of two words.
            reached = {after.value for (before, _), after in TRANSITIONS.items() if before is not None}
            return {prefix + word for word in words_of(inner) or reached}
    return set()


def test_every_type_of_event_is_listed_and_no_other() -> None:
    assert event_types_in_code() == set(EVENT_TYPES)


async def test_what_happens_is_of_a_type_that_is_listed(shop: Shop) -> None:
    payment = await shop.pay(5990, order={"id": "A-1"})
    await shop.refund(payment, 100, metadata={"sandbox": "decline"})
    refund = await shop.refund(payment, 200)
    await shop.client.patch(f"/v1/refunds/{refund['id']}", json={"metadata": {"a": "b"}})
    await shop.client.patch("/v1/orders/A-1", json={"facts": {"delivered": True}})
    await shop.client.post("/v1/policies", json={"rules": {"max_amount": {"EUR": 1}}})
    assert (await shop.ask(payment, 2)).status_code == 422

    feed = await shop.get("/v1/events", limit=100)

    happened = {event["type"] for event in feed["data"]}
    assert happened <= set(EVENT_TYPES)
    assert happened >= {
        "refund.refused",
        "refund.failed",
        "refund.updated",
        "order.updated",
        "policy.published",
    }


# Written by hand


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(HOUSE)}: {target}"
        for page in WRITTEN
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_command_that_a_page_names_is_there() -> None:
    commands = get_command(cli)
    for page in WRITTEN:
        for line in re.findall(
            r"(?:^|`)(?:\.venv/bin/)?refund-service ([a-z].*?)(?:`|$)", page.read_text(), re.MULTILINE
        ):
            first, *rest = line.split()
            command: Any = commands.commands[first]  # type: ignore[attr-defined]  # a group
            if hasattr(command, "commands"):
                command = command.commands[rest[0]]
            known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            assert {word for word in rest if word.startswith("--")} <= known, f"{page.name}: {line}"


def test_every_setting_that_a_page_names_is_there() -> None:
    known = {f"REFUND_{name.upper()}" for name in Settings.model_fields}
    for page in WRITTEN:
        named = set(re.findall(r"REFUND_[A-Z_]*[A-Z]", page.read_text()))
        assert {name.removesuffix("_FILE") for name in named} <= known, page.name


def test_every_metric_is_told_to_the_operator_with_its_labels() -> None:
    rows = re.findall(r"^\| `(refund_\w+)` \|([^|]*)\|", HOW_TO["operate"], re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert told == metric_labels()


def test_every_reason_for_attention_is_told_to_the_operator() -> None:
    table = HOW_TO["operate"].partition("| `attention` |")[2].partition("\n\n")[0]
    told = set(re.findall(r"`([a-z_]+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:])))
    late = {f"{status.value}_for_long" for status in HOLDING}
    assert told == attention_in_code() | late


def attention_in_code() -> set[str]:
    """What the modules that decide call a person for."""
    found: set[str] = set()
    for module in (conclude, next_step):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Call(func=ast.Name(id="CallPerson"), args=[value]):
                    found |= words_of(value)
                case (
                    ast.keyword(arg="attention", value=value)
                    | ast.Assign(targets=[ast.Name(id="attention")], value=value)
                ):
                    found |= words_of(value)
                case ast.Assign(
                    targets=[ast.Tuple(elts=[ast.Name(id="attention"), _])],
                    value=ast.Tuple(elts=[ast.BoolOp(values=values), _]),
                ):
                    found |= {word for value in values for word in words_of(value)}
    return found


def test_what_can_be_rehearsed_can_be_rehearsed() -> None:
    rehearse = HOW_TO["integrate"].partition("## Rehearse")[2].partition("```")[0]
    named = set(re.findall(r"`([a-z_0-9]+)`", rehearse))
    assert named
    assert named <= NAMES


def shell(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", HOW_TO[page], re.MULTILINE | re.DOTALL)


async def test_the_commands_for_integrators_work_as_they_are_printed(shop: Shop) -> None:
    first, *commands = shell("integrate")
    assert set(re.findall(r"^(\w+)=", first, re.MULTILINE)) == {"API", "K"}
    assert all("curl" in command for command in commands)
    script = "\n".join(["set -eu", 'curl() { command curl --fail-with-body --noproxy "*" "$@"; }', *commands])

    await run(script, API=shop.house.url, K=shop.key)

    order = await shop.get("/v1/orders/A-7")
    assert [refund["amount"] for refund in order["refunds"]] == [500, 1250]
    assert order["facts"] == {"delivered_on": "2026-03-04"}


async def run(script: str, **environment: str) -> str:
    bash = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await bash.communicate()
    assert bash.returncode == 0, said.decode()
    return said.decode()


async def test_an_operator_can_begin_in_production_as_the_page_says(postgres: EmbeddedServer) -> None:
    begin = shell("operate")[0]
    assert [line.split()[1] for line in begin.splitlines() if line.startswith("refund-service")] == [
        "migrate",
        "serve",
    ]
    secrets = [line for line in begin.splitlines() if "openssl" in line]
    assert len(secrets) == 3
    bin_dir = str(Path(sys.executable).parent)

    said = await run(
        "\n".join(["set -eu", *secrets, "refund-service migrate"]),
        PATH=f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        REFUND_MODE="production",
        REFUND_DATABASE_URL=postgres.create_database("operated"),
    )

    assert said == f"schema {head()}\n"
    postgres.drop_database("operated")


# The adapter that the page shows

KEY = UUID("a3914f65-1042-48eb-b8bf-4cc895172850")
COMMAND = RefundCommand(KEY, "ch_1", Money(1250, "EUR"))
PROBE = RefundProbe(KEY, "ch_1", None)
ACCOUNT = Account(UUID(int=1), "acme", "https://acme.example", {}, {"token": "secret"})
THEIRS = (
    b'{"id":"r1","state":"done","amount":1250,"currency":"EUR","charge":"ch_1",'
    b'"reference":"a3914f65-1042-48eb-b8bf-4cc895172850"}'
)


@pytest.fixture(scope="module")
def acme() -> Any:
    (example,) = re.findall(r"^```python\n(.*?)^```", HOW_TO["write-an-adapter"], re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "write-an-adapter.md", "exec"), names)  # noqa: S102 - the page's own example
    return names["AcmeGateway"]()


def test_the_adapter_that_the_page_shows_keeps_the_protocol(acme: Any) -> None:
    traits = acme.traits({})
    assert traits.enough_miss_time > traits.time_limit
    assert timedelta(0) < traits.replay_horizon < timedelta(hours=24)
    request = acme.render_refund(COMMAND, ACCOUNT)
    assert str(KEY).encode() in request.body
    assert "secret" not in f"{request}"
    assert acme.render_refund(COMMAND, ACCOUNT) == request

    def answer(status: int, body: bytes = b"{}") -> Any:
        return acme.read_refund(Response(status, {}, body), COMMAND)

    assert answer(201, THEIRS) == Accepted(acme.read_look_up(found(THEIRS), PROBE).refund)
    assert isinstance(answer(422, b'{"code":"no_funds"}'), Declined)
    for status in (400, 404, 409, 422, 500, 503):
        assert isinstance(answer(status), Unknown), status


def found(*refunds: bytes) -> Response:
    return Response(200, {}, b'{"refunds":[' + b",".join(refunds) + b"]}")


def test_the_adapter_that_the_page_shows_looks_up(acme: Any) -> None:
    assert str(KEY) in acme.render_look_up(PROBE, ACCOUNT).path
    assert isinstance(acme.read_look_up(found(THEIRS), PROBE), Found)
    assert acme.read_look_up(found(), PROBE) == Absent()
    assert isinstance(acme.read_look_up(found(THEIRS, THEIRS), PROBE), CannotTell)
    assert isinstance(acme.read_look_up(Response(404, {}, b""), PROBE), CannotTell)
