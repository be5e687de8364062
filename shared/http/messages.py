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
    headers = {**response.headers, "ETag": _tag(response), "Cache-Control": "private, no-cache"}
    if not _is_none_of(request, response):
        return Response(_NOT_MODIFIED, b"", response.media_type, headers)
    return replace(response, headers=headers)


def has_precondition(request: Request) -> bool:
    """Whether a change is asked for under a condition."""
    return not request.headers.keys().isdisjoint({"if-match", "if-none-match"})


def preconditions_hold(request: Request, there: Response | None) -> bool:
    """
    Whether a change may be made to what GET would answer with `there`, None where there is nothing.

    `If-Match` is compared strongly, `If-None-Match` weakly (RFC 9110, 13.1); both have to hold.
    """
    wanted = _listed(request, "if-match")
    matches = not wanted or (there is not None and ("*" in wanted or _tag(there) in wanted))
    return matches and (there is None or _is_none_of(request, there))


def _is_none_of(request: Request, response: Response) -> bool:
    known = [one.removeprefix("W/") for one in _listed(request, "if-none-match")]
    return _tag(response) not in known and "*" not in known


def _listed(request: Request, name: str) -> list[str]:
    return [one.strip() for one in request.headers[name].split(",")] if name in request.headers else []


def _tag(response: Response) -> str:
    return f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
