"""What the HTTP app adds to every response, and what it refuses on every route."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import pytest

from shared.errors import InvalidJob, StorageUnavailable
from shared.http.app import HttpApp
from shared.http.auth import Caller
from shared.http.console import ConsoleResource
from shared.http.documentation import DocumentationResource
from shared.http.messages import Request, Response
from shared.http.problems import not_found
from shared.http.routes import ROUTES, Route
from shared.settings import read_settings
from shared.telemetry.base import Telemetry
from tests.support.rows import every_row

KEY = read_settings({"JobStorage": "UseDevelopmentStorage=true"})


@every_row("route", ROUTES, ids=lambda route: route.name)
@every_row(
    "outcome",
    [
        *(Response(status, headers={"ETag": "x"}) for status in (200, 201, 202, 204, 304)),
        *(not_found("job"), InvalidJob("x"), StorageUnavailable("x"), ValueError("x")),
    ],
    ids=repr,
)
async def test_no_cache_keeps_a_response(route: Route, outcome: Response | Exception):
    """Whatever a route responds, its response is stored by nobody and is what its media type says."""

    async def handler(_: Request, __: Caller) -> Response:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    response = await HttpApp(KEY, {route.name: handler}).handle(route.name, Request(route.method, ""))

    assert ("no-store", "nosniff") == tuple(
        response.headers[name] for name in ("Cache-Control", "X-Content-Type-Options")
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_span_has_the_method_of_the_request(method: str):
    """A route that takes GET takes HEAD: the route alone does not say which it was."""
    spans = []

    class Spans(Telemetry):
        """Telemetry that keeps what wraps a request."""

        def http_request(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
            """See Telemetry."""
            spans.append((method, route))
            return super().http_request(method, route, headers)

    async def respond(_: Request, __: Caller) -> Response:
        return Response(200)

    app = HttpApp(KEY, {"read_job": respond}, Spans())

    assert 200 == (await app.handle("read_job", Request(method, ""))).status
    assert [(method, "/api/jobs/{customer}/{job_id}")] == spans


async def test_the_documentation_may_be_kept():
    """It has no customers' data, and an ETag that says whether it has changed."""
    resource = DocumentationResource()
    pages = (("openapi", resource.openapi), ("docs", resource.page), ("console", ConsoleResource().page))
    for name, handler in pages:
        response = await HttpApp(KEY, {name: handler}).handle(name, Request("GET", ""))
        assert "no-cache" == response.headers["Cache-Control"]
