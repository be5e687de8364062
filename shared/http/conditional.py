"""Conditional requests (RFC 9110, 13): entity tags, and the preconditions that clients make with them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from werkzeug.datastructures import ETags
from werkzeug.http import parse_etags, quote_etag

from shared.http.messages import Request, Response

_NOT_MODIFIED = 304
_READS = frozenset({"GET", "HEAD"})


def with_etag(request: Request, response: Response) -> Response:
    """
    The response with an `ETag` over its body, or 304 without a body if `If-None-Match` names that tag.

    What has changed something is never 304: its precondition was about what was there before.
    """
    tag = _etag(response)
    headers = {**response.headers, "ETag": quote_etag(tag)}
    if request.method in _READS and _is_excluded(request, tag):
        return Response(_NOT_MODIFIED, b"", response.media_type, headers)
    return replace(response, headers=headers)


def meets_preconditions(request: Request, current: Response | None) -> bool:
    """
    Whether the request may change a resource that GET returns as `current`, None if it does not exist.

    `If-Match` is compared strongly, `If-None-Match` weakly; both have to hold.
    """
    if current is None:
        return "if-match" not in request.headers
    tag = _etag(current)
    matches = "if-match" not in request.headers or _listed(request, "if-match").contains(tag)
    return matches and not _is_excluded(request, tag)


def _is_excluded(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names the response's tag, or is `*`."""
    return _listed(request, "if-none-match").contains_weak(tag)


def _listed(request: Request, header: str) -> ETags:
    return parse_etags(request.headers.get(header, "").strip())


def _etag(response: Response) -> str:
    return hashlib.sha256(response.body).hexdigest()[:32]
