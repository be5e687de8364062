"""The routes that tell of the others. The document and its page are made when they are first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from shared.http.auth import Caller
from shared.http.messages import JSON, Request, Response, tagged


@dataclass(frozen=True, slots=True)
class InterfaceDoor:
    """Open to everybody: it knows no customer."""

    async def document(self, request: Request, _: Caller) -> Response:
        """`GET /openapi.json`."""
        return tagged(request, _document())

    async def page(self, request: Request, _: Caller) -> Response:
        """`GET /docs`: a page that loads nothing and runs nothing."""
        return tagged(request, _page())


# Loaded here: no other request needs all types there are.


@cache
def _document() -> Response:
    from shared.http.openapi.document import document_bytes  # noqa: PLC0415

    return Response(200, document_bytes(), JSON)


@cache
def _page() -> Response:
    from shared.http.openapi.document import document  # noqa: PLC0415
    from shared.http.openapi.page import policy, write_page  # noqa: PLC0415

    headers = {"Content-Security-Policy": policy(), "Referrer-Policy": "no-referrer"}
    return Response(200, write_page(document()).encode(), "text/html; charset=utf-8", headers)
