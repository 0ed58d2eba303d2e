"""``refund-service id``: what the database calls a thing, and what the API calls it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from refund_service import ids
from refund_service.cli.main import cli


def told(*arguments: str) -> str:
    ended = CliRunner().invoke(cli, ["id", *arguments])
    assert ended.exit_code == 0, ended.output
    return ended.output.strip()


@pytest.mark.parametrize("kind", ids.PREFIXES)
def test_an_id_is_told_in_its_other_form(kind: str) -> None:
    one = ids.new_id()
    assert told(ids.show(kind, one)) == str(one)
    assert told(str(one), "--kind", kind) == ids.show(kind, one)


def test_a_bare_uuid_is_taken_for_a_refund_s() -> None:
    one = ids.new_id()
    assert told(str(one)) == ids.show("refund", one)


@pytest.mark.parametrize("odd", ["rf_1", "no id", "xx_01jejcavr0fay8vvr14d2pf2db"])
def test_what_is_no_id_is_refused(odd: str) -> None:
    assert isinstance(CliRunner().invoke(cli, ["id", odd]).exception, ValueError)
