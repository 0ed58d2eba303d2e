"""The OpenAPI document: made from the code, completed with what FastAPI cannot know."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from refund_service import __version__
from refund_service.api.problems import FieldError, Problem

_DESCRIPTION: Final = """Gives money back: once, never more than came in, and with a reason for every answer.

Amounts are integers in the currency's smallest unit. Times are RFC 3339 in UTC. Errors are problem
documents (RFC 9457): compare `code`. Send the same `Idempotency-Key` with each repetition of a request.
"""


def describe(app: FastAPI, public_url: str) -> None:
    """Let ``app`` answer the completed document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app, public_url)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def openapi_document(app: FastAPI, public_url: str) -> dict[str, Any]:
    """OpenAPI 3.1, with the problem documents, the scopes and the server."""
    document = get_openapi(
        title="Refund service",
        version=__version__,
        summary="Refunds for e-commerce backends",
        description=_DESCRIPTION,
        routes=app.routes,
        servers=[{"url": public_url}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = document["components"]["schemas"]
    for model in (FieldError, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    # FastAPI adds its own shape of a 422 where none is declared; ours are problems.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return document
