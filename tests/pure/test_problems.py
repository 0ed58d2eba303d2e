"""What clients are told when something is refused, and what they are never told."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from refund_service.api import refusals
from refund_service.api.invalid import code_of, refusal_of
from refund_service.api.pointers import pointer_to
from refund_service.api.problem_pages import TwoWithOneCode, by_code, catalogue
from refund_service.api.problems import Problem, Problems, mistake
from refund_service.errors import NotFound, RefundServiceError, Unprocessable

PROBLEMS = Problems("https://refunds.example/")


class TooMuch(Unprocessable):
    code = "too-much"
    title = "Too much"
    help = "Ask for less."


def scope(path: str = "/v1/refunds") -> dict[str, Any]:
    return {"type": "http", "headers": [(b"x-request-id", b"r-1")], "raw_path": path.encode()}


def told(error: RefundServiceError, path: str = "/v1/refunds") -> dict[str, Any]:
    answer = PROBLEMS.answer(scope(path), error)
    assert answer.status_code == error.status
    assert answer.headers["content-type"] == "application/problem+json"
    document = json.loads(bytes(answer.body))
    Problem.model_validate(document)
    assert isinstance(document, dict)
    return document


def test_a_refusal_is_told_with_its_facts_and_its_links() -> None:
    assert told(
        TooMuch("Only 4 are left.", asked=5, available=4, links={"payment": "/v1/payments/pay_1"})
    ) == {
        "type": "https://refunds.example/problems/too-much",
        "title": "Too much",
        "status": 422,
        "detail": "Only 4 are left.",
        "instance": "/v1/refunds",
        "code": "too-much",
        "request_id": "r-1",
        "retryable": False,
        "asked": 5,
        "available": 4,
        "links": {"payment": "/v1/payments/pay_1"},
    }


def test_facts_of_every_kind_become_json() -> None:
    facts = told(
        TooMuch(
            "x", at=datetime(2026, 1, 1, tzinfo=UTC), id=UUID(int=1), sum=Decimal("1.50"), kinds={"b", "a"}
        )
    )
    assert facts["at"] == "2026-01-01T00:00:00Z"
    assert facts["id"] == "00000000-0000-0000-0000-000000000001"
    assert facts["sum"] == "1.50"
    assert facts["kinds"] == ["a", "b"]


def test_no_fact_takes_the_place_of_a_standard_member() -> None:
    assert told(TooMuch("x", status="succeeded", type="y"))["status"] == 422


def test_a_path_with_a_card_number_in_it_is_not_repeated() -> None:
    assert told(TooMuch("x"), "/v1/orders/4111111111111111")["instance"] == "/v1/orders/[card number]"
    assert len(told(TooMuch("x"), "/" + "a" * 9_000)["instance"]) == 500


def test_retry_after_stands_in_the_header() -> None:
    assert PROBLEMS.answer(scope(), refusals.RateLimited("x", retry_after=7)).headers["retry-after"] == "7"
    assert "retry-after" not in PROBLEMS.answer(scope(), TooMuch("x")).headers


def test_refusals_carry_the_headers_that_http_wants() -> None:
    assert (
        PROBLEMS.answer(scope(), refusals.Unauthorized("x")).headers["www-authenticate"].startswith("Bearer")
    )
    forbidden = PROBLEMS.answer(scope(), refusals.Forbidden.without("refunds:write"))
    assert 'scope="refunds:write"' in forbidden.headers["www-authenticate"]
    assert json.loads(bytes(forbidden.body))["scope"] == "refunds:write"
    assert (
        PROBLEMS.answer(scope(), refusals.MethodNotAllowed.but({"POST", "GET"})).headers["allow"]
        == "GET, POST"
    )


def invalid(kind: Any, value: object, *, where: str = "body") -> RefundServiceError:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    errors = [{**error, "loc": (where, *error["loc"])} for error in refused.value.errors()]
    return refusal_of(RequestValidationError(errors, body=value))


def test_a_pointer_names_members_of_the_request_and_not_of_our_unions() -> None:
    refused = invalid(dict[str, list[int | dict[str, int]]], {"a/b": [1, {"c~d": "x"}]})
    assert {error["pointer"] for error in refused.facts["errors"]} == {"/a~1b/1", "/a~1b/1/c~0d"}


def test_values_never_stand_in_an_answer() -> None:
    refused = invalid(dict[str, UUID | int], {"a": "4111111111111111x"})
    assert "4111" not in json.dumps(refused.facts)


def test_names_of_members_are_masked_and_cut() -> None:
    assert pointer_to(["4111111111111111", "a" * 500]) == "/[card number]/" + "a" * 100
    assert pointer_to(["a\r\n\ud800"]) == "/a\ufffd\ufffd\ufffd"


def test_only_the_first_mistakes_are_listed_and_all_are_counted() -> None:
    refused = invalid(list[int], ["x"] * 1000)
    assert len(refused.facts["errors"]) == 20
    assert refused.detail.startswith("1000 things")


def test_parameters_are_named_with_where_they_stand() -> None:
    (error,) = invalid(dict[str, int], {"limit": "x"}, where="query").facts["errors"]
    assert (error["in"], error["pointer"], error["code"]) == ("query", "/limit", "invalid")


def test_what_cannot_be_an_id_in_the_path_is_not_there() -> None:
    assert isinstance(invalid(dict[str, int], {"refund_id": "x"}, where="path"), NotFound)


def test_codes_are_ours_and_not_the_librarys() -> None:
    assert code_of("extra_forbidden") == "unknown-member"
    assert code_of("int_type") == code_of("model_type") == "wrong-type"
    assert code_of("card-number") == "card-number"
    assert code_of("something_new") == "invalid"


def test_the_catalogue_is_sorted_and_complete_enough_to_be_a_page() -> None:
    codes = [one.code for one in catalogue()]
    assert codes == sorted(codes)
    assert {"not-found", "body-too-large", "internal-error", "cursor-invalid"} <= set(codes)
    assert "too-much" not in codes
    for one in catalogue():
        assert 400 <= one.status <= 599
        assert one.title
        assert one.help.endswith(".")


def test_two_refusals_with_one_code_are_complained_about() -> None:
    class Twin(TooMuch):
        code = "too-much"

    assert by_code([TooMuch, TooMuch]) == {"too-much": TooMuch}
    with pytest.raises(TwoWithOneCode, match="too-much"):
        by_code([TooMuch, Twin])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.EMFILE, "Too many open files"), 503, "overloaded"),
        (MemoryError(), 503, "overloaded"),
        (OSError(errno.ENOENT, "No such file"), 500, "internal-error"),
        (RuntimeError("broken"), 500, "internal-error"),
    ],
)
def test_a_limit_of_the_machine_is_told_as_one_that_passes(  # FLT-22
    error: Exception, status: int, code: str
) -> None:
    document = told(mistake(error))

    assert (document["status"], document["code"], document["retryable"]) == (status, code, True)
    assert str(error) not in document["detail"] or not str(error)
