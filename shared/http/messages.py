"""Requests and responses as the app's HTTP code sees them, whichever host passes them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose route is known. Header names are in lower case; the host joins the values of a repeated name."""

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    """The parameters in the path."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response."""

    status: int
    body: bytes = b""
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value`, a Struct or anything that JSON can hold, as a response."""
    return Response(status, msgspec.json.encode(value), JSON, headers or {})
