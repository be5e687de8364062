"""The steps of earlier attempts: read once, however many parts of a job wait for them, even if that fails."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.actions.base import Step
from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import RetryLater, StorageUnavailable
from shared.jobs.attempt import Attempt
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.step_rows import StepRecord
from shared.jobs.steps import Steps
from shared.settings import Settings
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable

JOB = Job(customer="contoso", action="multi_chat", job_id="job-1")


class CountingBlobs(MemoryBlobs):
    """Blobs whose reads are counted."""

    reads = 0

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `Blobs`."""
        self.reads += 1
        await asyncio.sleep(0)
        return await super().read(container, name, limit)


@pytest.fixture
def blobs() -> CountingBlobs:
    """Blobs with the value of a step."""
    blobs = CountingBlobs()
    blobs.blobs["results", "contoso/job-1/steps/0001.json"] = (b'"large"', "application/json")
    return blobs


@pytest.fixture
async def steps(blobs: CountingBlobs) -> Steps:
    """The steps of a second attempt; the first has stored one, in a blob."""
    ledger = Ledger(MemoryTable())

    async def claim() -> Lease:
        lease = await ledger.claim("contoso", "job-1", fingerprint="fingerprint", submitted_at=now())
        assert isinstance(lease, Lease)
        return lease

    first = await ledger.save_steps(await claim(), [StepRecord("0001", b"", Usage(), in_blob=True)])
    await ledger.release(first, RetryLater("Later.", 1))
    settings: Any = SimpleNamespace(results_container="results")
    return Steps(Attempt(JOB, await claim(), ledger), Outputs(cast(Settings, settings), blobs))


async def test_steps_are_read_once(steps: Steps, blobs: CountingBlobs) -> None:
    """Parts that look for their steps at once share one reading."""
    loaded = await asyncio.gather(*(steps.get(f"{number:04}") for number in range(20)))

    assert 1 == blobs.reads
    assert [Step("large")] == [step for step in loaded if step is not None]


async def test_a_failed_reading_is_not_repeated(steps: Steps, blobs: CountingBlobs) -> None:
    """If the steps can't be read, all parts fail at once, and the attempt does not try again for each of them."""
    blobs.down = True

    loaded = await asyncio.gather(*(steps.get(f"{number:04}") for number in range(20)), return_exceptions=True)

    assert {StorageUnavailable} == {type(error) for error in loaded}
    assert 1 == blobs.reads
