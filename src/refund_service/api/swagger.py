"""``/docs``: Swagger UI from files inside an installed package; nothing is fetched from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from refund_service.api.refusals import RouteNotFound

# Swagger UI writes styles into elements and draws its icons from data URLs; scripts only come from here.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Addresses are relative, so that the page works below a prefix too.
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Refund service</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# validatorUrl: the default would show the document to a validator on the internet.
_START: Final = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, tryItOutEnabled: true,
});
"""

_KINDS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


def swagger_pages() -> APIRouter:
    """The routes of the page and its files, which are read once, when the application is made."""
    static = files("fastapi_offline") / "static"
    contents = {name: (kind, (static / name).read_bytes()) for name, kind in _KINDS.items()}
    contents["start.js"] = "text/javascript", _START
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def show_docs() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @router.get("/docs/{name}")
    async def show_file(name: str) -> Response:
        if name not in contents:
            raise RouteNotFound("The documentation has no such file.")
        kind, content = contents[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=3600"})

    return router
