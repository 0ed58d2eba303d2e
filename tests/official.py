"""The gateways' own documents, read from where they lie beside the checkout: never copied in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

SPECS: Final = Path(__file__).resolve().parents[2] / "shared" / "gateway-specs"


@cache
def document(name: str) -> dict[str, Any]:
    """One document, such as ``stripe``; the test is skipped where the folder is not there (not in CI)."""
    if not SPECS.is_dir():
        if os.environ.get("CI"):
            pytest.fail("../shared/gateway-specs is not there, and this is CI")
        pytest.skip("../shared/gateway-specs is not there")
    told: dict[str, Any] = json.loads((SPECS / f"{name}.json").read_text())
    return told


def at(told: Any, pointer: str) -> Any:
    """What a JSON pointer names in a document, such as ``#/components/schemas/refund``."""
    for part in pointer.removeprefix("#").strip("/").split("/"):
        told = told[part.replace("~1", "/").replace("~0", "~")]
    return told


def examples(told: Any, where: str = "#") -> Iterator[tuple[str, Any]]:
    """Every documented example: its JSON pointer, and its value."""
    if isinstance(told, dict):
        for name, below in told.items():
            here = f"{where}/{name.replace('~', '~0').replace('/', '~1')}"
            if name == "examples" and isinstance(below, dict):
                for title, example in below.items():
                    if isinstance(example, dict) and "value" in example:
                        yield f"{here}/{title}", example["value"]
            else:
                yield from examples(below, here)
    elif isinstance(told, list):
        for place, below in enumerate(told):
            yield from examples(below, f"{where}/{place}")
