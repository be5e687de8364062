"""
The environment of both sides of a benchmark: Azurite, the local Key Vault with a connection for each customer, and the
AI endpoint, all outside the measured process.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import trustme
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from benchmarks.endpoint import DELAY_S, READY
from benchmarks.messages import ENDPOINTS, KEY, MODEL, customer
from local.paths import PROJECT
from local.stack import azurite
from local.stack.processes import running
from local.vault import server as vault_server

JOBS_QUEUE, RESULTS_QUEUE, BATCHES_QUEUE = "jobs", "results", "batches"
_TABLE, _STATEMENTS = "jobs", "statements"
_AUTHORITY = "endpoint-ca.pem"
# Variables that would slow one side down, redirect it, or import other code.
_DROPPED_PREFIXES = ("PYTHON", "AZURE_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "IDENTITY_", "MSI_")


class RunFailed(Exception):
    """A measured process failed. The message has its output, if that is known."""


@contextlib.asynccontextmanager
async def open_environment(
    accounts: int,
    *,
    delay_s: float = DELAY_S,
    tls: bool = False,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Mapping[str, str]]:
    """
    The environment variables of a measured process, with `accounts` customers, each with its own account. Its endpoint
    responds after `delay_s`, over TLS if so asked. `secrets` are further connections. The parts run
    until the block ends.

    Raises NotInstalled, ProcessFailed.
    """
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    own = {name: value for name, value in os.environ.items() if not name.upper().startswith(_DROPPED_PREFIXES)}
    command = [sys.executable, "-m", "benchmarks.endpoint", "--accounts", str(accounts), "--delay", str(delay_s)]
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        if tls:
            command += ["--certificate", str(_issue_certificate(folder))]
            own["SSL_CERT_FILE"] = str(folder / _AUTHORITY)
        storage = await parts.enter_async_context(azurite.start())
        vault = await parts.enter_async_context(vault_server.start(folder))
        endpoint = running("AI endpoint", command, ready=[rf"{READY}(\S+)"], env=own, cwd=PROJECT)
        _, matches = await parts.enter_async_context(endpoint)
        urls = [f"{'https' if tls else 'http'}://127.0.0.1:{port}/openai/v1" for port in matches[0][1].split(",")]
        for number, url in enumerate(urls):
            members = {"endpoint": url, "provider": "azure_openai", "api_key": KEY, "default_model": MODEL}
            vault.secrets.put(f"ai--{customer(number)}--default", json.dumps(members))
        for name, connection in (secrets or {}).items():
            vault.secrets.put(name, json.dumps(connection))
        async with QueueServiceClient.from_connection_string(storage.connection_string) as queues:
            for name in (JOBS_QUEUE, RESULTS_QUEUE, BATCHES_QUEUE):
                await queues.create_queue(name)
        async with BlobServiceClient.from_connection_string(storage.connection_string) as blobs:
            await blobs.create_container(_STATEMENTS)
        async with TableServiceClient.from_connection_string(storage.connection_string) as tables:
            await tables.create_table(_TABLE)
        yield {
            **own,
            "AzureWebJobsStorage": storage.connection_string,
            "JobStorage": storage.connection_string,
            "JOBS_TABLE": _TABLE,
            "KEY_VAULT_URL": vault.url,
            "KEY_VAULT_CA_FILE": str(vault.ca_file),
            "ALLOW_LOCAL_ENDPOINTS": "true",
            "IDENTITY_ENDPOINT": vault.identity_endpoint,
            "IDENTITY_HEADER": vault.identity_header,
            ENDPOINTS: ",".join(urls),
        }


def _issue_certificate(folder: Path) -> Path:
    """A file with a key and a certificate for loopback; its authority's is written beside it."""
    authority = trustme.CA(organization_name="Customer AI Jobs, benchmarks")
    authority.cert_pem.write_to_path(str(folder / _AUTHORITY))
    file = folder / "endpoint.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file
