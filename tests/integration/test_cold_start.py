"""What the first job of a fresh process loads, with the vault, the managed identity and Storage."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.support.harness import Harness

SCRIPT = """
import asyncio, json, sys, uuid
from datetime import UTC, datetime
import function_app
from shared.jobs.message import Delivery
from shared.services import services

async def main():
    parts = services()
    assert parts.http
    result = await parts.worker.process(Delivery(sys.argv[1].encode(), str(uuid.uuid4()), datetime.now(UTC)))
    await parts.close()
    print(json.dumps({"status": json.loads(result)["status"], "loaded": list(sys.modules)}))

asyncio.run(main())
"""
ONLY_IF_SOMETHING_GOES_WRONG = {
    *("aiohttp", "azure.core", "azure.data", "azure.identity", "azure.keyvault", "azure.storage"),
    *("cryptography", "msal", "requests", "shared.connections.vault_sdk", "shared.storage.sdk_blobs"),
    *("httpx", "yarl"),
}
ONLY_WITH_TELEMETRY = {
    *("azure.monitor", "opentelemetry"),
    *("shared.telemetry.opentelemetry", "shared.telemetry.call_span", "shared.telemetry.metrics"),
}


async def test_a_chat_job_loads_no_sdk(harness: Harness) -> None:
    """
    The job succeeds, logs no fault, and has loaded none of Azure's SDKs nor what they load, and no HTTP client; nor has
    what answers HTTP. Without a connection string nothing of telemetry is loaded.
    """
    body = {"customer": harness.customer().name, "action": "chat", "input": {"prompt": "Hello?"}}

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, json.dumps(body)),
        cwd=Path(__file__).parents[2],
        env={**os.environ, **harness.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()

    assert b"sdk_repeated" not in errors
    assert 0 == process.returncode, errors.decode()
    result = json.loads(output)
    assert "succeeded" == result["status"]
    assert set() == (ONLY_IF_SOMETHING_GOES_WRONG | ONLY_WITH_TELEMETRY) & set(result["loaded"])
