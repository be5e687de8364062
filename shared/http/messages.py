"""Requests and responses as the door's rooms see them, whatever hands them over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

JSON = "application/json"
_NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose route is found. Header names are in lower case; of a repeated query name, the host's joining."""

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A response, whole."""

    status: int
    body: bytes = b""
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value`, a Struct or what JSON can hold, as a response."""
    return Response(status, msgspec.json.encode(value), JSON, headers or {})


def tagged(request: Request, response: Response) -> Response:
    """
    The response with an `ETag` over its bytes; 304 without them where the caller has them.

    `If-None-Match` is compared as RFC 9110 (13.1.2) says: weakly, one tag of several, or `*`.
    """
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    headers = {**response.headers, "ETag": tag, "Cache-Control": "private, no-cache"}
    asked = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in asked or "*" in asked:
        return Response(_NOT_MODIFIED, b"", response.media_type, headers)
    return replace(response, headers=headers)
