"""The alerts: Prometheus understands them, they name what is told, and each has its case and its page."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from house import House
from sqlalchemy import text
from told_metrics import metric_labels

from refund_service.app import bare_app
from refund_service.refunds.states import HOLDING

HOUSE = Path(__file__).resolve().parents[2]
FOLDER = HOUSE / "deploy" / "prometheus"
RULES = FOLDER / "refund-service.rules.yml"
CASES = FOLDER / "refund-service.test.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
RUNBOOK = (HOUSE / "docs" / "how-to" / "runbook.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: section for section in re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
}
PARTS = ("For customers:", "See more:", "Do:", "Do not", "Over when")

each_alert = pytest.mark.parametrize("name", ALERTS)


# As Prometheus sees them


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on the PATH; .ci/run takes it out of Debian's package `prometheus`")
    return found


def test_prometheus_understands_the_rules(promtool: str) -> None:
    said = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(ALERTS)} rules found" in said.stdout


def test_each_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    said = subprocess.run([promtool, "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_an_alert_that_fires_otherwise_is_found(promtool: str, tmp_path: Path) -> None:
    (tmp_path / CASES.name).write_text(CASES.read_text())
    (tmp_path / RULES.name).write_text(RULES.read_text().replace("> 120\n", ">= 120\n"))
    cases = str(tmp_path / CASES.name)
    said = subprocess.run([promtool, "test", "rules", cases], capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "JobsLate" in said.stdout + said.stderr


# As they are written


@each_alert
def test_an_alert_names_metrics_and_labels_that_are_told(name: str) -> None:
    expr, labels = ALERTS[name]["expr"], metric_labels()
    named = re.findall(r"(refund_\w+)(?:\{(.*?)\})?", expr)
    assert named
    for metric, matchers in named:
        told = re.findall(r'(\w+)="(.*?)"', matchers)
        assert {label for label, _ in told} <= labels[metric]
        assert {value for label, value in told if label == "status"} <= set(HOLDING)
    grouped = set(chain(*(one.split(", ") for one in re.findall(r"by \((.*?)\)", expr))))
    assert grouped <= {"job"}.union(*(labels[metric] for metric, _ in named))
    # What is told of an alert is what its expression leaves.
    shown = set(re.findall(r"\$labels\.(\w+)", ALERTS[name]["annotations"]["summary"]))
    assert shown <= grouped


def test_of_what_calls_for_someone_every_metric_has_its_alert() -> None:
    alerted = {metric for rule in ALERTS.values() for metric in re.findall(r"refund_\w+", rule["expr"])}
    only_shown = {
        *("refund_http_request_seconds", "refund_gateway_call_seconds", "refund_jobs_total"),
        *("refund_open_refunds", "refund_oldest_open_seconds"),
    }
    assert alerted == set(metric_labels()) - only_shown


@each_alert
def test_an_alert_says_how_bad_it_is_and_with_which_numbers(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    summary = rule["annotations"]["summary"]
    assert "$value" in summary or re.search(r"\d+ minutes", summary)


@each_alert
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    groups = [
        [case for case in group["alert_rule_test"] if case["alertname"] == name]
        for group in yaml.safe_load(CASES.read_text())["tests"]
    ]
    fires = [cases for cases in groups if any(case["exp_alerts"] for case in cases)]
    quiet = [cases for cases in groups if cases and not any(case["exp_alerts"] for case in cases)]
    assert fires
    assert quiet


# The runbook


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert list(SECTIONS) == list(ALERTS)


@each_alert
def test_an_alert_leads_to_its_section(name: str) -> None:
    url = ALERTS[name]["annotations"]["runbook_url"]
    assert url == f"{{{{ $externalLabels.runbooks }}}}runbook.md#{name.lower()}"


@each_alert
def test_a_section_says_all_that_is_asked_at_night(name: str) -> None:
    begun = re.findall(r"^\*\*(.+?)\*\*", SECTIONS[name], re.MULTILINE)
    assert [one for one in begun if one in PARTS] == list(PARTS)


async def test_every_query_of_the_runbook_runs(house: House) -> None:
    queries = re.findall(r"^```sql\n(.*?);\n```", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert len(queries) >= 8
    for query in queries:
        async with house.parts.db.transaction() as tx:
            await tx.execute(text("SET TRANSACTION READ ONLY"))
            await tx.execute(text(query))


def test_every_call_of_the_runbook_is_in_the_contract() -> None:
    paths = bare_app("http://127.0.0.1").openapi()["paths"]
    told = re.findall(r"`(GET|POST) (/v1/[^`]+)`", RUNBOOK)
    told += [("GET", path) for path in re.findall(r"\$API(/v1/[^\"?`]+)", RUNBOOK)]
    assert len(told) >= 4
    for verb, path in told:
        assert verb.lower() in paths[path], path
    for query in re.findall(r"\$API/v1/refunds\?(\w+)=", RUNBOOK):
        assert query in {one["name"] for one in paths["/v1/refunds"]["get"]["parameters"]}


def test_every_setting_and_log_line_of_the_runbook_is_in_the_code() -> None:
    code = "".join(path.read_text() for path in (HOUSE / "src").rglob("*.py"))
    lines = re.findall(r"`((?:worker|refund|job|verify)\.[a-z_]+)`", RUNBOOK)
    assert lines
    assert [line for line in lines if f'"{line}"' not in code] == []
