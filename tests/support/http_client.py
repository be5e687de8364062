"""A client of the HTTP app without a socket: it passes requests to the app as the Functions host does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from local.host.routes import Routes, read_route
from shared.contract.documents import API_PREFIX
from shared.http.messages import Request
from shared.http.routes import ROUTES
from shared.services import Services
from tests.support.harness import Customer

HOST_ROUTES = Routes(read_route(route.name, route.path, API_PREFIX.strip("/"), route.methods) for route in ROUTES)
"""The app's routes, as the local host matches them by method and path."""


DOCUMENTATION = {"openapi", "docs", "console"}
"""Routes without customers' data."""


class App(Protocol):
    """What has the services of an app: a harness, or a worker in memory."""

    @property
    def services(self) -> Services:
        """The services."""


@dataclass(frozen=True)
class HttpResponse:
    """A response."""

    status: int
    body: bytes
    media_type: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def assert_problem(self, status: int, code: str, text: str = "") -> None:
        """Fail unless this is a problem with this status and code, and with this text in its detail."""
        assert (status, code, "application/problem+json") == (self.status, self.json["code"], self.media_type)
        assert text in self.json["detail"]


async def send(
    app: App,
    method: str,
    path: str,
    *,
    json_body: Any = None,
    body: bytes = b"",
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """
    The response to a request below `/api`. Fails if no route matches it.

    A body is JSON unless a header says otherwise; an empty `content-type` is not sent. Fails if a cache may keep the
    response, unless it is the documentation.
    """
    match = HOST_ROUTES.find(method, f"{API_PREFIX}/{path}")
    assert match is not None, f"no route matches {method} {path}"
    name, params = match
    content = body if json_body is None else json.dumps(json_body).encode()
    lower_case = {"content-type": "application/json"} if content else {}
    lower_case |= {name.lower(): value for name, value in (headers or {}).items()}
    if not lower_case.get("content-type"):
        lower_case.pop("content-type", None)
    request = Request(method, f"http://localhost{API_PREFIX}/{path}", params, query or {}, lower_case, content)
    response = await app.services.http.handle(name, request)
    caching = "no-cache" if name in DOCUMENTATION else "no-store"
    assert caching == response.headers["Cache-Control"], f"a cache may keep the response of {name}"
    return HttpResponse(response.status, response.body, response.media_type, response.headers)


async def post(customer: Customer, /, **members: Any) -> HttpResponse:
    """The response to submitting a job of the customer."""
    headers = members.pop("headers", {})
    return await send(customer.harness, "POST", "jobs", json_body=customer.job(**members), headers=headers)


async def run_queue(customer: Customer) -> list[dict[str, Any]]:
    """Runs the customer's messages as the trigger does. Returns the results."""
    results = [await customer.harness.deliver(body) for body in await customer.queued()]
    return [json.loads(result) for result in results if result is not None]
