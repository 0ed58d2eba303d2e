"""Make ``docs/reference/cases.md`` from the tests: each case, what is promised, and the test that keeps it.

A test names its cases in a comment behind its ``def``: ``# IDM-10, INC-27``, and a thread of another
project as ``# hyperswitch#3751``. What has no room yet stands below with its reason.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent
PAGE: Final = TESTS.parent / "docs" / "reference" / "cases.md"

GROUPS: Final = {
    "IDM": "Idempotency keys",
    "UNK": "Unknown outcomes",
    "GWP": "Gateways of every kind",
    "INV": "What always holds",
    "CON": "Many at once",
    "FLT": "Faults of machines and networks",
    "KILL": "Killed at the worst moment",
    "SEC": "Attacks",
    "SSRF": "Addresses never to be called",
    "NUM": "Numbers and currencies",
    "WHK": "Webhooks",
    "FRD": "Fraud with refunds",
    "INC": "What happened to others",
}

NOT_YET: Final = {
    "approvals are not built yet": (
        "IDM-29 CON-06 CON-07 INV-14 KILL-06 KILL-07 SEC-14 SEC-15 FRD-13 INC-33 INC-34"
    ),
    "files of many refunds are not taken yet": "IDM-44",
    "resolving by hand is not built yet": "UNK-12 KILL-11",
    "gateways' notifications are not taken yet": (
        "GWP-09 GWP-10 GWP-18 WHK-04 WHK-05 WHK-06 WHK-07 WHK-10 WHK-11 WHK-12 "
        "INC-15 INC-16 INC-18 INC-31 INC-32 INC-49"
    ),
    "merchants' endpoints are not called yet": (
        "INV-11 INV-19 FLT-18 WHK-01 WHK-08 WHK-13 "
        "SSRF-01 SSRF-02 SSRF-03 SSRF-09 SSRF-10 SSRF-11 SSRF-13 SSRF-14 SSRF-17"
    ),
    "the ledger is not built yet": "INV-03 INV-04 INV-06 INV-07 KILL-17",
    "the chained audit log is not built yet": "INV-10 CON-14 SEC-24 INC-38",
    "there is no store credit yet": "INV-15 CON-12 INC-42 FRD-02",
    "settlement files are not read yet": "INV-16",
    "keys are kept for ever: there is no job that forgets them": "KILL-12",
    "there is no page for customers yet": "SEC-18",
    "nothing is exported yet": "SEC-25",
    "there is no console yet": "SEC-35",
    "no gateway's age limit is known yet: that comes with the real ones": "FRD-11",
    "no gateway here takes more than one step": "INC-47",
    "no money is split among sellers yet": "pay-connector#1809",
}
"""Why a case has no test: reason, and the cases."""

IN_PART: Final = {
    "UNK-07": "10,000 queued at once: the 2,000 of the test are what two cores drain in its time",
    "GWP-06": "the end that a notification tells",
    "GWP-11": "the entries that make good in the ledger",
    "CON-10": "a notification against a look-up",
    "INV-08": "the entry in the audit log",
    "SEC-10": "addresses of merchants' endpoints",
    "SEC-26": "exports",
    "SEC-27": "limits per merchant, and of approvals and notifications; those per address are the proxy's",
    "FRD-06": "the notifications that tell of disputes",
    "FRD-12": "the limit on what a key gives back in a day, and the alarm at an unusual rate",
}
"""What of a case is not tested: its room is not built yet, or it would take too long."""

_CASE: Final = re.compile(r"[A-Z]{3,4}-\d\d")
_THREAD: Final = re.compile(r"(?:[A-Za-z][\w.-]*/)?[A-Za-z][\w.-]*#\d+")


class Unreadable(Exception):
    """The index cannot be made, and why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A case, or a thread, and a test that keeps it."""

    name: str
    test: str
    path: Path

    @property
    def promise(self) -> str:
        words = self.test.removeprefix("test_").replace("_s_", "'s_").replace("_", " ")
        words = re.sub(r"\b(api|http|iso|json|tls)\b", lambda word: word[0].upper(), words)
        return words[0].upper() + words[1:]


def read_tests(folder: Path = TESTS) -> list[Kept]:
    """Everything that the tests below ``folder`` name, in the order in which they stand."""
    paths = sorted(folder.rglob("test_*.py"))
    return [kept for path in paths for kept in _named_in(path.read_text(), path)]


def _named_in(source: str, path: Path) -> Iterator[Kept]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {
        token.start[0]: token.string
        for token in tokens
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for line in range(node.lineno, node.body[0].lineno):
                for name in _names(comments.get(line, "#"), f"{path.name}:{line}"):
                    yield Kept(name, node.name, path)


def _names(comment: str, place: str) -> list[str]:
    told = comment.removeprefix("#").strip()
    if not _CASE.search(told) and not _THREAD.search(told):
        return []
    names = told.split(", ")
    for name in names:
        if not _CASE.fullmatch(name) and not _THREAD.fullmatch(name):
            raise Unreadable(
                f"{place}: {name!r} is neither a case nor a thread; write `# IDM-10, project#123`"
            )
    return names


def not_yet() -> dict[str, str]:
    """Each case without a room, and why."""
    return {case: reason for reason, cases in NOT_YET.items() for case in cases.split()}


def page(kept: Iterable[Kept], without: dict[str, str], in_part: dict[str, str] = IN_PART) -> str:
    """The whole page; ``Unreadable`` where a case is kept and said to have no room, or has no group."""
    rows: dict[str, list[str]] = {}
    for one in kept:
        if one.name in without:
            raise Unreadable(f"{one.name} has a test in {one.path.name}: strike it out from NOT_YET")
        place = one.path.relative_to(TESTS.parent).as_posix()
        rows.setdefault(one.name, []).append(f"| {one.promise} | [{place}](../../{place}) |")
    for case, missing in in_part.items():
        if case not in rows:
            raise Unreadable(f"{case} has no test: it belongs to NOT_YET and not to IN_PART")
        rows[case].append(f"| - | not yet: {missing} |")
    rows |= {case: [f"| - | {reason} |"] for case, reason in without.items()}

    parts = [
        "# Cases",
        "<!-- Made from the tests by `make docs`. Changes by hand are lost. -->",
        "What the service has to stand up to, and the tests that keep it: each names its cases behind its `def`.",
    ]
    for group, title in GROUPS.items():
        cases = sorted(name for name in rows if name.rpartition("-")[0] == group)
        if cases:
            parts += [f"## {title}", _table("case", cases, rows)]
    threads = sorted(filter(_THREAD.fullmatch, rows), key=_by_project)
    if threads:
        parts += ["## From the threads of other projects", _table("thread", threads, rows)]
    if strangers := {
        name for name in rows if not _THREAD.fullmatch(name) and name.partition("-")[0] not in GROUPS
    }:
        raise Unreadable(f"no group for {', '.join(sorted(strangers))}")
    return "\n\n".join(parts) + "\n"


def _by_project(thread: str) -> tuple[str, int]:
    project, _, number = thread.partition("#")
    return project.lower(), int(number)


def _table(kind: str, names: list[str], rows: dict[str, list[str]]) -> str:
    shown = chain.from_iterable(
        (f"| {name.replace('#', ' #') if not number else ''} {row}" for number, row in enumerate(rows[name]))
        for name in names
    )
    return "\n".join([f"| {kind} | what is promised | where |", "| --- | --- | --- |", *shown])


def main(arguments: list[str]) -> int:
    """``--write`` or ``--check`` the page."""
    match arguments:
        case ["--write"]:
            PAGE.write_text(page(read_tests(), not_yet()))
            return 0
        case ["--check"] if PAGE.is_file() and PAGE.read_text() == page(read_tests(), not_yet()):
            return 0
        case ["--check"]:
            sys.stderr.write("docs/reference/cases.md is not what the tests say. Run: make docs\n")
            return 1
        case _:
            sys.stderr.write("python tests/case_index.py --write | --check\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
