"""The HTTP door as tests knock at it: by path, as the host would, without a socket between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.host.routes import Routes, read_route
from shared.contract.documents import API_PREFIX
from shared.http.messages import Request
from shared.http.routes import ROUTES
from tests.support.harness import World

_FOUND = Routes(read_route(route.name, route.path, API_PREFIX.strip("/"), [route.method]) for route in ROUTES)


@dataclass(frozen=True)
class Answered:
    """A response."""

    status: int
    body: bytes
    media_type: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


async def knock(
    world: World,
    method: str,
    path: str,
    *,
    json_body: Any = None,
    body: bytes = b"",
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """What the door answers to a request below `/api`; fails where no route takes it."""
    found = _FOUND.find(method, f"{API_PREFIX}/{path}")
    assert found is not None, f"no route takes {method} {path}"
    name, params = found
    data = body if json_body is None else json.dumps(json_body).encode()
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    request = Request(method, f"http://localhost{API_PREFIX}/{path}", params, query or {}, lowered, data)
    response = await world.services.http.handle(name, request)
    return Answered(response.status, response.body, response.media_type, response.headers)
