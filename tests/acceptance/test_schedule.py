"""A job that waits in the schedule, on a real Functions host whose timer wakes it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from tests.support.endpoint import error
from tests.support.live_server import LiveServer


async def status_with(member: str, live_server: LiveServer, path: str) -> dict[str, Any]:
    """The job's status document, once it has the member."""
    async with asyncio.timeout(90):
        while member not in (document := (await live_server.http.get(path)).json()):  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # another process runs it
    return dict(document)


@pytest.mark.long
async def test_the_timer_wakes_a_waiting_job(live_server: LiveServer):
    """Its provider asks for an hour, which is cut short here; then the next full minute wakes it, and it ends."""
    harness = live_server.harness
    customer = harness.customer()
    customer.account.will_answer(error(429, retry_after="3600"))
    path = f"/api/jobs/{customer.name}/waits"
    submitted = await live_server.http.post("/api/jobs", json=customer.job(job_id="waits"))
    waiting = await status_with("due_at", live_server, path)
    record = await harness.services.queries.get(customer.name, "waits")
    assert record is not None
    await harness.services.schedule.add(customer.name, "waits", now() + timedelta(seconds=2), record.wakeup)
    ended = await status_with("finished_at", live_server, path)

    assert 202 == submitted.status_code
    assert ("waiting", "rate_limited") == (waiting["status"], waiting["error"]["code"])
    assert ("succeeded", 2, None) == (ended["status"], ended["attempts"], ended.get("due_at"))
    assert any("jobs_woken due sent=1 failed=0" in line for line in live_server.lines)
