"""The files of the chat page, with headers that let it run no other code and talk to no other host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # after an update a browser must not mix files of two versions
}


def page_routes(folder: Path = PAGE) -> list[Route]:
    """Returns a route for each file of the page; index.html is `/`."""
    return [_route(path) for path in sorted(folder.glob("*")) if path.suffix in TYPES]


def _route(path: Path) -> Route:
    from starlette.responses import Response
    from starlette.routing import Route

    content, media_type = path.read_bytes(), TYPES[path.suffix]

    async def file(_request: Request) -> Response:
        return Response(content, headers=HEADERS, media_type=media_type)

    return Route("/" if path.name == "index.html" else f"/{path.name}", file)
