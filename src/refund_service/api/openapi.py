"""The OpenAPI document: made from the code, completed with what FastAPI cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from refund_service import __version__
from refund_service.api import examples
from refund_service.api.links import LINKS
from refund_service.api.media import SCHEME
from refund_service.api.problem_pages import catalogue
from refund_service.api.problems import MEDIA_TYPE, FieldError, Problem
from refund_service.errors import RefundServiceError

_DESCRIPTION: Final = """Gives money back: once, never more than came in, and with a reason for every answer.

Amounts are integers in the currency's smallest unit. Times are RFC 3339 in UTC. Errors are problem
documents (RFC 9457): compare `code`; `/problems/{code}` says what it means. Send the same
`Idempotency-Key` with each repetition of a request.

Members may be added to answers, and words to their enums, at any time: pass over what you do not know,
and take an unknown `status` for what its `outcome` says.
"""

_TAGS: Final = {
    "me": "Who the key is and what it may do.",
    "orders": "What was bought, what was paid for it, and what came back.",
    "payments": "Captures that the merchant received, and what is left of them.",
    "refunds": "Money on its way back: ask for it, follow it, stop it, try it again.",
    "policies": "What is allowed, for which reasons, and what was decided.",
    "events": "Everything that happened, oldest first and without gaps.",
}

_HEADERS: Final = {
    "X-Request-Id": "The request's id: the caller's own where it sent one that is fit.",
    "RateLimit": "What the key may still send: `r` requests, all of them again in `t` seconds (IETF draft).",
    "RateLimit-Policy": "What the key may send: `q` requests in `w` seconds.",
    "Location": "Where the resource is.",
    "Idempotency-Key": "The key that the request is remembered by.",
    "Idempotency-Replayed": "`true` where an earlier request with the same key had made it.",
    "Preference-Applied": "`wait=N` where the answer was waited for.",
    "Retry-After": "Seconds to wait before the same request is sent again.",
}
_ON_EVERY_ANSWER: Final = ("X-Request-Id", "RateLimit", "RateLimit-Policy")
_MAKES: Final = {"create_refund", "register_payment"}
"""What answers where the thing is that was made."""

_WAIT_FIRST: Final = {"409", "429", "503"}

_SAME_EVERYWHERE: Final = {"401", "403", "408", "413", "415", "429", "431", "500", "503"}
_METHODS: Final = {"get", "put", "post", "patch", "delete"}
_JSON: Final = "application/json"


def describe(app: FastAPI, public_url: str) -> None:
    """Let ``app`` answer the completed document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app, public_url)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def openapi_document(app: FastAPI, public_url: str) -> dict[str, Any]:
    """OpenAPI 3.1, with the problem documents, the headers, the examples and the server."""
    document = get_openapi(
        title="Refund service",
        version=__version__,
        summary="Refunds for e-commerce backends",
        description=_DESCRIPTION,
        routes=app.routes,
        servers=[{"url": public_url}],
        tags=[{"name": name, "description": told} for name, told in _TAGS.items()],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document["components"]
    schemas = components["schemas"]
    for model in (FieldError, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    # FastAPI adds its own shape of a 422 where none is declared; ours are problems.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    components["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "`rk_test_…` or `rk_live_…`; `refund-service keys create` makes one.",
        }
    }
    components["headers"] = {
        name: {"description": told, "schema": {"type": "string"}} for name, told in _HEADERS.items()
    }
    told = {code for operation in _operations(document) for code in _codes(operation)}
    components["examples"] = {
        refusal.code: {"summary": refusal.title, "value": _problem(refusal, public_url)}
        for refusal in catalogue()
        if refusal.code in told
    }
    for operation in _operations(document):
        _complete(operation, schemas)
    components["responses"] = _shared_responses(document)
    _let_answers_grow(document)
    whole: dict[str, Any] = _with_whole_numbers(document)
    return whole


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document["paths"].values():
        yield from (operation for method, operation in item.items() if method in _METHODS)


def _codes(operation: dict[str, Any]) -> Iterator[str]:
    for response in operation["responses"].values():
        yield from response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})


def _problem(refusal: type[RefundServiceError], public_url: str) -> dict[str, Any]:
    return {
        "type": f"{public_url.rstrip('/')}/problems/{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": f"{refusal.title}.",
        "instance": "/v1/refunds",
        "code": refusal.code,
        "request_id": "req_6FQ8MYZuXtR1u1ZyVQ2sMb",
        "retryable": refusal.retryable,
    }


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    name = operation["operationId"]
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        _never_null(parameter)
    if "requestBody" in operation:
        operation["requestBody"]["content"][_JSON]["examples"] = {
            key: {"summary": told, "value": value} for key, (told, value) in examples.REQUESTS[name].items()
        }
    taken = {parameter["name"] for parameter in parameters}
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        headers = [*_ON_EVERY_ANSWER]
        if _JSON in content:
            shape = content[_JSON]["schema"]["$ref"].rpartition("/")[2]
            if response["description"] == "Successful Response":
                response["description"] = schemas[shape]["description"].partition("\n")[0]
            content[_JSON]["example"] = examples.ANSWERS[name]
            response.update({"links": LINKS[name]} if name in LINKS else {})
            if name in _MAKES:
                headers.append("Location")
            if "Prefer" in taken:
                headers.append("Preference-Applied")
        if status in _WAIT_FIRST:
            headers.append("Retry-After")
        if "Idempotency-Key" in taken and status not in _SAME_EVERYWHERE:
            headers += ["Idempotency-Key", "Idempotency-Replayed"]
        response["headers"] = {header: {"$ref": f"#/components/headers/{header}"} for header in headers}


def _shared_responses(document: dict[str, Any]) -> dict[str, Any]:
    """The refusals that are the same everywhere, under one name each; operations then refer to them."""
    shared: dict[str, Any] = {}
    for operation in _operations(document):
        for status in _SAME_EVERYWHERE & operation["responses"].keys():
            response = shared.setdefault(f"Problem{status}", operation["responses"][status])
            if response == operation["responses"][status]:
                operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}
    return dict(sorted(shared.items()))


def _never_null(parameter: dict[str, Any]) -> None:
    """A parameter that may be left out: FastAPI says that it may be null, which no query can."""
    kinds = parameter["schema"].get("anyOf", [])
    some = [kind for kind in kinds if kind != {"type": "null"}]
    if len(some) == 1 and len(kinds) > 1:
        del parameter["schema"]["anyOf"]
        parameter["schema"] = some[0] | parameter["schema"]


def _let_answers_grow(document: dict[str, Any]) -> None:
    """We may add members to answers; clients made from the document must not refuse them.

    What is only asked and never answered stays closed: unknown members are refused there.
    """
    schemas = document["components"]["schemas"]
    asked = _reached(schemas, [operation.get("requestBody", {}) for operation in _operations(document)])
    for name, schema in schemas.items():
        if name not in asked and schema.get("additionalProperties") is False:
            del schema["additionalProperties"]


def _reached(schemas: dict[str, Any], begin: object) -> set[str]:
    """The names of the schemas that ``begin`` refers to, and those that they refer to."""
    found: set[str] = set()
    waiting = [begin]
    while waiting:
        match waiting.pop():
            case {"$ref": str(reference)}:
                name = reference.rpartition("/")[2]
                if name in schemas and name not in found:
                    found.add(name)
                    waiting.append(schemas[name])
            case dict() as members:
                waiting.extend(members.values())
            case list() as members:
                waiting.extend(members)
    return found


def _with_whole_numbers(told: Any) -> Any:
    """FastAPI writes limits as floats: 999999999999.0."""
    match told:
        case dict():
            return {name: _with_whole_numbers(value) for name, value in told.items()}
        case list():
            return [_with_whole_numbers(value) for value in told]
        case float() if told.is_integer():
            return int(told)
        case _:
            return told
