"""Every case is kept by a test that names it, or has its reason; and the page says which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from case_index import PAGE, TESTS, Kept, Unreadable, not_yet, page, read_tests

WITHOUT_IDS = ("Double refunds, races, idempotency", "Lost, stuck and unknown")
"""Sections of the catalogue whose rows are known by the thread that they come from."""


@cache
def named() -> set[str]:
    return {kept.name for kept in read_tests()} | set(not_yet())


def is_case(name: str) -> bool:
    return "#" not in name


@pytest.fixture(scope="module")
def catalogue(shared: Path) -> str:
    return (shared / "CASES.md").read_text()


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text() == page(read_tests(), not_yet()), "run: make docs"


def test_every_case_has_its_tests_or_its_reason_and_no_case_is_made_up(catalogue: str) -> None:
    cases = set(re.findall(r"(?<=\| )[A-Z]{3,4}-\d\d(?= \|)", catalogue))
    assert len(cases) > 150
    assert {name for name in named() if is_case(name)} == cases


def threads_of(catalogue: str, section: str) -> Iterator[set[str]]:
    """The names of each row of a section, of which one is to be named: ``project#1``, ``owner/project#1``."""
    rows = catalogue.partition(f"### {section}\n")[2].partition("\n### ")[0]
    for row in re.findall(r"^- \*\*(.+?)\*\*", rows, re.MULTILINE):
        projects = re.findall(r"([A-Za-z][\w./-]*)(?: PR)? #(\d+)", row)
        assert projects, row
        yield {f"{name}#{number}" for path, number in projects for name in (path, path.rpartition("/")[2])}


@pytest.mark.parametrize("section", WITHOUT_IDS)
def test_what_others_ran_into_is_kept_by_the_name_of_its_thread(catalogue: str, section: str) -> None:
    rows = list(threads_of(catalogue, section))
    assert len(rows) >= 10
    assert [row for row in rows if not row & named()] == []


def test_no_thread_is_made_up(catalogue: str) -> None:
    numbers = set(re.findall(r"#(\d+)", catalogue))
    for name in filter(lambda name: not is_case(name), named()):
        path, _, number = name.partition("#")
        assert number in numbers, name
        assert path in catalogue, name


# How the index is made


@pytest.fixture
def kept_in(tmp_path: Path) -> object:
    def read(source: str) -> list[tuple[str, str]]:
        (tmp_path / "test_one.py").write_text(source)
        return [(kept.name, kept.promise) for kept in read_tests(tmp_path)]

    return read


@pytest.mark.parametrize(
    "source",
    [
        "def test_it_holds() -> None:  # IDM-01, INC-02\n    # IDM-03\n    assert 'IDM-04'",
        "async def test_it_holds(  # IDM-01, INC-02\n    shop: int,\n) -> None:\n    pass",
        "def test_it_holds(\n    shop: int,\n) -> None:  # IDM-01, INC-02\n    '''IDM-03'''",
    ],
)
def test_a_case_is_named_behind_a_tests_first_line_and_nowhere_else(kept_in, source: str) -> None:
    assert kept_in(source) == [("IDM-01", "It holds"), ("INC-02", "It holds")]


def test_other_comments_and_other_functions_name_nothing(kept_in) -> None:
    assert kept_in("def test_it() -> None:  # promise 9\n    pass\n") == []
    assert kept_in("def helper() -> None:  # IDM-01\n    pass\n") == []


def test_a_thread_is_named_like_a_case(kept_in) -> None:
    source = "def test_it() -> None:  # GWP-01, medusa#16681, saleor/apps#2446\n    pass\n"
    assert [name for name, _ in kept_in(source)] == ["GWP-01", "medusa#16681", "saleor/apps#2446"]


@pytest.mark.parametrize("comment", ["NUM-01, 02", "NUM-01 to NUM-07", "IDM-1, IDM-02", "see IDM-01"])
def test_a_name_that_cannot_be_read_is_an_error(kept_in, comment: str) -> None:
    with pytest.raises(Unreadable, match=r"test_one.py:1"):
        kept_in(f"def test_it() -> None:  # {comment}\n    pass\n")


def kept(name: str) -> Kept:
    return Kept(name, "test_it_holds", TESTS / "pure" / "test_one.py")


def test_each_case_stands_in_its_group_with_its_tests_or_its_reason() -> None:
    tests = [kept("SEC-02"), kept("IDM-02"), kept("IDM-02"), kept("a/b#7")]
    told = page(tests, {"IDM-01": "not yet"}, {"SEC-02": "a part"})

    assert re.findall(r"^## (.+)", told, re.MULTILINE) == [
        "Idempotency keys",
        "Attacks",
        "From the threads of other projects",
    ]
    link = "It holds | [tests/pure/test_one.py](../../tests/pure/test_one.py)"
    assert [line for line in told.splitlines() if line.startswith("| ") and "---" not in line] == [
        "| case | what is promised | where |",
        "| IDM-01 | - | not yet |",
        f"| IDM-02 | {link} |",
        f"|  | {link} |",
        "| case | what is promised | where |",
        f"| SEC-02 | {link} |",
        "|  | - | not yet: a part |",
        "| thread | what is promised | where |",
        f"| a/b #7 | {link} |",
    ]


def test_a_case_with_a_test_has_no_reason_to_be_missing() -> None:
    with pytest.raises(Unreadable, match="IDM-01 has a test"):
        page([kept("IDM-01")], {"IDM-01": "not yet"}, {})


def test_a_case_without_a_test_is_not_kept_in_part() -> None:
    with pytest.raises(Unreadable, match="IDM-01 has no test"):
        page([kept("IDM-02")], {}, {"IDM-01": "a part"})


def test_a_case_of_no_group_is_an_error() -> None:
    with pytest.raises(Unreadable, match="ABC-01"):
        page([kept("ABC-01")], {}, {})
