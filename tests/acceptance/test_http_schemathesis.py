"""
Requests made from the OpenAPI document, sent to the running app: no 5xx, and no undocumented response.

Schemathesis makes them: the examples, values on both sides of each limit, random ones, and chains along the links.
They are the same in every run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault import server as vaults
from local.vault.server import Vault
from shared.http.routes import ROUTES
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer
from tests.support.live_server import LiveServer, serve

EXCLUDED_CHECKS = (
    "ignored_auth",  # the local host needs no key; test_http_host checks the levels
    "unsupported_method",  # Azure's host responds 404 if a path has another method
    "use_after_free",  # DELETE of a job cancels it: its status can still be read
    "positive_data_acceptance",  # no schema knows which blobs exist, or which queues are allowed
)


@pytest_asyncio.fixture(scope="module")
async def app(
    azurite: Azurite,
    vault: Vault,  # noqa: ARG001  # sets the managed identity in the environment
    endpoint: Endpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[LiveServer]:
    """An app with a vault of its own, whose connections can only reach the tests' endpoint."""
    async with (
        vaults.start(tmp_path_factory.mktemp("vault")) as own,
        serve(azurite, own, endpoint, ALLOWED_ENDPOINT_SUFFIXES="endpoints.invalid", MCP_ENABLED="true") as running,
    ):
        running.harness.connect(Customer("contoso", endpoint.account(), running.harness))
        yield running


@pytest.mark.long
@pytest.mark.timeout(600)  # thousands of requests: a minute on a quiet machine
async def test_every_response_is_documented(app: LiveServer, tmp_path: Path):
    """Statuses, media types, headers and bodies are as documented, and malformed requests are refused."""
    # Signing secrets are read a limited number of times a second, beyond which 503 is right; and no request may wait
    # for long.
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-name = "POST /webhooks/{customer}"\nparameters = { customer = "contoso" }\n'
        '[[operations]]\ninclude-name = "POST /provider-events/{customer}/{connection}"\n'
        'parameters = { customer = "contoso", connection = "default" }\n'
        '[[operations]]\ninclude-name = "POST /jobs"\nparameters = { Prefer = "wait=2" }\n'
    )
    command = (
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{app.url}/api/openapi.json"),
        *("--generation-deterministic", "--max-examples", "10", "--continue-on-failure"),
        *("--exclude-checks", ",".join(EXCLUDED_CHECKS), "--request-timeout", "60", "--no-color"),
        *("--phases", "examples,coverage,fuzzing,stateful"),
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    report = output.decode()

    assert 0 == process.returncode, "\n".join([report, *app.lines[-40:]])
    # All routes with health, and without the document itself.
    assert f"Tested: {len(ROUTES)}" in report
