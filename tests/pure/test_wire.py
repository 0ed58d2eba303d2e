"""What a member may hold."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any
from uuid import UUID

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from refund_service import ids
from refund_service.api.wire import (
    Amount,
    AmountOrZero,
    CurrencyCode,
    GatewayReference,
    Metadata,
    Moment,
    PublicId,
    Reference,
    Text,
    Wire,
)
from refund_service.money import EXPONENTS, LARGEST_AMOUNT

CARD = "4111 1111 1111 1111"


def code(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    return str(refused.value.errors()[0]["type"])


def takes(kind: Any, value: object) -> object:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("amount", [1, 1250, 2**31, LARGEST_AMOUNT])
def test_an_amount_is_a_whole_number_of_units(amount: int) -> None:  # NUM-05
    assert takes(Amount, amount) == takes(AmountOrZero, amount) == amount


@pytest.mark.parametrize(
    "amount",
    [
        True,
        False,
        "100",
        " 100 ",
        "1_000",
        100.0,
        -0.0,
        2**53 + 1,
        2**63,
        2**62 * 2,
        10**30,
        0,
        -1,
        LARGEST_AMOUNT + 1,
        None,
        [],
        {},
        float("nan"),
        float("inf"),
    ],
)
def test_nothing_else_is_an_amount(
    amount: object,
) -> None:  # NUM-01, NUM-02, NUM-03, NUM-04, NUM-05, NUM-07, SEC-09
    code(Amount, amount)


def test_zero_is_an_amount_only_where_it_may_be() -> None:  # NUM-07
    assert takes(AmountOrZero, 0) == 0
    assert code(AmountOrZero, -1) == "greater_than_equal"
    assert code(AmountOrZero, False) == "int_type"


@pytest.mark.parametrize("currency", ["usd", "US", "XXX", "USDT", "", "EUR ", "€", "\uff25\uff35\uff32"])
def test_only_upper_case_iso_currencies_are_known(currency: str) -> None:  # NUM-11
    assert code(CurrencyCode, currency) == "currency-unknown"
    assert all(takes(CurrencyCode, known) == known for known in EXPONENTS)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01t12:00:00z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00.5+02:00", datetime(2026, 3, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456789Z", datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2024-02-29T23:59:59-00:00", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_with_its_zone(told: str, meant: datetime) -> None:
    assert takes(Moment, told) == meant


@pytest.mark.parametrize(
    "told",
    [
        "2026-03-01",
        "12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-03-01T24:00:01Z",
        "2026-03-01 12:00:00Z",
        "20260301T120000Z",
        "2026-W09-7T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-03-01T12:00:00+99:99",
        "2026-03-01T12:00:00Z\n",
        "\uff12\uff10\uff12\uff16-03-01T12:00:00Z",
        1772366400,
        None,
        True,
        "",
    ],
)
def test_what_is_no_moment_is_refused(told: object) -> None:
    assert code(Moment, told) == "wrong-format"


def test_a_moment_without_a_zone_is_refused_by_name() -> None:
    assert code(Moment, "2026-03-01T12:00:00") == "zone-missing"


def test_a_moment_is_shown_in_utc() -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert TypeAdapter(Moment).dump_json(moment) == b'"2026-03-01T10:00:00Z"'


@given(st.text(max_size=30))
def test_no_text_makes_reading_a_moment_fail_in_another_way(told: str) -> None:
    with suppress(ValidationError):
        takes(Moment, told)


def test_metadata_has_50_names_of_40_and_values_of_500() -> None:  # SEC-07
    assert takes(Metadata, {f"k{n}": "v" for n in range(50)})
    assert takes(Metadata, {"k" * 40: "v" * 500, "empty": ""})
    assert code(Metadata, {f"k{n}": "v" for n in range(51)}) == "too_long"
    assert code(Metadata, {"k" * 41: "v"}) == "string_too_long"
    assert code(Metadata, {"k": "v" * 501}) == "string_too_long"
    assert code(Metadata, {"": "v"}) == "string_too_short"
    assert code(Metadata, {"k": 1}) == "string_type"
    assert code(Metadata, {"k": None}) == "string_type"


@pytest.mark.parametrize("bad", ["a\r\nb", "\x00", "\x1b[31m", "\x7f", "\x85", "\u2028", "a\tb"])
def test_metadata_holds_no_control_characters_and_no_cards(bad: str) -> None:  # SEC-10, SEC-20
    assert code(Metadata, {"k": bad}) == "control-character"
    assert code(Metadata, {bad: "v"}) == "control-character"
    assert code(Metadata, {"k": CARD}) == "card-number"
    assert code(Metadata, {"4111111111111111": "v"}) == "card-number"


def test_text_has_its_length_and_its_lines_where_it_may() -> None:  # SEC-10, SEC-20
    one, many = Annotated[str, Text(5)], Annotated[str, Text(20, lines=True)]
    assert takes(one, "\N{GRINNING FACE}" * 5)
    assert code(one, "x" * 6) == "string_too_long"
    assert code(one, "") == "string_too_short"
    assert code(one, "a\nb") == "control-character"
    assert takes(many, "a\n\tb") == "a\n\tb"
    assert code(many, "a\rb") == "control-character"
    assert code(many, "a\x00b") == "control-character"
    assert code(many, CARD) == "card-number"


def test_a_reference_is_visible_and_no_card() -> None:  # SEC-10, SEC-20
    assert takes(Reference, "#A-7/2026") == "#A-7/2026"
    assert takes(Reference, "r" * 255)
    for bad in ("", "r" * 256, "a b", "a\n", "é", "\x00", " a"):
        assert code(Reference, bad).startswith("string_")
    assert code(Reference, "4111-1111-1111-1111") == "card-number"
    assert takes(GatewayReference, "8515131751004933") == "8515131751004933"


def test_an_id_is_read_by_its_kind_and_shown_with_its_prefix() -> None:
    id_ = ids.new_id()
    refund_id, adapter = Annotated[UUID, PublicId("refund")], TypeAdapter(Annotated[UUID, PublicId("refund")])
    assert takes(refund_id, ids.show("refund", id_)) == id_
    assert adapter.dump_json(id_) == f'"{ids.show("refund", id_)}"'.encode()
    bad: object
    for bad in (ids.show("payment", id_), str(id_), "rf_", "rf_" + "z" * 26, "' OR 1=1", 1, None, []):
        assert code(refund_id, bad) == "not-an-id"


class Asked(Wire):
    amount: Amount
    currency: CurrencyCode
    at: Moment
    refund_id: Annotated[UUID, PublicId("refund")]
    metadata: Metadata = Field(default_factory=dict)
    note: Annotated[str, Text(20, lines=True)] | None = None
    reference: Reference | None = None


GOOD: dict[str, Any] = {
    "amount": 1,
    "currency": "EUR",
    "at": "2026-03-01T12:00:00Z",
    "refund_id": ids.show("refund", ids.new_id()),
    "metadata": {"a": "b"},
    "note": "a\nb",
    "reference": "R-1",
}


def test_a_model_refuses_what_it_does_not_know_and_does_not_change() -> None:
    asked = Asked.model_validate(GOOD)
    with pytest.raises(ValidationError):
        asked.amount = 2  # type: ignore[misc]  # that it cannot be done is what is tried
    with pytest.raises(ValidationError) as refused:
        Asked.model_validate({**GOOD, "amuont": 1})
    assert refused.value.errors()[0]["type"] == "extra_forbidden"


def test_what_is_refused_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ValidationError) as refused:
        Asked.model_validate({**GOOD, "note": CARD})
    assert CARD not in str(refused.value)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def test_the_schema_takes_what_the_model_takes() -> None:
    jsonschema.validate(GOOD, schema_of(Asked))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("amount", 0),
        ("amount", LARGEST_AMOUNT + 1),
        ("amount", "1"),
        ("amount", True),
        ("currency", "eur"),
        ("refund_id", "pay_01k8"),
        ("metadata", {"k" * 41: "v"}),
        ("metadata", {"k": "v" * 501}),
        ("metadata", {str(n): "v" for n in range(51)}),
        ("note", "x" * 21),
        ("note", ""),
        ("note", "a\x00b"),
        ("metadata", {"a\nb": "v"}),
        ("metadata", {"a\nb": 1}),
        ("metadata", {"k": "a\x7fb"}),
        ("reference", "a b"),
        ("reference", ""),
        ("unknown", 1),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(name: str, bad: object) -> None:
    asked = {**GOOD, name: bad}
    with pytest.raises(ValidationError):
        Asked.model_validate(asked)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(asked, schema_of(Asked))


def test_examples_in_schemas_are_themselves_valid() -> None:
    for name, told in schema_of(Asked)["properties"].items():
        for example in told.get("examples", []):
            Asked.model_validate({**GOOD, name: example})
