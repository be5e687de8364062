"""Abuse of an open port: large and slow bodies, line breaks, headers, paths, floods."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.http.request_parsing import MAX_BODY_BYTES
from shared.http.routes import ROUTES
from tests.support.harness import Customer
from tests.support.live_server import LiveServer


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


async def test_too_large_a_body_is_refused(live_server: LiveServer):
    """Above the limit, and far above it: 413, and the app keeps responding."""
    for size in (MAX_BODY_BYTES + 1, 2 * MAX_BODY_BYTES):
        response = await live_server.http.post("/api/jobs", content=b" " * size)
        assert (413, "too_large") == (response.status_code, response.json()["code"])
    assert await alive(live_server)


@pytest.mark.parametrize("inner", [b'{"a":', b"["], ids=["objects", "lists"])
@pytest.mark.parametrize(
    "shell",
    [
        b'{"customer": "contoso", "action": "chat", "input": {"prompt": "a", "parameters": {"a": %s}}}',
        b'{"customer": "contoso", "action": "raw", "input": {"path": "a", "json": %s}}',
        b'{"customer": "contoso", "action": "chat", "input": {"prompt": "a"}, "metadata": {"a": %s}}',
        b"%s",
    ],
    ids=["parameters", "json", "metadata", "body"],
)
@pytest.mark.parametrize("depth", [900, 200_000])
async def test_too_deep_a_body_is_refused(live_server: LiveServer, shell: bytes, inner: bytes, depth: int):
    """A body that is nested too deeply, complete or not, is the caller's error and costs next to nothing."""
    close = b"}" if inner.startswith(b"{") else b"]"
    for body in (inner * depth, inner * depth + b"1" + close * depth):
        began = time.monotonic()
        response = await live_server.http.post("/api/jobs", content=shell % body)
        assert response.status_code in {202, 400}, response.text
        assert depth < 1000 or response.status_code == 400
        assert time.monotonic() - began < 20
    assert await alive(live_server)


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
async def test_a_jobs_members_make_no_header(live_server: LiveServer, customer: Customer, member: str):
    """A line break in a job is refused, or comes back within JSON: it never makes a header or line of a response."""
    for text in LINES:
        value = {text: text} if member == "metadata" else text
        response = await live_server.http.post("/api/jobs", json=customer.job(**{member: value}))

        assert response.status_code in {202, 400}
        assert response.status_code == 202 or member in response.json()["detail"]
        assert "set-cookie" not in response.headers
        location = response.headers.get("location", "")
        assert re.fullmatch(r"(/api/jobs/[a-z0-9-]+/[A-Za-z0-9._-]+)?", location)


JSON = b"Content-Type: application/json\r\n"


@pytest.mark.parametrize("name", ["Prefer", "If-None-Match", "Accept", "webhook-id", "x-ms-client-principal"])
@pytest.mark.parametrize("value", ["\x01", "\x7f", "é", "a" * 7000, ",", ";;;=,=", 'wait="', "wait=" + "9" * 5000])
async def test_odd_headers_do_no_harm(live_server: LiveServer, name: str, value: str):
    """Whatever a header contains, there is a response, and it repeats nothing of the header."""
    head = f"{name}: {value}\r\nHost: x\r\nConnection: close\r\n".encode("latin-1")
    for line in (b"GET /api/jobs/contoso/nothing", b"GET /api/customers/contoso/usage"):
        answer = await raw(live_server, b"%s HTTP/1.1\r\n%s\r\n" % (line, head))
        assert status(answer) < 500
        assert len(value) < 3 or value.encode("latin-1") not in answer
    job = b'{"customer": "No Customer"}'
    posted = b"POST /api/jobs HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (head, JSON, len(job), job)
    assert 400 == status(await raw(live_server, posted))


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


@pytest.mark.parametrize("trick", TRICKS, ids=range(len(TRICKS)))
async def test_invalid_ids_in_paths_find_nothing(live_server: LiveServer, customer: Customer, trick: str):
    """
    An invalid id is never found, as customer, job or connection, in any route: below 500, and never 200. The worst
    ones are sent to every route, the others to a quarter of them each.

    Bytes that make no request are refused by the host before anything of ours.
    """
    every, first = (1, 0) if trick in WORST else (4, TRICKS.index(trick) % 4)
    for route, parameter in PARAMETERS[first::every]:
        values = dict.fromkeys(("connection", "job_id", "name", "statement"), "nothing")
        values |= {"customer": customer.name, parameter: trick}
        line = f"{route.method} /api/{route.path.format(**values)} HTTP/1.1\r\n".encode()
        answer = await raw(live_server, line + b"Host: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        assert 400 <= status(answer) < 500, (route.name, parameter, answer[:300])
        assert b"X: y" not in answer.partition(b"\r\n\r\n")[0]
    assert [] == await customer.rows()


async def test_a_hundred_requests_at_once(live_server: LiveServer, customer: Customer):
    """Each of more than a hundred concurrent requests gets its response, and the job in many of them runs once."""
    jobs = [customer.job(job_id="same" if number % 10 else f"own-{number}") for number in range(60)]
    limits = asyncio.Semaphore(100)  # of sockets at this end

    async def send(method: str, path: str, **content: Any) -> int:
        async with limits:
            return (await live_server.http.request(method, path, **content)).status_code

    statuses = await asyncio.gather(
        *(send("POST", "/api/jobs", json=job) for job in jobs),
        *(send("GET", f"/api/jobs/{customer.name}/nothing") for _ in range(20)),
        *(send("GET", f"/api/customers/{customer.name}/jobs") for _ in range(20)),
        *(send("POST", "/api/jobs", content=b"{") for _ in range(20)),
    )
    waited = await live_server.http.post("/api/jobs", json=customer.job(job_id="same"), headers={"Prefer": "wait=60"})

    assert [202] * 60 + [404] * 20 + [200] * 20 + [400] * 20 == statuses
    assert (200, "succeeded") == (waited.status_code, waited.json()["status"])
    own = [f"/api/jobs/{customer.name}/own-{number}/result" for number in range(0, 60, 10)]
    async with asyncio.timeout(60):
        for path in own:
            while (await live_server.http.get(path)).status_code != 200:  # noqa: ASYNC110  # it is another process
                await asyncio.sleep(0.05)
    assert len(own) + 1 == len(customer.account.received)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.role], ids=lambda route: route.name)
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
