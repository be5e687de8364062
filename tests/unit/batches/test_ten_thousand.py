"""Ten thousand jobs of twenty customers, on a moved clock: how many batches they are, and when each has its result."""

from __future__ import annotations

import asyncio
import random

import pytest

from shared.upstream.client import UpstreamClient
from tests.support.patience import PatientApp, patient_app
from tests.support.workers import SETTINGS

JOBS, CUSTOMERS = 10_000, 20
PROVIDER_S = 600.0
"""What the provider takes for a batch."""
LATE_S = 180.0
"""After that and the window, within which each job has its result."""
STEP_S = 5.0
_AT_ONCE = 400
"""Messages that the host hands over."""


async def deliver(app: PatientApp, ended: dict[str, float]) -> None:
    """Process all messages, and note when each job got its result."""
    while messages := app.take():
        for start in range(0, len(messages), _AT_ONCE):
            run, before = {"jobs": app._run_job, "batches": app._run_batch}, len(app.results)
            await asyncio.gather(*(run[queue](body) for queue, body in messages[start : start + _AT_ONCE]))
            ended |= {result["job_id"]: app.clock() for result in app.results[before:]}


@pytest.mark.long
async def test_ten_thousand_jobs_are_twenty_batches_and_in_time(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sent within one window. Each customer has one batch, and each job one result, soon after its batch."""
    chance = random.Random(1)
    async with patient_app(client, monkeypatch) as app:
        customers = [app.customer() for _ in range(CUSTOMERS)]
        for account in app.accounts.values():
            account.durations.in_progress_s = PROVIDER_S - account.durations.validating_s
        ended = dict[str, float]()
        monkeypatch.setattr(app, "deliver", lambda: deliver(app, ended))
        window_s, began = SETTINGS.batch_window_s, app.clock()
        times = sorted(chance.uniform(0, window_s - STEP_S) for _ in range(JOBS))
        sent = 0
        while app.clock() - began <= window_s + PROVIDER_S + LATE_S:
            while sent < JOBS and times[sent] <= app.clock() - began:
                await app.send(customers[sent % CUSTOMERS])
                sent += 1
            await app.pass_time(STEP_S, step_s=STEP_S)

        assert len(ended) == len(app.results) == JOBS
        assert {("succeeded", "batch")} == {(each["status"], each["usage"]["processing"]) for each in app.results}
        assert [1] * CUSTOMERS == [len(account.batches) for account in app.accounts.values()]
        assert max(ended.values()) - began <= window_s + PROVIDER_S + LATE_S
