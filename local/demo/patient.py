"""
The demo's last act: the same jobs at the list price and as lines of a batch, and what was saved.

The timer that wakes what waits runs each minute. The demo has the host run it at once, as Azure's does on request, too.
"""

import asyncio
import json
from base64 import b64decode, b64encode
from typing import Any

from azure.storage.queue.aio import QueueClient

from local.demo.billing import make_client
from local.demo.jobs import TEXT
from local.stack.hosts import Hosts
from local.stack.stack import PATIENT, Stack

CUSTOMER = "contoso"
JOBS = 10
LENGTH = 8000
"""Characters of the text that each job is about."""
TIME_LIMIT_S = 150.0
"""If the event gets lost, the batch is looked at a minute later."""
WAKE_S = 0.5
"""Between two runs of the timer."""


def patient_jobs() -> list[dict[str, Any]]:
    """Return the jobs, each of them once for each way to buy its call."""
    text = TEXT.read_text(encoding="utf-8")[:LENGTH]
    return [
        {
            "job_id": f"{processing}-{number}",
            "customer": CUSTOMER,
            "action": "chat",
            "connection": PATIENT,
            "options": {"processing": processing},
            "input": {"prompt": f"Write question {number} of {JOBS} about this text.", "context": text},
        }
        for processing in ("standard", "batch")
        for number in range(1, JOBS + 1)
    ]


async def compare(running: Stack, hosts: Hosts) -> list[dict[str, Any]]:
    """Run the jobs. Returns the lines of the customer's statement about them. Raises TimeoutError."""
    results = dict[str, dict[str, Any]]()
    jobs = patient_jobs()
    storage = running.storage.connection_string
    async with (
        make_client(hosts) as client,
        QueueClient.from_connection_string(storage, "jobs") as queue,
        QueueClient.from_connection_string(storage, "results") as done,
        asyncio.timeout(TIME_LIMIT_S),
    ):
        await asyncio.gather(*(queue.send_message(b64encode(json.dumps(job).encode()).decode()) for job in jobs))
        while len(results) < len(jobs):
            async with client.post("/admin/functions/wake_jobs", json={}):
                pass
            async for message in done.receive_messages(messages_per_page=32):
                result = json.loads(b64decode(message.content))
                results[result["job_id"]] = result
                await done.delete_message(message)
            await asyncio.sleep(WAKE_S)
        async with client.get(f"/api/customers/{CUSTOMER}/usage", params={"by": "connection"}) as response:
            lines = (await response.json())["lines"]
    return sorted((line for line in lines if line["connection"] == PATIENT), key=lambda line: line["saved"])
