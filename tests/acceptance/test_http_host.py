"""
The HTTP routes on a real Functions host: matched by method and path, guarded, cheap to load, as documented; and abuse
of the open port: large and slow bodies, line breaks, headers, paths, floods.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from local.host.host_json import load_host_json
from shared.contract.documents import API_PREFIX
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.http.routes import ROUTES, Route
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer
from tests.support.live_server import LiveServer
from tests.support.rows import every_row
from tests.support.sampled import Sampled

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/http.md").read_text()
REQUESTS = (ROOT / "test.http").read_text()
MEDIA_TYPES = {"application/problem+json", "application/json", "text/html"}
OPEN = {"health", "openapi", "docs", "console", "receive_webhook", "receive_provider_event"}
BINDINGS = """
import importlib, json, os, sys, function_app
loaded = [*sys.modules]
def bindings():
    functions = function_app.app.get_functions()
    return {each.get_function_name(): json.loads(each.get_function_json()) for each in functions}
with_keys = bindings()
os.environ["HTTP_AUTH"] = "entra"
importlib.reload(function_app)
print(json.dumps([loaded, with_keys, bindings()]))
"""


def path_of(route: Route) -> str:
    """A path that the route matches."""
    names = dict.fromkeys(("connection", "job_id", "name", "statement"), "nothing")
    return f"{API_PREFIX}/{route.path.format(customer='nobody', **names)}"


def headers_of(response: httpx.Response) -> dict[str, str]:
    """The response's headers, without its time."""
    return {name: value for name, value in response.headers.items() if name != "date"}


@functools.cache
def imported_app() -> Any:
    """What importing the app loads; and its functions as the host indexes them, with keys and with Entra."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", BINDINGS]  # bytecode may be written, as on Azure
    return json.loads(
        subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=True).stdout
    )


def http_triggers(functions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The HTTP triggers, by the names of their functions."""
    return {
        name: binding
        for name, function in functions.items()
        for binding in function["bindings"]
        if binding["type"] == "httpTrigger"
    }


def test_each_route_is_a_function_with_its_level():
    """
    The table of routes and the functions that the host indexes are the same. Health, the documentation and webhooks
    need no function key; everything else does. What only HTTP needs is imported with the first request.
    """
    loaded, functions, _ = imported_app()
    triggers = {
        (name, trigger["authLevel"].lower(), *trigger["methods"], trigger["route"])
        for name, trigger in http_triggers(functions).items()
    }
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "shared/http").glob("*.py")
        if path.stem not in {"__init__", "messages", "routes"}
    }

    levels = dict.fromkeys(OPEN, "anonymous")
    assert {("health", "anonymous", "GET", "HEAD", "health")} | {
        (route.name, levels.get(route.name, "function"), *route.methods, route.path) for route in ROUTES
    } == triggers
    assert "shared.http.messages" in loaded
    assert set() == modules & {*loaded}


def test_with_entra_no_route_needs_a_key():
    """App Service authentication is in front of the app, which requires a role."""
    _, with_keys, with_entra = imported_app()
    assert with_keys.keys() == with_entra.keys()
    assert {"anonymous"} == {trigger["authLevel"].lower() for trigger in http_triggers(with_entra).values()}


def test_prefix_is_the_hosts():
    """The paths in documents begin with the prefix in host.json."""
    assert API_PREFIX == f"/{load_host_json(ROOT / 'host.json', {}).route_prefix}"


@every_row("route", ROUTES, ids=lambda route: route.name)
async def test_each_route_is_reached_by_its_methods(live_server: LiveServer, sampled: Sampled, route: Route):
    """
    The app responds to its method and path, with and without a slash at the end. A method that no route of the path has
    is an empty 404, as on Azure; OPTIONS is such a method.
    """
    for path in (path_of(route), f"{path_of(route)}/"):
        response = await live_server.http.request(route.method, path, content=b"{}")
        assert response.status_code < 500
        assert "nosniff" == response.headers["x-content-type-options"]
        assert response.headers["content-type"].partition(";")[0] in MEDIA_TYPES
    same_path = [other for other in ROUTES if path_of(other) == path_of(route)]
    if route is not same_path[0]:
        return
    methods = {method for other in same_path for method in other.methods}
    for method in sampled(sorted({"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD"} - methods), share=3):
        response = await live_server.http.request(method, path_of(route))
        assert (404, b"") == (response.status_code, response.content), method


async def test_head_is_get_without_the_body(live_server: LiveServer, sampled: Sampled):
    """
    A probe's HEAD gets the status and headers that GET gets, and no body: of health, the documentation, documents with
    an ETag, and errors. `If-None-Match` works with it.
    """
    customer = live_server.harness.customer()
    await live_server.http.post("/api/jobs", json=customer.job(job_id="head"), headers={"Prefer": "wait=60"})
    paths = ["/api/health", *(path_of(route) for route in ROUTES if route.method == "GET")]
    job = f"/api/jobs/{customer.name}/head"
    for path in (*sampled(paths), job, f"{job}/result"):
        get, head = [await live_server.http.request(method, path) for method in ("GET", "HEAD")]
        assert (get.status_code, b"") == (head.status_code, head.content), path
        assert headers_of(get) == headers_of(head), path
        if etag := get.headers.get("etag"):
            unchanged = await live_server.http.head(path, headers={"If-None-Match": etag})
            assert 304 == unchanged.status_code, path


async def test_repeated_headers_and_parameters_are_joined_with_commas(live_server: LiveServer):
    """Tags in two headers count like tags in one: 304 for either. Two numbers joined are not a number: 400."""
    tag = (await live_server.http.get("/api/openapi.json")).headers["etag"]
    headers = [("If-None-Match", '"other"'), ("if-none-match", tag)]
    response = await live_server.http.get("/api/openapi.json", headers=headers)
    refused = await live_server.http.get("/api/customers/contoso/jobs?limit=1&limit=2")

    assert (304, b"") == (response.status_code, response.content)
    assert (400, "invalid_request") == (refused.status_code, refused.json()["code"])


async def test_a_job_runs_from_request_to_result(live_server: LiveServer):
    """One request submits it and waits for it: through queue, vault and endpoint to the result."""
    customer = live_server.harness.customer()
    response = await live_server.http.post(
        "/api/jobs", json=customer.job(job_id="whole-way"), headers={"Prefer": "wait=60"}
    )

    assert (200, "succeeded", "wait=60") == (
        response.status_code,
        response.json()["status"],
        response.headers["preference-applied"],
    )
    assert response.content == (await live_server.http.get(response.headers["content-location"])).content


@pytest.mark.long
async def test_the_docs_command_runs_the_retention_sweep(live_server: LiveServer):
    """The command on the page, with the local host's URL, runs the app's own sweep."""
    (line,) = re.findall(r"^curl .*/admin/.*$", (ROOT / "docs/retention.md").read_text(), re.MULTILINE)
    words = shlex.split(line)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    url = words[words.index("POST") + 1].replace("https://APP.azurewebsites.net", live_server.url)

    response = await live_server.http.post(url, headers=headers, content=words[words.index("-d") + 1])

    assert 202 == response.status_code
    async with asyncio.timeout(60):
        while not any("sweep_finished complete" in line for line in live_server.lines):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # it is printed by another process


@pytest.fixture
def documented(live_server: LiveServer, endpoint: Endpoint) -> LiveServer:
    """The live server, with the customer that the pages name."""
    customer = Customer("contoso", endpoint.account(), live_server.harness)
    live_server.harness.connect(customer, default_model="gpt-5.5")
    return live_server


async def test_every_sample_request_has_the_status_in_its_title(documented: LiveServer):
    """Sent from top to bottom, as a person would."""
    titles = {}
    for block in re.split(r"^### ", REQUESTS, flags=re.MULTILINE)[1:]:
        title, _, rest = block.partition("\n")
        head, _, body = rest.partition("\n\n")
        first, *headers = head.replace("{{host}}", "").replace("{{key}}", "none").splitlines()
        method, path = first.split(" ")
        named = dict(line.split(": ", 1) for line in headers)
        response = await documented.http.request(method, path, headers=named, content=body.strip() or None)
        titles[title] = f"{title.rpartition(': ')[0]}: {response.status_code}"

    assert len(titles) > len(ROUTES)
    assert list(titles) == list(titles.values())


def blocks() -> list[tuple[str, str]]:
    """The page's blocks in their order: curl commands and responses."""
    return re.findall(r"^```(bash|http)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def send(app: LiveServer, command: str) -> httpx.Response:
    """The response to a curl command."""
    words = iter(shlex.split(command.replace("$APP", "").replace("$KEY", "any"))[1:])
    method, path, body = "", "", None
    headers: dict[str, str] = {}
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        else:
            path = word
    return await app.http.request(method or ("POST" if body else "GET"), path, headers=headers, content=body)


async def test_every_command_has_the_response_on_the_page(documented: LiveServer):
    """
    The response after a command on the page has the status, headers, members and values of the real one. Where the
    page shows none, waiting returns the result, and listing a page.
    """
    changing = {"submitted_at", "started_at", "finished_at", "ETag"}
    responses: dict[str, httpx.Response] = {}
    compared = 0
    for (kind, block), (next_kind, _) in pairwise([*blocks(), ("", "")]):
        if kind == "bash":
            responses[block] = response = await send(documented, block)
            assert next_kind == "http" or response.is_success
            continue
        compared += 1
        head, _, body = block.partition("\n\n")
        first, *lines = head.splitlines()
        assert int(first.split()[1]) == response.status_code
        for name, value in (line.split(": ", 1) for line in lines):
            assert name in changing or response.headers[name].startswith(value)
        shown, received = json.loads(body), response.json()
        assert list(shown) == list(received)
        assert [value for name, value in shown.items() if name not in changing] == [
            value for name, value in received.items() if name not in changing
        ]
    (waited,) = [response.json() for command, response in responses.items() if "Prefer" in command]
    (result,) = [response.json() for command, response in responses.items() if "/result" in command]
    (page,) = [response.json() for command, response in responses.items() if "/jobs?" in command]
    (customers,) = [response.json() for command, response in responses.items() if "/customers?" in command]

    assert 3 == compared
    assert ("succeeded", waited) == (waited["status"], result)
    assert "order-4711.thanks" in {job["job_id"] for job in page["jobs"]}
    assert {"customer"} == set().union(*customers["customers"])


@pytest.fixture
def customer(live_server: LiveServer) -> Customer:
    """A customer of one test, on the live server."""
    return live_server.harness.customer()


async def raw(live_server: LiveServer, text: bytes) -> bytes:
    """The host's response to exactly these bytes, which end the connection."""
    parts = urlsplit(live_server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(text)
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def status(response: bytes) -> int:
    """The status of a response as bytes."""
    return int(response.split(b" ", 2)[1])


async def alive(live_server: LiveServer) -> bool:
    """Whether the app still responds, to anybody."""
    response = await live_server.http.get("/api/health")
    return (200, {"status": "ok"}) == (response.status_code, response.json())


async def test_too_large_a_body_is_refused(live_server: LiveServer, sampled: Sampled):
    """Above the limit, and far above it: 413, and the app keeps responding."""
    for size in sampled((MAX_BODY_BYTES + 1, 2 * MAX_BODY_BYTES), share=2):
        response = await live_server.http.post("/api/jobs", content=b" " * size)
        assert (413, "too_large") == (response.status_code, response.json()["code"])
    assert await alive(live_server)


@every_row("inner", [b'{"a":', b"["], ids=["objects", "lists"])
@every_row(
    "shell",
    [
        b'{"customer": "contoso", "action": "chat", "input": {"prompt": "a", "parameters": {"a": %s}}}',
        b'{"customer": "contoso", "action": "raw", "input": {"path": "a", "json": %s}}',
        b'{"customer": "contoso", "action": "chat", "input": {"prompt": "a"}, "metadata": {"a": %s}}',
        b"%s",
    ],
    ids=["parameters", "json", "metadata", "body"],
)
@every_row("depth", [900, 200_000])
async def test_too_deep_a_body_is_refused(
    live_server: LiveServer, sampled: Sampled, shell: bytes, inner: bytes, depth: int
):
    """A body that is nested too deeply, complete or not, is the caller's error and costs next to nothing."""
    close = b"}" if inner.startswith(b"{") else b"]"
    for body in sampled((inner * depth, inner * depth + b"1" + close * depth), share=2):
        began = time.monotonic()
        response = await live_server.http.post("/api/jobs", content=shell % body)
        assert response.status_code in {202, 400}, response.text
        assert depth < 1000 or response.status_code == 400
        assert time.monotonic() - began < 20


async def test_slow_bodies_do_not_delay_others(live_server: LiveServer):
    """While fifty bodies never end, other requests get their responses."""
    parts = urlsplit(live_server.url)
    head = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    opened = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(50)]
    for _, writer in opened:
        writer.write(head)
        await writer.drain()

    async with asyncio.timeout(20):
        assert await alive(live_server)
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()


LINES = ["a\r\nSet-Cookie: x=y", "a\nb", "a\r\n\r\n<html>", "\u2028", "a%0d%0aSet-Cookie:%20x=y", "a\x00b"]


@pytest.mark.parametrize("member", ["job_id", "customer", "connection", "model", "metadata"])
async def test_a_jobs_members_make_no_header(
    live_server: LiveServer, customer: Customer, sampled: Sampled, member: str
):
    """A line break in a job is refused, or comes back within JSON: it never makes a header or line of a response."""
    for text in sampled(LINES, share=3):
        value = {text: text} if member == "metadata" else text
        response = await live_server.http.post("/api/jobs", json=customer.job(**{member: value}))

        assert response.status_code in {202, 400}
        assert response.status_code == 202 or member in response.json()["detail"]
        assert "set-cookie" not in response.headers
        location = response.headers.get("location", "")
        assert re.fullmatch(r"(/api/jobs/[a-z0-9-]+/[A-Za-z0-9._-]+)?", location)


JSON = b"Content-Type: application/json\r\n"


@every_row("name", ["Prefer", "If-None-Match", "Accept", "webhook-id", "x-ms-client-principal"])
@every_row("value", ["\x01", "\x7f", "é", "a" * 7000, ",", ";;;=,=", 'wait="', "wait=" + "9" * 5000])
async def test_odd_headers_do_no_harm(live_server: LiveServer, sampled: Sampled, name: str, value: str):
    """Whatever a header contains, there is a response, and it repeats nothing of the header."""
    head = f"{name}: {value}\r\nHost: x\r\nConnection: close\r\n".encode("latin-1")
    job = b'{"customer": "No Customer"}'
    rest = b"%sContent-Length: %d\r\n\r\n%s" % (JSON, len(job), job)
    requests = (
        (b"GET /api/jobs/contoso/nothing", b"\r\n", range(200, 500)),
        (b"GET /api/customers/contoso/usage", b"\r\n", range(200, 500)),
        (b"POST /api/jobs", rest, range(400, 401)),
    )
    for line, after, expected in sampled(requests, share=3):
        answer = await raw(live_server, b"%s HTTP/1.1\r\n%s%s" % (line, head, after))
        assert status(answer) in expected
        assert len(value) < 3 or value.encode("latin-1") not in answer


WORST = ("..", "%2e%2e", "a%2Fb", "%00", "x" * 5000)
"""Of each kind one: a step up, one that is encoded, a slash, a byte that ends a text elsewhere, and a long id."""
TRICKS = [
    *("..", ".", "%2e%2e", "%2E%2E%2F%2E%2E", "..%2f..%2fadmin", "a%2Fb", "a%5Cb", "a\\b", "%00", "a%00b", "%0d%0aX:y"),
    *("%25%32%65", "%c0%af", "%ff", "%u002e", "a;b=c", "a'b", "a%22b", "a%20b", "*", "~", "%", "%zz", "x" * 5000),
    *("'%20or%201%20eq%201", "PartitionKey", "t_98204803079999_a", "j_secret", "ü", "\u202e", "__proto__", "CON"),
]


PARAMETERS = [
    (route, parameter)
    for parameter in ("customer", "job_id", "name", "statement")
    for route in ROUTES
    if route.role is not None and f"{{{parameter}}}" in route.path
]


@every_row("trick", TRICKS, ids=range(len(TRICKS)))
async def test_invalid_ids_in_paths_find_nothing(
    live_server: LiveServer, customer: Customer, sampled: Sampled, trick: str
):
    """
    An invalid id is never found, as customer, job or connection, in any route: below 500, and never 200. The worst
    ones are sent to every route, the others to a quarter of them each.

    Bytes that make no request are refused by the host before anything of ours.
    """
    every, first = (1, 0) if trick in WORST else (4, TRICKS.index(trick) % 4)
    for route, parameter in sampled(PARAMETERS[first::every], share=4):
        values = dict.fromkeys(("connection", "job_id", "name", "statement"), "nothing")
        values |= {"customer": customer.name, parameter: trick}
        line = f"{route.method} /api/{route.path.format(**values)} HTTP/1.1\r\n".encode()
        answer = await raw(live_server, line + b"Host: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        assert 400 <= status(answer) < 500, (route.name, parameter, answer[:300])
        assert b"X: y" not in answer.partition(b"\r\n\r\n")[0]
    assert trick != TRICKS[-1] or [] == await customer.rows()


@pytest.mark.long
async def test_a_hundred_requests_at_once(live_server: LiveServer, customer: Customer, sampled: Sampled):
    """
    Each of more than a hundred concurrent requests, or of a third as many, gets its response, and the job in many of
    them runs once.
    """
    reads = len([*sampled(range(21), share=3)])
    jobs = [customer.job(job_id="same" if number % 10 else f"own-{number}") for number in range(3 * reads)]
    limits = asyncio.Semaphore(100)  # of sockets at this end

    async def send(method: str, path: str, **content: Any) -> int:
        async with limits:
            return (await live_server.http.request(method, path, **content)).status_code

    statuses = await asyncio.gather(
        *(send("POST", "/api/jobs", json=job) for job in jobs),
        *(send("GET", f"/api/jobs/{customer.name}/nothing") for _ in range(reads)),
        *(send("GET", f"/api/customers/{customer.name}/jobs") for _ in range(reads)),
        *(send("POST", "/api/jobs", content=b"{") for _ in range(reads)),
    )
    waited = await live_server.http.post("/api/jobs", json=customer.job(job_id="same"), headers={"Prefer": "wait=60"})

    assert [202] * len(jobs) + [404] * reads + [200] * reads + [400] * reads == statuses
    assert (200, "succeeded") == (waited.status_code, waited.json()["status"])
    own = [f"/api/jobs/{customer.name}/own-{number}/result" for number in range(0, len(jobs), 10)]
    async with asyncio.timeout(60):
        for path in own:
            while (await live_server.http.get(path)).status_code != 200:  # noqa: ASYNC110  # it is another process
                await asyncio.sleep(0.05)
    assert len(own) + 1 == len(customer.account.received)


@every_row("route", [route for route in ROUTES if route.role], ids=lambda route: route.name)
async def test_errors_do_not_repeat_what_was_sent(live_server: LiveServer, route: Any):
    """An error quotes nothing of body, headers and query: a key that was sent by mistake does not come back."""
    secret = "sk-secret-0123456789"
    values = {"customer": "No Customer", "job_id": "..", "name": "No Name", "statement": "No Month"}
    path = f"/api/{route.path.format(**values)}"
    body = json.dumps({"api_key": secret, "endpoint": f"https://x.test/{secret}", "input": secret})
    response = await live_server.http.request(
        route.method, path, content=body, headers={"x-api-key": secret}, params={"limit": secret}
    )

    assert 400 <= response.status_code < 500
    assert secret not in response.text
