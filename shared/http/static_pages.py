"""Pages that are files of the package: nothing of them depends on the app's settings, and everybody may keep them."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from shared.http.messages import Response

FOLDER = Path(__file__).parent / "static"
CACHED = {"Cache-Control": "no-cache"}
"""Nothing in them is a customer's: everybody may keep them, and asks with the ETag whether they have changed."""


@cache
def static_page(file: str, *, sources: str = "") -> Response:
    """
    A page of the package, with a Content-Security-Policy that allows its own style and scripts, by their hashes.

    `sources` are directives for what else the page may do.
    """
    page = (FOLDER / file).read_bytes()
    directives = [
        "default-src 'none'",
        *(f"{element}-src {hashes}" for element in ("style", "script") if (hashes := _hashes(page, element))),
        *filter(None, [sources]),
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ]
    headers = {
        "Content-Security-Policy": "; ".join(directives),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        **CACHED,
    }
    return Response(200, page, "text/html; charset=utf-8", headers)


def _hashes(page: bytes, element: str) -> str:
    texts = re.findall(b"<%b>(.*?)</%b>" % (element.encode(), element.encode()), page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in texts)
