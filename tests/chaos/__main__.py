"""``python -m chaos``: prove that nothing is paid twice, or that a planted bug is found."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from chaos.mutants import MUTANTS
from chaos.report import Report, Verdict
from chaos.run import prove

KEPT = ("history.jsonl", "record.jsonl")
"""Large, and of use only where a run has failed."""


def main() -> int:
    """Run each seed, or each mutant; the worst verdict is the exit code."""
    told = _arguments()
    # A line for each of many thousand statements tells no one anything here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if told.mutants:
            return runner.run(find_mutants(told.seeds[0], told.seconds))
        verdicts = [runner.run(prove_seed(seed, told.seconds, told.into)) for seed in told.seeds]
    return max(verdicts, key=[Verdict.PASSED, Verdict.VOID, Verdict.VIOLATED].index)


async def prove_seed(seed: int, seconds: float, into: Path) -> Verdict:
    """One run; all that is needed to look into it stays where it has not passed."""
    folder = into / f"seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    report = await prove(seed, seconds, folder)
    print(report.as_text(), flush=True)
    if report.verdict is Verdict.PASSED:
        for name in KEPT:
            (folder / name).unlink()
    else:
        print(f"  everything is in {folder}")
    return report.verdict


async def find_mutants(seed: int, seconds: float) -> int:
    """Whether every planted bug is found, by what and how soon."""
    missed = 0
    for mutant in MUTANTS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            report: Report = await prove(seed, seconds, Path(folder), mutant=mutant, at_first=True)
        by = report.violations[0][:300] if report.violations else "NOT FOUND"
        missed += not report.violations
        print(
            f"{mutant.name}: after {report.seconds:.1f} s of load, {time.monotonic() - began:.1f} s in all: {by}",
            flush=True,
        )
    return Verdict.VIOLATED if missed else Verdict.PASSED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load; a whole cycle of faults at least")
    parser.add_argument(
        "--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[1], help="as 1,2,3"
    )
    parser.add_argument("--into", type=Path, default=Path("build/prove"), help="for reports and evidence")
    parser.add_argument("--mutants", action="store_true", help="plant each bug, and find it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
