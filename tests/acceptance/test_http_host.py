"""The HTTP routes on a real Functions host: found by method and path, guarded by it, cheap to load."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.host.host_json import load_host_json
from shared.contract.documents import API_PREFIX
from shared.http.routes import ROUTES, Route
from tests.support.live_server import Served

ROOT = Path(__file__).parents[2]
OPEN = {"health", "openapi", "docs", "receive_webhook"}
BINDINGS = """
import json, function_app
functions = function_app.app.get_functions()
print(json.dumps({each.get_function_name(): json.loads(each.get_function_json()) for each in functions}))
"""


def filled(route: Route) -> str:
    """A path that the route takes."""
    return f"{API_PREFIX}/{route.path.format(customer='nobody', job_id='nothing', name='nothing')}"


def indexed(**environment: str) -> dict[str, dict[str, Any]]:
    """The HTTP triggers of the app as the host is told of them, by their functions' names."""
    done = subprocess.run(
        [sys.executable, "-c", BINDINGS],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    triggers = {
        name: binding
        for name, function in json.loads(done.stdout).items()
        for binding in function["bindings"]
        if binding["type"] == "httpTrigger"
    }
    assert triggers
    return triggers


def test_routes_are_indexed_with_their_levels():
    """Health, the interface and webhooks need no function key; everything else does."""
    levels = {name: trigger["authLevel"].lower() for name, trigger in indexed().items()}

    assert {name for name, level in levels.items() if level == "anonymous"} == OPEN
    assert {name for name, level in levels.items() if level == "function"} == {route.name for route in ROUTES} - OPEN
    assert {"anonymous", "function"} == set(levels.values())


def test_with_entra_no_route_asks_for_a_key():
    """App Service authentication stands in front, and the door asks for a role."""
    assert {"anonymous"} == {trigger["authLevel"].lower() for trigger in indexed(HTTP_AUTH="entra").values()}


def test_each_route_is_a_function_of_its_name():
    """The table of routes and the functions that the host indexes are the same."""
    found = {(name, tuple(one["methods"]), one["route"]) for name, one in indexed().items() if name != "health"}

    assert {(route.name, (route.method,), route.path) for route in ROUTES} == found


def test_prefix_is_the_hosts():
    """The paths in documents begin as host.json says."""
    assert API_PREFIX == f"/{load_host_json(ROOT / 'host.json', {}).route_prefix}"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_each_route_is_reached(served: Served, route: Route):
    """By its method and path, with and without a slash at the end, the door answers."""
    for path in (filled(route), f"{filled(route)}/"):
        answered = await served.http.request(route.method, path, content=b"{}")
        assert answered.status_code < 500
        assert "nosniff" == answered.headers["x-content-type-options"]
        assert answered.headers["content-type"].partition(";")[0] in {
            "application/problem+json",
            "application/json",
            "text/html",
        }


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_other_methods_are_no_route(served: Served, route: Route):
    """A method that no route of the path takes is an empty 404, as on Azure; HEAD and OPTIONS are such methods."""
    taken = {one.method for one in ROUTES if filled(one) == filled(route)}
    for method in {"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD"} - taken:
        answered = await served.http.request(method, filled(route))
        assert (404, b"") == (answered.status_code, answered.content), method


async def test_a_repeated_header_is_one_with_commas(served: Served):
    """Tags in two headers are tags in one: 304 for either."""
    tag = (await served.http.get("/api/openapi.json")).headers["etag"]
    answered = await served.http.get(
        "/api/openapi.json", headers=[("If-None-Match", '"other"'), ("if-none-match", tag)]
    )

    assert (304, b"") == (answered.status_code, answered.content)


async def test_a_repeated_parameter_is_refused(served: Served):
    """The host joins it with a comma, which is no number."""
    answered = await served.http.get("/api/customers/contoso/jobs?limit=1&limit=2")

    assert (400, "invalid_request") == (answered.status_code, answered.json()["code"])


async def test_a_job_goes_all_the_way(served: Served):
    """Submitted and waited for in one request: through queue, vault and endpoint, to the result."""
    customer = served.world.customer()
    answered = await served.http.post(
        "/api/jobs", json=customer.job(job_id="all-the-way"), headers={"Prefer": "wait=60"}
    )

    assert (200, "succeeded", "wait=60") == (
        answered.status_code,
        answered.json()["status"],
        answered.headers["preference-applied"],
    )
    assert answered.content == (await served.http.get(answered.headers["content-location"])).content


async def test_importing_the_app_loads_no_room_of_the_door():
    """What only HTTP needs is loaded with the first request. Bytecode may be written here, as on Azure."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys, function_app; print(*sys.modules)",
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    loaded = set(said.decode().split())
    rooms = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "shared/http").glob("*.py")
        if path.stem not in {"__init__", "messages", "routes"}
    }

    assert 0 == process.returncode
    assert "shared.http.messages" in loaded
    assert set() == rooms & loaded
