"""The pages behind each problem's ``type``: what the code means and what can be done."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from refund_service.api.refusals import RouteNotFound
from refund_service.errors import RefundServiceError

_STYLE: Final = "body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}"
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class TwoWithOneCode(Exception):
    """Two refusals share a code, so that clients could not tell them apart."""


def by_code(refusals: Iterable[type[RefundServiceError]]) -> dict[str, type[RefundServiceError]]:
    """The refusals under their codes, sorted; ``TwoWithOneCode`` where one code has two."""
    found: dict[str, type[RefundServiceError]] = {}
    for refusal in refusals:
        twin = found.setdefault(refusal.code, refusal)
        if twin is not refusal:
            raise TwoWithOneCode(f"{refusal.code}: {twin.__qualname__} and {refusal.__qualname__}")
    return dict(sorted(found.items()))


def catalogue() -> list[type[RefundServiceError]]:
    """Every refusal of this service that has been imported, by code."""
    ours = (one for one in _below(RefundServiceError) if one.__module__.startswith("refund_service."))
    return list(by_code(one for one in ours if "code" in vars(one)).values())


def _below(base: type[RefundServiceError]) -> Iterator[type[RefundServiceError]]:
    # A class with two bases is met twice, and told once.
    seen: set[type[RefundServiceError]] = set()
    waiting = [base]
    while waiting:
        for one in waiting.pop().__subclasses__():
            if one not in seen:
                seen.add(one)
                waiting.append(one)
                yield one


@cache
def _pages() -> dict[str, type[RefundServiceError]]:
    return by_code(catalogue())


def problem_pages() -> APIRouter:
    """The routes ``/problems`` and ``/problems/{code}``: HTML for who asks for it, JSON otherwise."""
    router = APIRouter(include_in_schema=False)

    @router.get("/problems")
    async def list_problems(request: Request) -> Response:
        if not _wants_html(request):
            return JSONResponse({"data": [_told(one) for one in _pages().values()]})
        rows = (
            f'<li><a href="problems/{code}">{code}</a> {escape(one.title)}</li>'
            for code, one in _pages().items()
        )
        return _page("Problems", f"<ul>{''.join(rows)}</ul>")

    @router.get("/problems/{code}")
    async def show_problem(code: str, request: Request) -> Response:
        refusal = _pages().get(code)
        if refusal is None:
            raise RouteNotFound("No problem has this code.")
        if not _wants_html(request):
            return JSONResponse(_told(refusal))
        again = (
            "The same request may be right later."
            if refusal.retryable
            else "Repeating it unchanged does not help."
        )
        return _page(
            refusal.title,
            f"<p><code>{code}</code>, status {refusal.status}. {again}</p><p>{escape(refusal.help)}</p>"
            '<p><a href="../problems">All problems</a></p>',
        )

    return router


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _told(refusal: type[RefundServiceError]) -> dict[str, Any]:
    return {
        "code": refusal.code,
        "status": refusal.status,
        "title": refusal.title,
        "help": refusal.help,
        "retryable": refusal.retryable,
    }


def _page(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{content}</body></html>",
        headers={"Content-Security-Policy": _POLICY, "Vary": "Accept"},
    )
