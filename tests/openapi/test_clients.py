"""Clients that generators make of the OpenAPI document: built without a warning, compiled, and run against the app."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio

from openapi.document import document
from openapi.operations import OPERATIONS
from tests.support import generators
from tests.support.doc_samples import blocks
from tests.support.generators import FOLDER, Client
from tests.support.harness import Customer
from tests.support.live_server import LiveServer

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

LOCAL = "http://127.0.0.1:7071"


def programs(live_server: LiveServer, suffix: str, language: str) -> dict[str, str]:
    """The journey, and the sample on the page, which names the local stack."""
    (sample,) = [block for block in blocks("docs/http.md", language) if LOCAL in block]
    return {"journey": (FOLDER / f"journey{suffix}").read_text(), "sample": sample.replace(LOCAL, live_server.url)}


@pytest_asyncio.fixture(scope="module")
async def python_client(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The client of openapi-python-client."""
    await generators.install()
    return await generators.python_client(tmp_path_factory.mktemp("python"), programs(live_server, ".py", "python"))


@pytest_asyncio.fixture(scope="module")
async def typescript_client(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The client of openapi-typescript and openapi-fetch."""
    await generators.install()
    return await generators.typescript_client(tmp_path_factory.mktemp("ts"), programs(live_server, ".ts", "ts"))


@pytest.fixture(params=["python", "typescript"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the clients."""
    made: Client = request.getfixturevalue(f"{request.param}_client")
    return made


def test_generators_have_no_warning(client: Client):
    """Whatever a generator can't read, it leaves out with a warning."""
    assert "warn" not in client.output.lower()
    assert "unable" not in client.output.lower()


async def test_every_module_of_the_python_client_can_be_imported(python_client: Client):
    """None of them is broken by a name of ours."""
    folder = python_client.folder
    paths = sorted((folder / "customer_ai_jobs_client").rglob("*.py"))
    names = [".".join(path.relative_to(folder).with_suffix("").parts) for path in paths]
    (folder / "imports.py").write_text("\n".join(f"import {name}" for name in names))

    assert len(names) > 50
    assert "" == await python_client.run("imports")


def test_types_of_the_typescript_client_are_open_where_the_api_is(typescript_client: Client):
    """No object that may have members is an empty one, and no type is put together from parts that say nothing."""
    types = (typescript_client.folder / "customer-ai-jobs.d.ts").read_text()
    components = types.partition("export interface components {")[2].partition("\n}\n")[0]

    assert "ChatJob: {" in components
    assert "Record<string, never>" not in components
    assert "(unknown" not in components


def test_the_journeys_use_every_route():
    """A route that is added is a step of both."""
    python, typescript = ((FOLDER / f"journey{suffix}").read_text() for suffix in (".py", ".ts"))

    assert [] == [name for name in OPERATIONS if f"{name}.sync" not in python]
    assert [] == [path for path in document()["paths"] if f'"{path}"' not in typescript]


async def test_the_whole_journey(client: Client, live_server: LiveServer):
    """
    A generated client onboards a customer, submits, waits, reads the result and the usage, and cancels. On its way it
    sends a request to every route.
    """
    customer = live_server.harness.customer(connection=None)
    endpoint = f"{customer.account.base}/openai/v1"
    output = await client.run("journey", f"{live_server.url}/api", customer.name, endpoint, customer.account.key)

    assert {
        "health": "ok",
        "connection": ["gpt-4o", True, ["default"]],
        "result": ["succeeded", "succeeded", "Hello.", 1],
        "tokens": [11, 7],
        "waited": "Hello.",
        "cancelled": "cancelled",
        "usage": [3, ["gpt-4o"]],  # one of them is the test of the connection
        "all_usage": [3],
        "jobs": ["generated-3", "generated-2"],
        "batches": 0,
        "customers": 1,
        "agents": 404,
        "problems": ["not_found", "unauthorized", "unauthorized"],
        "account": ["Contoso", "active", "-5.00", ["adjustment credit-1", "profile", "connection default"]],
        "closed": [0, "not_found"],
        "budgets": ["5", ["calls"], 204],
        "deleted": [304, 204],
        "documents": ["3.1.0", "<!doctype html>", "<!doctype html>"],
    } == json.loads(output)
    assert customer.account.key not in output


async def test_the_sample_of_the_docs(client: Client, live_server: LiveServer):
    """The program on the page, copied as it is, prints what the model answers."""
    harness = live_server.harness
    harness.connect(Customer("contoso", harness.endpoint.account(), harness))

    assert "Hello.\n" == await client.run("sample")
