"""
What both sides of a benchmark run on: Azurite, the Key Vault stand-in with a connection a customer, and
the AI endpoint, each outside the process that is measured.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from azure.data.tables.aio import TableServiceClient

from benchmarks.endpoint import READY
from benchmarks.messages import ENDPOINTS, KEY, MODEL, customer
from local.paths import PROJECT
from local.stack import azurite
from local.stack.processes import running
from local.vault import server as vault

_TABLE = "jobs"
# What a shell may hold that would slow one side down, lead it elsewhere, or bring other code in.
_SURPRISES = ("PYTHON", "AZURE_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "IDENTITY_", "MSI_")


class RunFailed(Exception):
    """A measured process did not do its job. The message has what it said, where that is known."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The running parts, as the environment of a process that is to be measured."""

    environment: Mapping[str, str]


@contextlib.asynccontextmanager
async def open_stage(accounts: int) -> AsyncIterator[Stage]:
    """
    A stage with that many customers, each with an account of its own, until the block ends.

    Raises NotInstalled, ProcessFailed.
    """
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    own = {name: value for name, value in os.environ.items() if not name.upper().startswith(_SURPRISES)}
    command = [sys.executable, "-m", "benchmarks.endpoint", "--accounts", str(accounts)]
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        storage = await parts.enter_async_context(azurite.start())
        keys = await parts.enter_async_context(vault.start(folder))
        endpoint = running("AI endpoint", command, ready=[rf"{READY}(\S+)"], env=own, cwd=PROJECT)
        _, found = await parts.enter_async_context(endpoint)
        urls = [f"http://127.0.0.1:{port}/openai/v1" for port in found[0][1].split(",")]
        for number, url in enumerate(urls):
            members = {"endpoint": url, "provider": "azure_openai", "api_key": KEY, "default_model": MODEL}
            keys.secrets.put(f"ai--{customer(number)}--default", json.dumps(members))
        async with TableServiceClient.from_connection_string(storage.connection_string) as tables:
            await tables.create_table(_TABLE)
        yield Stage(
            {
                **own,
                "AzureWebJobsStorage": storage.connection_string,
                "JobStorage": storage.connection_string,
                "JOBS_TABLE": _TABLE,
                "KEY_VAULT_URL": keys.url,
                "KEY_VAULT_CA_FILE": str(keys.ca_file),
                "ALLOW_LOCAL_ENDPOINTS": "true",
                "IDENTITY_ENDPOINT": keys.identity_endpoint,
                "IDENTITY_HEADER": keys.identity_header,
                ENDPOINTS: ",".join(urls),
            }
        )
