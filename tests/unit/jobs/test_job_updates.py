"""Changes of jobs that nobody runs: cancelled, their failed attempts corrected, the state of their callback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.contract.documents import CallbackState
from shared.errors import AlreadyRunning
from shared.jobs import job_updates
from shared.jobs.job_updates import JobUpdates
from shared.jobs.records import State
from shared.storage.base import Row
from tests.support.endpoint import completion, error
from tests.support.fakes import Fault, MemoryTable
from tests.support.workers import Worker

TWO_PROMPTS = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}}


async def test_a_waiting_job_can_be_cancelled(worker: Worker):
    """
    A job that was requeued is cancelled. When its message comes it ends so, with the usage until then, and makes no
    further call. A redelivery gets the same result.
    """
    customer = worker.customer(max_concurrency=1)
    customer.account.will_answer(completion(), error(429, retry_after="600"))
    assert await worker.deliver(customer, job_id="waits", **TWO_PROMPTS) is None
    body = worker.wakeup(customer, "waits")
    before = len(customer.account.received)

    states = [await worker.services.updates.cancel(customer.name, "waits") for _ in range(2)]
    result = await worker.run(customer, body)
    again = await worker.run(customer, body)

    assert ["cancelled", "cancelled"] == states
    assert ("failed", "cancelled", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert "The job was cancelled before it finished." == result["error"]["message"]
    assert (1, 11, 7) == tuple(result["usage"][name] for name in ("calls", "input_tokens", "output_tokens"))
    assert result == again
    assert before == len(customer.account.received)
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert "done" == await worker.services.updates.cancel(customer.name, "waits")


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize(
    ("event", "attempts", "recorded"),
    [
        ("its worker had died", 3, 1),
        ("its worker dies", 3, 1),
        ("Storage fails", 3, 1),
        ("it is dead-lettered", 2, 0),
    ],
)
async def test_a_cancelled_job_stays_cancelled(worker: Worker, event: str, attempts: int, recorded: int):
    """
    If the worker that ran it, or that ends it, dies, if its message is in the poison queue, or if Storage does not take
    its end at once: without a further call. An attempt that crashed or failed has its record.
    """
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    if event == "its worker had died":
        await worker.crash(customer, "waits", body)

    assert "cancelled" == await worker.services.updates.cancel(customer.name, "waits")
    if event == "its worker dies":
        await worker.crash(customer, "waits", body)
    elif event == "Storage fails":
        worker.table.faults.extend([None, Fault.REFUSED])
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()
        await worker.expire_lease(customer, "waits")
    result = await (worker.dead_letter(body) if event == "it is dead-lettered" else worker.run(customer, body)) or {}

    assert ("cancelled", attempts) == (result["error"]["code"], result["attempts"])
    assert 1 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * recorded == worker.outcomes(customer)


class RacingTable(MemoryTable):
    """A table in which somebody else changes a row after each of the first `races` reads of it."""

    races = 0
    values: dict[str, Any]

    async def read(self, partition: str, key: str) -> Row | None:
        """See Table."""
        row = await super().read(partition, key)
        if row is not None and self.races:
            self.races -= 1
            await super().merge(Row(partition, key, self.values, row.etag))
        return row


async def updates_of(state: State, **values: Any) -> tuple[JobUpdates, RacingTable]:
    """Updates of a table with one job, `job-1` of `acme`, in that state."""
    table = RacingTable()
    await table.insert(Row("acme", "j_job-1", {"state": state, "fingerprint": "f", **values}))
    return JobUpdates(table), table


@pytest.mark.parametrize(
    ("races", "values", "state"),
    [
        (1, {"state": "running", "lease_until": now() + timedelta(hours=1)}, "running"),
        (3, {"state": "waiting"}, "cancelled"),
    ],
    ids=["claimed", "released"],
)
async def test_a_cancellation_that_meets_a_change_decides_anew(races: int, values: dict[str, Any], state: str):
    """A job that runs by then goes on unchanged; one that waits is cancelled. One that does not exist is None."""
    updates, table = await updates_of("queued")
    table.races, table.values = races, values

    assert state == await updates.cancel("acme", "job-1")
    assert {"fingerprint": "f"} | values | {"state": state} == table.rows["acme", "j_job-1"].values
    assert [None, None] == [await updates.cancel("acme", "job-2"), await updates.cancel("other", "job-1")]


async def test_a_job_whose_worker_died_stays_running():
    """Its next attempt records the crash, and ends as cancelled."""
    died = {"lease_until": now() - timedelta(seconds=1)}
    updates, table = await updates_of("running", **died)

    assert "cancelled" == await updates.cancel("acme", "job-1")
    assert {"state": "running", "fingerprint": "f", "cancelled": True, **died} == table.rows["acme", "j_job-1"].values


@pytest.mark.parametrize("change", [JobUpdates.reset_failed_attempts, JobUpdates.add_failed_attempt])
async def test_failed_attempts_of_a_job_that_changes_are_not_corrected(change: Callable[..., Any]):
    """A worker has just claimed or released the job: AlreadyRunning, and its count stands."""
    updates, table = await updates_of("waiting", failed_attempts=2)
    table.races, table.values = 1, {"state": "running"}

    with pytest.raises(AlreadyRunning, match=r"A worker has just changed job job-1\.") as raised:
        await change(updates, "acme", "job-1")

    assert 1 == raised.value.delay_s
    assert 2 == table.rows["acme", "j_job-1"].values["failed_attempts"]


async def test_a_callback_state_is_written_beside_the_jobs_own():
    """It changes nothing else of the row, whatever the job's state; an error is kept up to 500 characters."""
    updates, table = await updates_of("done", failed_attempts=2)

    await updates.save_callback_state("acme", "job-1", CallbackState(status="waiting", attempts=1, error="x" * 501))
    await updates.save_callback_state("acme", "job-1", CallbackState(status="waiting", attempts=2, last_status=503))
    await updates.save_callback_state("acme", "unknown", CallbackState(status="failed", attempts=1))

    assert {
        "state": "done",
        "fingerprint": "f",
        "failed_attempts": 2,
        "callback_status": "waiting",
        "callback_attempts": 2,
        "callback_last_status": 503,
        "callback_error": "",
    } == table.rows["acme", "j_job-1"].values
    await updates.save_callback_state("acme", "job-1", CallbackState(status="failed", attempts=3, error="x" * 501))
    assert "x" * 500 == table.rows["acme", "j_job-1"].values["callback_error"]


@pytest.mark.parametrize(
    ("races", "status"), [(job_updates._MAX_WRITES - 1, "failed"), (job_updates._MAX_WRITES, None)]
)
async def test_a_callback_state_is_written_in_spite_of_other_writers(races: int, status: str | None):
    """Somebody else's change costs another try; after a few the state is left to the next delivery."""
    updates, table = await updates_of("done")
    table.races, table.values = races, {"model": "gpt-4o"}

    await updates.save_callback_state("acme", "job-1", CallbackState(status="failed", attempts=1))

    assert status == table.rows["acme", "j_job-1"].values.get("callback_status")
