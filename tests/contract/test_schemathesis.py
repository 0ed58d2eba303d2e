"""The whole API, asked by its own document: Schemathesis with every check it has, and nothing found.

A slice here; ``make fuzz`` goes on for as long as one likes. What is asked is the same each time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from house import Shop

HERE = Path(__file__).parent
SECONDS = os.environ.get("FUZZ_SECONDS")
SEED = os.environ.get("FUZZ_SEED", str(random.SystemRandom().randrange(10**9)))
BUDGET = (
    (f"--max-time={SECONDS}", f"--seed={SEED}")
    if SECONDS
    else ("--max-examples=8", "--generation-deterministic")
)


def peers(**shops: Shop) -> str:
    """The merchants' credentials, as Schemathesis reads them."""
    return json.dumps(
        {
            "auth": [
                {
                    "name": name,
                    "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {shop.key}"}],
                }
                for name, shop in shops.items()
            ]
        }
    )


async def test_nothing_that_the_document_allows_or_forbids_is_answered_otherwise(  # SEC-29
    shop: Shop, new_shop: Callable[..., Any], tmp_path: Path
) -> None:
    paths = (await shop.get("/openapi.json"))["paths"].values()
    operations = [operation for path in paths for operation in path]
    (tmp_path / "peers.json").write_text(peers(one=shop, other=await new_shop()))
    run = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("st"),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{shop.house.url}/openapi.json",
        f"--url={shop.house.url}",
        "--checks=all",
        "--mode=all",
        "--no-color",
        *BUDGET,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
        env=os.environ
        | {
            "PEERS": str(tmp_path / "peers.json"),
            "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py"),
        },
    )
    told = (await run.communicate())[0].decode()
    sys.stdout.write(told)
    assert run.returncode == 0, "it found what it printed above"
    # Nothing was left out, and it did not pass for want of asking.
    assert f"Tested: {len(operations)}" in told
    asked, passed = map(int, re.findall(r"(\d+) generated, (\d+) passed", told)[0])
    assert asked == passed > 1_500
    assert all(f"✅ {phase}" in told for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"))
