"""
The OpenAPI document and its page, open to everybody.

Both are files that `python -m openapi` writes; nothing of them depends on the app's settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import JSON, Request, Response
from shared.http.static_pages import CACHED, FOLDER, static_page


@dataclass(frozen=True, slots=True)
class DocumentationResource:
    """The routes of the documentation."""

    async def openapi(self, request: Request, _: Caller) -> Response:
        """`GET /openapi.json`."""
        return with_etag(request, _openapi())

    async def page(self, request: Request, _: Caller) -> Response:
        """`GET /docs`: a page that loads nothing and runs nothing."""
        return with_etag(request, static_page("docs.html"))


@cache
def _openapi() -> Response:
    return Response(200, (FOLDER / "openapi.json").read_bytes(), JSON, CACHED)
