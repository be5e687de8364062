"""A request that waits for its job's result."""

from __future__ import annotations

import asyncio

from tests.support.memory_app import OPERATOR, MemoryApp


async def test_a_worker_that_stops_keeps_no_request_waiting():
    """The caller gets the status document, as when the result takes longer than it wants to wait."""
    app = MemoryApp()
    job = {"customer": "contoso", "job_id": "job-1", "action": "chat", "input": {"prompt": "Hello?"}}
    waiting = asyncio.create_task(app.send("POST", "jobs", job, OPERATOR | {"prefer": "wait=60"}))
    while not app.memory.queues.sent and not waiting.done():  # noqa: ASYNC110  # a queue has no event
        await asyncio.sleep(0)

    await app.services.drain.stop()
    async with asyncio.timeout(10):
        response = await waiting

    assert (202, "queued") == (response.status, response.json["status"])
