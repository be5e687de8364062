"""
The OpenAPI document and its page, open to everybody.

Both are files that `python -m openapi` writes; nothing of them depends on the app's settings.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import JSON, Request, Response

_FOLDER = Path(__file__).parent / "static"
_CACHED = {"Cache-Control": "no-cache"}
"""Nothing in them is a customer's: everybody may keep them, and asks with the ETag whether they have changed."""
_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DocumentationResource:
    """The routes of the documentation."""

    async def openapi(self, request: Request, _: Caller) -> Response:
        """`GET /openapi.json`."""
        return with_etag(request, _openapi())

    async def page(self, request: Request, _: Caller) -> Response:
        """`GET /docs`: a page that loads nothing and runs nothing."""
        return with_etag(request, _page())


@cache
def _openapi() -> Response:
    return Response(200, (_FOLDER / "openapi.json").read_bytes(), JSON, _CACHED)


@cache
def _page() -> Response:
    page = (_FOLDER / "docs.html").read_bytes()
    headers = {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer", **_CACHED}
    return Response(200, page, "text/html; charset=utf-8", headers)


def _policy(page: bytes) -> str:
    """A Content-Security-Policy that allows the page's own style, by its hash, and nothing else."""
    styles = [base64.b64encode(hashlib.sha256(style).digest()).decode() for style in _STYLE.findall(page)]
    sources = " ".join(f"'sha256-{style}'" for style in styles)
    return f"default-src 'none'; style-src {sources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
