"""A year of a real shop, through the public API of the real process.

NEEDS A FIXTURE ``live`` (tests/conftest.py): a running service with its worker and its sandbox, with
``.api`` (base url), ``.key`` (a test merchant's key) and ``.sandbox`` (the sandbox's base url). The
merchant has to be these tests' own, for they publish a policy.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "online-retail-sample.csv"
FRANCE = Path(__file__).parents[3] / "shared" / "data" / "online-retail-france.csv"


async def replay(live: Any, file: Path) -> tuple[int | None, str]:
    """Run the script as a shop would; what it said and how it ended."""
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "replay_online_retail.py"), str(file)),
        *("--api", live.api, "--key", live.key, "--sandbox", live.sandbox, "--patience", "60"),
        stdout=PIPE,
        stderr=PIPE,
    )
    said, complaints = await script.communicate()
    return script.returncode, (said + complaints).decode()


def figures(said: str, name: str) -> list[str]:
    """What stands behind a name in the table of what came of it."""
    result = said.partition("what came of it")[2]
    return next(line[42:].split() for line in result.splitlines() if line[:42].strip() == name)


async def test_the_sample_agrees_to_the_penny_three_times_and_is_refunded_once(live: Any) -> None:
    runs = [await replay(live, SAMPLE) for _ in range(3)]

    for code, said in runs:
        assert code == 0, said
        assert "The books agree to the penny" in said
        assert figures(said, "refunded, by the sandbox's record") == ["6", "124.18"]
        assert figures(said, "amount-exceeds-available") == ["1", "127.50"]
    assert figures(runs[2][1], "refunds known from an earlier run") == ["6"]


async def test_a_year_of_real_cancellations_agrees_to_the_penny(live: Any) -> None:
    if not FRANCE.is_file():
        pytest.skip("the real file is not beside this repository: ../shared/data")

    code, said = await replay(live, FRANCE)

    assert code == 0, said
    assert figures(said, "orders, captured") == ["392", "209,715.11"]
    assert figures(said, "refunded, by the service's refunds") == ["68", "7,984.76"]
    assert figures(said, "refunded, by the sandbox's record") == ["68", "7,984.76"]
    assert figures(said, "refused") == ["0", "0.00"]
    assert figures(said, "unmatched lines, not asked") == ["12", "4,326.45"]
