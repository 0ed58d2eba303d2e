"""The OpenAPI document: whole, valid, current, and true of the running service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest
from fastapi.routing import iter_route_contexts
from house import Shop
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import ValidationError

from refund_service.api.links import LINKS
from refund_service.api.problem_pages import catalogue
from refund_service.api.v1.refunds import RefundIn
from refund_service.app import bare_app
from refund_service.merchants.roles import SCOPES, Role, Scope
from refund_service.payments.listing import PaymentFilters
from refund_service.refunds.listing import RefundFilters
from refund_service.refunds.states import Outcome, Status

FILE = Path(__file__).resolve().parents[2] / "openapi" / "refund-service.v1.json"
APP = bare_app("http://127.0.0.1:8080")
DOCUMENT: dict[str, Any] = APP.openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
PROBLEM, JSON = "application/problem+json", "application/json"


def look(reference: dict[str, Any]) -> dict[str, Any]:
    """What is meant, where it stands under a name."""
    if "$ref" not in reference:
        return reference
    found: Any = DOCUMENT
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        operation["operationId"]: (method, path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }


OPERATIONS = operations()
every_operation = pytest.mark.parametrize(
    "operation", [operation for _, _, operation in OPERATIONS.values()], ids=OPERATIONS
)


def answers_of(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, response in operation["responses"].items():
        if status < "400":
            yield status, look(response)["content"][JSON]


def refusals_of(operation: dict[str, Any]) -> dict[str, set[str]]:
    """The codes that may be met, by status."""
    return {
        status: set(look(response)["content"][PROBLEM]["examples"])
        for status, response in operation["responses"].items()
        if status >= "400"
    }


@cache
def validator(name: str, *, closed: bool = False) -> jsonschema.Draft202012Validator:
    components = deepcopy(DOCUMENT["components"])
    if closed:
        # What is not told of must not be there either, whatever clients are asked to bear.
        for schema_name, schema in components["schemas"].items():
            if "properties" in schema and schema_name != "Problem":
                schema["additionalProperties"] = False
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def fits(value: object, schema: dict[str, Any]) -> None:
    validator(schema["$ref"].rpartition("/")[2], closed=True).validate(value)


# The document


def test_the_file_is_what_the_code_says() -> None:
    assert json.loads(FILE.read_text()) == DOCUMENT, "run: make openapi"


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_operation_has_a_name_of_its_own() -> None:
    assert len(OPERATIONS) == sum(len(item) for item in DOCUMENT["paths"].values())


@every_operation
def test_an_operation_says_what_it_is(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert not operation["summary"].endswith(".")
    assert operation["description"].endswith(".")
    (tag,) = operation["tags"]
    assert tag in {one["name"] for one in DOCUMENT["tags"]}


def test_every_route_of_the_api_is_in_the_document() -> None:
    routed = {
        (method.lower(), context.path_format)
        for context in iter_route_contexts(APP.routes)
        if context.path_format.startswith("/v1/")
        for method in context.methods or ()
    }
    assert routed == {(method, path) for method, path, _ in OPERATIONS.values()}


@every_operation
def test_an_operation_names_the_scope_it_needs(operation: dict[str, Any]) -> None:
    ((scheme, scopes),) = operation["security"][0].items()
    assert len(operation["security"]) == 1
    assert scheme in DOCUMENT["components"]["securitySchemes"]
    if operation["operationId"] == "get_me":
        assert scopes == []
    else:
        (scope,) = scopes
        assert scope in {known.value for known in Scope} - {"act_as"}


@every_operation
def test_an_operation_lists_its_problems(operation: dict[str, Any]) -> None:
    listed = refusals_of(operation)
    by_code = {refusal.code: refusal for refusal in catalogue()}
    for status, codes in listed.items():
        assert codes
        assert {by_code[code].status for code in codes} == {int(status)}
        content = look(operation["responses"][status])["content"]
        assert list(content) == [PROBLEM]
        assert content[PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert {"401", "403", "422", "429", "500", "503"} <= set(listed)
    assert ("413" in listed) is ("requestBody" in operation)


def test_every_refusal_is_told_by_some_operation() -> None:
    told = set(DOCUMENT["components"]["examples"])
    of_no_operation = {"method-not-allowed", "route-not-found"}
    assert told == {refusal.code for refusal in catalogue()} - of_no_operation


@pytest.mark.parametrize("code", DOCUMENT["components"]["examples"])
def test_the_example_of_a_problem_is_what_the_code_says(code: str) -> None:
    refusal = {one.code: one for one in catalogue()}[code]
    value = DOCUMENT["components"]["examples"][code]["value"]
    assert value["type"] == f"http://127.0.0.1:8080/problems/{code}"
    assert (value["title"], value["status"]) == (refusal.title, refusal.status)
    assert value["retryable"] is refusal.retryable
    validator("Problem").validate(value)


def test_every_name_that_is_given_is_used_and_every_name_that_is_used_is_given() -> None:
    text = json.dumps(DOCUMENT)
    for kind in ("schemas", "responses", "headers", "examples"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text, f"{kind}/{name} is not used"
    for reference in set(text.split('"$ref": "')[1:]):
        assert look({"$ref": reference.partition('"')[0]})


@every_operation
def test_an_operation_has_examples_that_fit(operation: dict[str, Any]) -> None:
    if "requestBody" in operation:
        body = operation["requestBody"]["content"][JSON]
        assert body["examples"]
        for example in body["examples"].values():
            assert example["summary"]
            fits(example["value"], body["schema"])
    shown = list(answers_of(operation))
    assert shown
    for _, answer in shown:
        fits(answer["example"], answer["schema"])


@pytest.mark.parametrize("name", LINKS)
def test_a_way_on_begins_in_the_answer_and_ends_at_what_an_operation_takes(name: str) -> None:
    answers = [one for one in OPERATIONS[name][2]["responses"].values() if JSON in one.get("content", {})]
    assert answers
    assert all(one["links"] == LINKS[name] for one in answers)
    for link in LINKS[name].values():
        _, _, there = OPERATIONS[link["operationId"]]
        taken = {parameter["name"] for parameter in there.get("parameters", [])}
        taken |= set(SCHEMAS["RefundIn"]["properties"]) if link["operationId"] == "create_refund" else set()
        given = link.get("parameters") or link["requestBody"]
        assert given.keys() <= taken
        for found in given.values():
            assert leads_on(found, OPERATIONS[name][1], answers[0]["content"][JSON]["example"]), found


def leads_on(expression: str, path: str, example: Any) -> bool:
    """Whether a runtime expression finds something."""
    if expression.startswith("$request.path."):
        return f"{{{expression.removeprefix('$request.path.')}}}" in path
    for step in expression.removeprefix("$response.body#/").split("/"):
        example = example[step]
    return isinstance(example, str) or expression.endswith("next_cursor")


def test_the_examples_of_answers_are_such_as_the_service_makes() -> None:
    """Through the models and back, nothing is lost and nothing is added."""
    for context in iter_route_contexts(APP.routes):
        model = getattr(context.original_route, "response_model", None)
        if model is not None:
            operation = OPERATIONS[context.original_route.operation_id][2]
            for _, answer in answers_of(operation):
                made = model.model_validate_json(json.dumps(answer["example"]))
                assert json.loads(made.model_dump_json(by_alias=True)) == answer["example"]


def reached(begin: object) -> set[str]:
    found: set[str] = set()
    waiting = [begin]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name in SCHEMAS and name not in found:
                found.add(name)
                waiting.append(SCHEMAS[name])
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
    return found


ASKED = reached([operation.get("requestBody") for _, _, operation in OPERATIONS.values()])
ANSWERED = reached([list(answers_of(operation)) for _, _, operation in OPERATIONS.values()])


@pytest.mark.parametrize("name", sorted(ANSWERED))
def test_what_is_always_there_is_required(name: str) -> None:
    schema = SCHEMAS[name]
    if "enum" not in schema:
        assert sorted(schema["required"]) == sorted(schema["properties"])
        assert "additionalProperties" not in schema, "answers may grow"


@pytest.mark.parametrize("name", sorted(ASKED))
def test_what_is_asked_has_no_unknown_members(name: str) -> None:
    assert SCHEMAS[name]["additionalProperties"] is False


def test_what_is_asked_and_what_is_answered_have_no_shape_in_common() -> None:
    assert not ASKED & ANSWERED


def test_the_words_of_enums_are_those_of_the_code() -> None:
    assert SCHEMAS["Status"]["enum"] == [status.value for status in Status]
    assert SCHEMAS["Outcome"]["enum"] == [outcome.value for outcome in Outcome]
    assert SCHEMAS["Role"]["enum"] == [role.value for role in Role]


def test_every_filter_is_a_parameter_and_none_may_be_null() -> None:
    for name, filters in (("list_refunds", RefundFilters), ("list_payments", PaymentFilters)):
        parameters = {one["name"]: one for one in OPERATIONS[name][2]["parameters"] if one["in"] == "query"}
        assert set(parameters) == {*filters.__dataclass_fields__, "limit", "cursor"}
        assert "null" not in json.dumps(parameters)


WAYS_IN: dict[str, Any] = {
    "payment_id": "pay_01jejcavr0fay8vvr14d2pf2db",
    "payment_reference": "PAY-1001",
    "gateway_payment_id": "pi_1",
    "order_id": "ORDER-1001",
    "payment": {"gateway_payment_id": "pi_1", "captured": 5990, "currency": "EUR"},
}


@pytest.mark.parametrize("named", [names for n in range(3) for names in combinations(WAYS_IN, n)])
@pytest.mark.parametrize("others_null", [False, True])
def test_the_schema_takes_exactly_one_way_in_as_the_service_does(
    named: tuple[str, ...], others_null: bool
) -> None:
    body = {name: value for name, value in WAYS_IN.items() if name in named}
    if others_null:
        body |= dict.fromkeys(WAYS_IN.keys() - set(named))
    try:
        RefundIn.model_validate_json(json.dumps(body))
        taken = True
    except ValidationError:
        taken = False
    assert taken is (len(named) == 1)
    assert validator("RefundIn").is_valid(body) is taken


# The document and the service


class Walk:
    """Sends what the document says and holds what comes back against it."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.ids: dict[str, str] = {}
        self.walked: set[tuple[str, str]] = set()

    async def send(
        self,
        name: str,
        body: object = None,
        *,
        client: httpx.AsyncClient | None = None,
        key: str | None = None,
        wait: int = 0,
        query: dict[str, Any] | None = None,
        **ids: str,
    ) -> httpx.Response:
        method, path, operation = OPERATIONS[name]
        taken = {parameter["name"] for parameter in operation.get("parameters", [])}
        headers = {}
        if "Idempotency-Key" in taken:
            headers["Idempotency-Key"] = key or uuid4().hex
        if wait:
            assert "Prefer" in taken
            headers["Prefer"] = f"wait={wait}"
        assert set(query or {}) <= taken
        reply = await (client or self.shop.client).request(
            method, path.format(**(self.ids | ids)), json=body, headers=headers, params=query
        )
        self.hold_against(name, reply)
        self.walked.add((name, str(reply.status_code)))
        return reply

    async def well(self, name: str, body: object = None, **how: Any) -> dict[str, Any]:
        reply = await self.send(name, body, **how)
        assert reply.is_success, reply.text
        told: dict[str, Any] = reply.json()
        return told

    async def refused(self, code: str, name: str, body: object = None, **how: Any) -> None:
        reply = await self.send(name, body, **how)
        assert reply.json()["code"] == code, reply.text

    def hold_against(self, name: str, reply: httpx.Response) -> None:
        operation = OPERATIONS[name][2]
        status, kind = str(reply.status_code), reply.headers["content-type"]
        assert status in operation["responses"], f"{name} answered {status}: {reply.text}"
        response = look(operation["responses"][status])
        assert list(response["content"]) == [kind]
        fits(reply.json(), response["content"][kind]["schema"])
        ours = {name for name in DOCUMENT["components"]["headers"] if name in reply.headers}
        assert ours <= set(response["headers"]), f"{name} {status}"
        if kind == PROBLEM:
            assert reply.json()["code"] in refusals_of(operation)[status]
            assert reply.json()["type"].endswith(f"/problems/{reply.json()['code']}")


@pytest.fixture
def walk(shop: Shop) -> Walk:
    return Walk(shop)


def examples(name: str) -> dict[str, Any]:
    content = OPERATIONS[name][2]["requestBody"]["content"][JSON]
    return {key: example["value"] for key, example in content["examples"].items()}


async def tell_of_payments(walk: Walk) -> None:
    for body in examples("register_payment").values():
        assert (await walk.send("register_payment", body)).status_code == 201
        again = await walk.send("register_payment", body)
        assert again.status_code == 200
        walk.ids["payment_id"] = again.json()["id"]
    await walk.well("get_payment")
    assert (await walk.well("list_payments", query={"limit": 1}))["next_cursor"]
    await walk.well("list_payments", query={"order_id": "ORDER-1001"})

    walk.ids["order_id"] = "ORDER-1001"
    for body in examples("update_order").values():
        await walk.well("update_order", body)


async def ask_for_refunds(walk: Walk) -> dict[str, Any]:
    asked = {}
    for key, body in examples("create_refund").items():
        reply = await walk.send("create_refund", body, key=f"walk-{key}")
        assert reply.status_code == 201, (key, reply.text)
        assert reply.headers["location"] == f"/v1/refunds/{reply.json()['id']}"
        asked[key] = reply.json()
        again = await walk.send("create_refund", body, key=f"walk-{key}")
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    order = await walk.well("get_order")
    assert [refund["id"] for refund in order["refunds"]] == [
        asked[key]["id"] for key in ("later", "by_payment_reference", "by_order")
    ]
    return asked


async def follow_one(walk: Walk, refund: dict[str, Any]) -> None:
    walk.ids["refund_id"] = refund["id"]
    await walk.shop.until(refund, "succeeded")
    refund = await walk.well("get_refund")
    for body in examples("update_refund").values():
        assert (await walk.well("update_refund", body))["metadata"] == body["metadata"]
    assert (await walk.well("list_refund_attempts"))["data"][0]["calls"]
    assert len((await walk.well("list_refund_events"))["data"]) >= 4
    assert (await walk.well("refresh_refund", wait=5))["status"] == "succeeded"
    await walk.well("get_decision", decision_id=refund["decision"]["id"])


async def stop_one_and_retry_one(walk: Walk) -> dict[str, Any]:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"payment_reference": "PAY-1001", "amount": 1, "execute_after": tomorrow}
    later = (await walk.well("create_refund", body))["id"]
    canceled = await walk.send("cancel_refund", refund_id=later, key="cancel")
    assert canceled.json()["status"] == "canceled"
    again = await walk.send("cancel_refund", refund_id=later, key="cancel")
    assert again.headers["idempotency-replayed"] == "true"

    declined = {"order_id": "A-7", "amount": 1, "metadata": {"sandbox": "decline"}}
    failed = await walk.well("create_refund", declined, wait=10)
    assert failed["status"] == "failed"
    retried = await walk.well("retry_refund", refund_id=failed["id"], wait=10)
    assert (retried["generation"], retried["status"]) == (2, "failed")
    return failed


async def make_rules(walk: Walk) -> None:
    for body in examples("publish_policy").values():
        assert (await walk.send("publish_policy", body)).status_code == 201
    assert (await walk.well("get_current_policy"))["version"] == 2
    for code, body in zip(("sample_unwanted", "goodwill"), examples("put_reason").values(), strict=True):
        await walk.well("put_reason", body, code=code)
    assert {one["code"] for one in (await walk.well("list_reasons"))["data"]} >= {
        "sample_unwanted",
        "damaged",
    }


async def test_every_operation_does_what_the_document_says(walk: Walk) -> None:
    me = await walk.well("get_me")
    assert me["role"] == "admin"

    await tell_of_payments(walk)
    asked = await ask_for_refunds(walk)
    await follow_one(walk, asked["by_order"])
    failed = await stop_one_and_retry_one(walk)

    everything = {
        "status": ["succeeded", "failed"],
        "outcome": "failed",
        "reason": "customer_request",
        "amount": 1,
        "attention": False,
        "created_from": "2026-01-01T00:00:00Z",
    }
    found = await walk.well("list_refunds", query=everything)
    assert [one["id"] for one in found["data"]] == [failed["id"]]
    assert (await walk.well("list_refunds", query={"limit": 1}))["next_cursor"]

    await make_rules(walk)
    feed = await walk.well("list_events", query={"limit": 5})
    await walk.well("list_events", query={"limit": 5, "cursor": feed["next_cursor"]})

    promised = {(name, status) for name, (*_, told) in OPERATIONS.items() for status, _ in answers_of(told)}
    assert promised - walk.walked == set()


NOBODY: dict[str, str] = {
    "order_id": "nowhere",
    "payment_id": "pay_01jejcavr0fay8vvr14d2pf2db",
    "refund_id": "rf_01jejcavr0fay8vvr14d2pf2db",
    "decision_id": "dec_01jejcavr0fay8vvr14d2pf2db",
    "code": "damaged",
}


def some_body(name: str) -> object:
    return next(iter(examples(name).values())) if "requestBody" in OPERATIONS[name][2] else None


async def test_every_operation_refuses_as_the_document_says(walk: Walk) -> None:
    walk.ids |= NOBODY
    stranger = httpx.AsyncClient(base_url=walk.shop.house.url, trust_env=False)
    async with stranger, walk.shop.at(walk.shop.house.url, await walk.shop.new_key(Role.AUDITOR)) as auditor:
        for name, (_, path, operation) in OPERATIONS.items():
            await walk.refused("unauthorized", name, some_body(name), client=stranger)
            ((_, scopes),) = operation["security"][0].items()
            if not set(scopes) <= {scope.value for scope in SCOPES[Role.AUDITOR]}:
                await walk.refused("forbidden", name, some_body(name), client=auditor)
            if "{" in path and name != "put_reason":
                reply = await walk.send(name, some_body(name))
                assert reply.status_code == 404, name
            if "requestBody" in operation:
                await walk.refused("request-invalid", name, {"surprise": 1})
                await walk.refused("body-too-large", name, {"note": "x" * 70_000})
            if "{" in path:
                (parameter,) = (one["name"] for one in operation["parameters"] if one["in"] == "path")
                reply = await walk.send(name, some_body(name), **{parameter: "Not%20one"})
                assert reply.json()["code"] == "not-found", name
            if "cursor" in {one["name"] for one in operation.get("parameters", [])}:
                await walk.refused("cursor-invalid", name, query={"cursor": "x"})
                await walk.refused("request-invalid", name, query={"limit": 101})


async def test_a_refund_is_refused_as_the_document_says(walk: Walk) -> None:
    for body in examples("register_payment").values():
        await walk.well("register_payment", body)
    payment = {"payment_reference": "PAY-1001"}
    inline = {"gateway_payment_id": "pi_new", "captured": 100, "currency": "EUR"}

    async def refused(code: str, **body: Any) -> None:
        await walk.refused(code, "create_refund", body)

    await refused("amount-exceeds-available", **payment, amount=5991)
    await refused("currency-differs", **payment, currency="USD")
    await refused("reason-unknown", **payment, reason="whim")
    await refused("available-changed", **payment, amount=1, expected_available=1)
    await refused("payment-not-found", payment_reference="PAY-9")
    await refused("order-not-found", order_id="ORDER-9")
    await refused("gateway-account-unknown", payment=inline | {"gateway_account": "elsewhere"})
    await refused("payment-contradictory", payment=inline | {"already_refunded": 101})
    await refused("payment-not-captured", payment=inline | {"captured_at": "2999-01-01T00:00:00Z"})
    await refused("payment-exists", payment=inline | {"gateway_payment_id": "pi_3NbQ0yLkdIwHu7ix1aXcDpOe"})
    await refused("refund-not-replaceable", **payment, replaces=NOBODY["refund_id"])
    await walk.well("create_refund", payment | {"amount": 1, "reference": "R-1"})
    await refused("reference-exists", **payment, amount=1, reference="R-1")
    await walk.well("create_refund", {"payment_reference": "PAY-1001"})
    await refused("nothing-available", **payment)

    second = {"gateway_payment_id": "pi_second", "captured": 100, "currency": "EUR"}
    for number in (1, 2):
        ordered = second | {"gateway_payment_id": f"pi_{number}", "order": {"id": "TWICE"}}
        await walk.well("register_payment", ordered)
    await refused("payment-ambiguous", order_id="TWICE")

    await walk.well("create_refund", {"payment": inline}, key="once")
    changed = {"payment": inline, "amount": 1}
    await walk.refused("idempotency-key-reused", "create_refund", changed, key="once")
    reply = await walk.shop.client.post("/v1/refunds", json=payment)
    walk.hold_against("create_refund", reply)
    assert reply.json()["code"] == "idempotency-key-missing"

    failed = await walk.well(
        "create_refund",
        {"gateway_payment_id": "pi_1", "amount": 60, "metadata": {"sandbox": "decline"}},
        wait=10,
    )
    await walk.refused("refund-not-in-status", "cancel_refund", refund_id=failed["id"])
    await walk.well("create_refund", {"gateway_payment_id": "pi_1", "amount": 50})
    await walk.refused("amount-exceeds-available", "retry_refund", refund_id=failed["id"])

    await walk.well("publish_policy", {"rules": {"max_amount": {"EUR": 10}}})
    await refused("refund-refused", gateway_payment_id="pi_1", amount=11)


async def test_a_payment_is_refused_as_the_document_says(walk: Walk) -> None:
    body = examples("register_payment")["with_order"]
    await walk.well("register_payment", body)
    other = {"gateway_payment_id": "pi_other", "captured": 100, "currency": "EUR"}

    async def refused(code: str, **told: Any) -> None:
        await walk.refused(code, "register_payment", told)

    await refused("payment-exists", **body | {"captured": 5991})
    await refused("order-exists", **other, order=body["order"] | {"lines": [{"unit_price": 1}]})
    await refused("reference-exists", **other, reference=body["reference"])
    await refused("payment-contradictory", **other, already_refunded=101)
    await refused("payment-not-captured", **other, captured_at="2999-01-01T00:00:00Z")
    await refused("gateway-account-unknown", **other, gateway_account="elsewhere")
    await walk.well("register_payment", other, key="once")
    await walk.refused("idempotency-key-reused", "register_payment", other | {"captured": 1}, key="once")
