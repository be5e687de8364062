"""The tools for agents in a running app, used by the protocol's own Python client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.http.mcp_messages import STATELESS, WITH_INITIALIZE
from tests.support.endpoint import Endpoint, error
from tests.support.live_server import LiveServer, serve
from tests.support.principals import token
from tests.support.sdks import mcp

if TYPE_CHECKING:
    import mcp_types  # takes as long to import as the rest of the module's tests need

pytestmark = pytest.mark.long  # that package takes two seconds to import; tests/unit/http/test_mcp.py has the messages
MODES = ("auto", "legacy")


@pytest_asyncio.fixture(scope="module")
async def live(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[LiveServer]:
    """An app whose tools are on, behind App Service authentication."""
    settings = {"MCP_ENABLED": "true", "HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
    async with serve(azurite, vault, endpoint, **settings) as running:
        yield running


def structured(result: mcp_types.CallToolResult) -> dict[str, Any]:
    """The structured content."""
    assert result.structured_content is not None
    return result.structured_content


@pytest.mark.parametrize("mode", MODES)
async def test_the_protocols_own_client_runs_a_job(live: LiveServer, mode: Any):
    """
    In both ways to begin: it lists the tools, submits a job and waits, and reads the result again. A failed job and a
    refused one are errors with a code. Another customer's job is not found.
    """
    mine, other = live.harness.customer(), live.harness.customer()
    headers = token("Jobs.Submit", "Jobs.Read", customer=mine.name)
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=90) as http,
        mcp.Client(
            mcp.client.streamable_http.streamable_http_client(f"{live.url}/api/mcp", http_client=http), mode=mode
        ) as client,
    ):
        listed = await client.list_tools()
        job = mine.job(job_id="agents")
        result = await client.call_tool("submit_job", {"job": job, "wait_s": 60})
        again = await client.call_tool("job_result", {"customer": mine.name, "job_id": "agents"})
        mine.account.will_answer(error(400, message="No."))
        failed = await client.call_tool("submit_job", {"job": mine.job(job_id="failed"), "wait_s": 60})
        refused = await client.call_tool("submit_job", {"job": other.job(job_id="theirs")})
        hidden = await client.call_tool("job_result", {"customer": other.name, "job_id": "theirs"})
        version = client.session.protocol_version

    assert (STATELESS if mode == "auto" else WITH_INITIALIZE[0]) == version
    assert ["submit_job", "job_result"] == [tool.name for tool in listed.tools]
    assert ("succeeded", False) == (structured(result)["status"], result.is_error)
    assert structured(result) == structured(again)
    assert ("failed", True) == (structured(failed)["status"], failed.is_error)
    assert structured(failed)["error"]["code"]
    assert ("forbidden", True) == (structured(refused)["error"]["code"], refused.is_error)
    assert ("not_found", True) == (structured(hidden)["error"]["code"], hidden.is_error)
    assert [] == await other.rows()


async def test_a_job_that_is_not_done_in_time_is_followed(live: LiveServer):
    """The status as long as there is no result, and the result once there is one; nothing of the prompt in the log."""
    customer = live.harness.customer()
    headers = token("Jobs.Submit", "Jobs.Read", customer=customer.name)
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=90) as http,
        mcp.Client(
            mcp.client.streamable_http.streamable_http_client(f"{live.url}/api/mcp", http_client=http)
        ) as client,
    ):
        job = customer.job(job_id="slow", input={"prompt": "MARKED-PROMPT"})
        status = await client.call_tool("submit_job", {"job": job})
        async with asyncio.timeout(60):
            result = await client.call_tool("job_result", {"customer": customer.name, "job_id": "slow", "wait_s": 60})

    assert structured(status)["status"] in {"queued", "running"}
    assert "succeeded" == structured(result)["status"]
    assert "MARKED-PROMPT" not in "\n".join(live.lines)
