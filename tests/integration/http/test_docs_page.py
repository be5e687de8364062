"""What docs/http.md and test.http show works: each request is sent to the running app, each limit held to the code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from openapi.document import document
from shared.connections import probe, secret_cache
from shared.contract import job as jobs
from shared.contract.decoding import MAX_CONTAINERS
from shared.contract.documents import API_PREFIX
from shared.contract.names import is_job_id, is_name
from shared.http import connections, webhooks
from shared.http import jobs as door
from shared.http import request_parsing as reading
from shared.http.routes import ROUTES
from shared.jobs.queries import MAX_READ
from shared.webhooks import delivery as callbacks
from shared.webhooks import signing
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer
from tests.support.live_server import LiveServer, serve

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/http.md").read_text()
CLICKS = (ROOT / "test.http").read_text()


@pytest_asyncio.fixture(scope="module")
async def app(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[LiveServer]:
    """A fresh app with the customer that the pages name."""
    async with serve(azurite, vault, endpoint) as running:
        running.world.connect(Customer("contoso", endpoint.account(), running.world))
        yield running


def test_routes_are_those_of_the_hosts_sample():
    """Each route has a request to click; so has health."""
    clicked = {
        (method, path.partition("?")[0])
        for method, path in re.findall(r"^([A-Z]+) \{\{host\}\}(\S+)", CLICKS, re.MULTILINE)
    }
    patterns = {
        (route.method, re.compile(f"{API_PREFIX}/{re.sub(r'{[a-z_]+}', '[a-z0-9.-]+', route.path)}"))
        for route in ROUTES
    }
    found = {
        path for method, path in clicked for told, pattern in patterns if method == told and pattern.fullmatch(path)
    }

    assert [] == [
        pattern.pattern
        for told, pattern in patterns
        if not any(method == told and pattern.fullmatch(path) for method, path in clicked)
    ]
    assert {path for _, path in clicked} == found | {f"{API_PREFIX}/health"}


async def test_every_request_to_click_answers_as_it_says(app: LiveServer):
    """From top to bottom, as a person clicks them, with the status in each title."""
    said = {}
    for block in re.split(r"^### ", CLICKS, flags=re.MULTILINE)[1:]:
        title, _, rest = block.partition("\n")
        head, _, body = rest.partition("\n\n")
        first, *headers = head.replace("{{host}}", "").replace("{{key}}", "none").splitlines()
        method, path = first.split(" ")
        named = dict(line.split(": ", 1) for line in headers)
        answered = await app.http.request(method, path, headers=named, content=body.strip() or None)
        said[title] = f"{title.rpartition(': ')[0]}: {answered.status_code}"

    assert len(said) > len(ROUTES)
    assert list(said) == list(said.values())


def shown() -> list[tuple[str, str]]:
    """The page's blocks in their order: curl commands, and answers."""
    return re.findall(r"^```(bash|http)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def send(app: LiveServer, command: str) -> httpx.Response:
    """Does what a curl command says."""
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


async def test_every_command_of_the_page_gets_its_answer(app: LiveServer):
    """Each answer that stands after a command has the status, headers, members and values of the one that comes."""
    changing = {"submitted_at", "started_at", "finished_at", "ETag"}
    answered: httpx.Response | None = None
    compared = 0
    for kind, block in shown():
        if kind == "bash":
            answered = await send(app, block)
            continue
        assert answered is not None
        compared += 1
        head, _, body = block.partition("\n\n")
        first, *lines = head.splitlines()
        assert int(first.split()[1]) == answered.status_code
        for name, value in (line.split(": ", 1) for line in lines):
            assert name in changing or answered.headers[name].startswith(value)
        told, came = json.loads(body), answered.json()
        assert {name: value for name, value in told.items() if name not in changing} == {
            name: value for name, value in came.items() if name not in changing
        }
        assert list(told) == list(came)

    assert 3 == compared


async def test_commands_without_an_answer_succeed(app: LiveServer):
    """Waiting gives the result, a list its page."""
    commands = [block for kind, block in shown() if kind == "bash"]
    (waiting,) = [one for one in commands if "Prefer" in one]
    result = await send(app, waiting)
    again = [await send(app, one) for one in commands if "/result" in one or "limit=" in one]

    assert (200, "succeeded") == (result.status_code, result.json()["status"])
    assert [200, 200] == [one.status_code for one in again]
    assert result.json() == again[0].json()
    assert "order-4711.thanks" in {job["job_id"] for job in again[1].json()["jobs"]}


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    part = PAGE.partition(f"{heading}\n")[2]
    table = re.search(r"^\|.*?(?:\n\n|\Z)", part, re.MULTILINE | re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table[0].strip().splitlines()[2:]]


def most(good: Any) -> int:
    """The greatest length of a text of a's that is taken."""
    return max(length for length in range(200) if good("a" * length))


def limit_of(kind: Any) -> int:
    """The greatest length of a text of that type."""
    length: int = msgspec.json.schema(kind)["maxLength"]
    return length


def test_limits_are_the_codes():
    """Each row of the table of limits and defaults has the number of the constant that sets it."""
    tries = len(callbacks.RETRY_DELAYS_S) + 1
    limits = {
        "a job, or a webhook's event, as a request's body": f"{reading.MAX_BODY_BYTES:,} bytes",
        "lists and objects in a body, or in the blob with a job's input": f"{MAX_CONTAINERS:,}",
        "a customer's webhook template": f"{webhooks.MAX_TEMPLATE_BYTES:,} bytes",
        "a connection, as a request's body": f"{connections.MAX_SECRET_BYTES:,} bytes",
        "a customer's id, a connection's name": f"{most(is_name)} characters",
        "a job's id": f"{most(is_job_id)} characters",
        "a job's `metadata`": f"{jobs.METADATA_LIMIT:,} bytes",
        "a callback's URL": f"{limit_of(jobs.CallbackUrl):,} characters",
        "`Prefer: wait`": f"up to {reading.MAX_WAIT_S:g} s",
        "`Retry-After` of a job that is not done": f"{door.RETRY_AFTER_S} s",
        "`limit` of a list": f"{listed()['default']}, up to {door.MAX_PAGE_SIZE}",
        "jobs that one page of a list looks at for a `status`": f"{MAX_READ:,}",
        "a webhook's timestamp": "within 300 s of now",
        "reading of signing secrets, a worker": f"{signing.READS_A_SECOND} a second for customers that are known, "
        f"{signing.READS_A_SECOND} for all other names; beyond it 503",
        "how long a signing secret is kept": f"{secret_cache.FRESH_S:g} s; "
        f"{secret_cache.STALE_S:,.0f} s while the vault is down",
        "a callback's answer": f"within {callbacks.TIMEOUT_S:g} s",
        "tries of a callback": f"{tries}, over {sum(callbacks.RETRY_DELAYS_S) / 3600:.1f} hours",
        "the test of a connection": f"{probe.PROBE_TIMEOUT_S:g} s",
        "a request's answer, by Azure": "within 230 s",
    }

    assert limits == dict(rows("## Limits and defaults"))


def listed() -> dict[str, Any]:
    """What the OpenAPI document tells of a list's `limit`."""
    operation = document()["paths"]["/customers/{customer}/jobs"]["get"]
    (limit,) = [one["schema"] for one in operation["parameters"] if one["name"] == "limit"]
    return limit


async def test_default_of_a_list_is_the_documented_one(app: LiveServer):
    """Without a limit, a page has as many jobs as the document says."""
    customer = app.world.customer()
    for number in range(listed()["default"] + 1):
        await customer.run(job_id=f"n{number}")
    page = (await app.http.get(f"/api/customers/{customer.name}/jobs")).json()

    assert listed()["default"] == len(page["jobs"])
    assert "continuation" in page


def test_roles_are_the_routes():
    """The table of roles has each role that a route asks for."""
    assert {route.role for route in ROUTES if route.role} == {row[0].strip("`") for row in rows("### Entra")}


def test_error_statuses_are_those_of_the_document():
    """The table of errors has each status of the OpenAPI document, and each of its codes."""
    told: dict[str, set[str]] = {}
    for methods in document()["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    codes = re.findall(r"`([a-z_]+)`:", answer["description"])
                    told.setdefault(status, set()).update(codes)

    assert told == {status: set(re.findall(r"`(\w+)`", codes)) for status, codes, _ in rows("## Errors")}
