"""
A lease's last write whose answer got lost, and whose row somebody without a lease has changed before it was repeated.

The operation id of the row is then the other's, but its owner and its state show that the write was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.billing.usage import Call
from shared.clock import now
from shared.contract.documents import CallbackState
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import LeaseLost, RetryLater, StorageUnavailable
from shared.jobs import attempt as attempts
from shared.jobs.attempt import Attempt
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.storage.base import Row, RowChanged
from tests.support.fakes import Fault, MemoryTable

JOB = Job(customer="contoso", action="chat", job_id="job-1")
LATER = RetryLater("Later.", 1)

CHANGES: dict[str, Callable[[JobUpdates], Awaitable[object]]] = {
    "cancelled": lambda updates: updates.cancel("contoso", "job-1"),
    "failed attempt added": lambda updates: updates.add_failed_attempt("contoso", "job-1"),
    "callback saved": lambda updates: updates.save_callback_state(
        "contoso", "job-1", CallbackState(status="waiting", attempts=1)
    ),
}


@pytest.fixture
def table() -> MemoryTable:
    """A table in memory."""
    return MemoryTable()


async def claim(table: MemoryTable) -> Lease:
    """Claim the job."""
    lease = await Ledger(table).claim("contoso", "job-1", fingerprint="fingerprint", submitted_at=now())
    assert isinstance(lease, Lease)
    return lease


def state_of(table: MemoryTable) -> str:
    """The state in the job's row."""
    return str(table.rows["contoso", "j_job-1"].values["state"])


def usage_of(table: MemoryTable) -> list[str]:
    """The outcomes in the usage records."""
    return [row.values["outcome"] for (_, key), row in sorted(table.rows.items()) if key.startswith("u_")]


@pytest.mark.parametrize("change", ["cancelled", "failed attempt added"])
async def test_a_release_is_recognized_after_another_change(table: MemoryTable, change: str) -> None:
    """A released job that is changed before the release is repeated is released: its message goes back."""
    ledger, lease = Ledger(table), await claim(table)
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await ledger.release(lease, LATER, operation_id="operation")
    await CHANGES[change](JobUpdates(table))
    before = table.rows["contoso", "j_job-1"]

    await ledger.release(lease, LATER, operation_id="operation")

    assert before == table.rows["contoso", "j_job-1"]


async def test_a_completion_is_recognized_after_another_change(table: MemoryTable) -> None:
    """A completed job whose callback was tried before the completion is repeated is completed."""
    ledger, lease = Ledger(table), await claim(table)
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await ledger.complete(lease, b"{}", status="succeeded", usage=[], operation_id="operation")
    await CHANGES["callback saved"](JobUpdates(table))
    before = table.rows["contoso", "j_job-1"]

    await ledger.complete(lease, b"{}", status="succeeded", usage=[], operation_id="operation")

    assert before == table.rows["contoso", "j_job-1"]


async def test_a_release_that_another_worker_has_followed_is_not(table: MemoryTable) -> None:
    """Once another worker has claimed the released job, the lease is lost."""
    ledger, lease = Ledger(table), await claim(table)
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await ledger.release(lease, LATER, operation_id="operation")
    await claim(table)

    with pytest.raises(LeaseLost):
        await ledger.release(lease, LATER, operation_id="operation")


async def test_a_released_job_is_not_completed_after_a_cancellation(table: MemoryTable) -> None:
    """A lease that was released completes nothing, even if the job was cancelled since."""
    ledger, lease = Ledger(table), await claim(table)
    await ledger.release(lease, LATER)
    await CHANGES["cancelled"](JobUpdates(table))

    with pytest.raises(LeaseLost):
        await ledger.complete(lease, b"{}", status="succeeded", usage=[])


class Refusing(MemoryTable):
    """A table that refuses every change of a row with the row's own etag."""

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See `Table`."""
        del operation_id
        raise RowChanged(row.key, self.rows[row.partition, row.key])


async def test_a_refusal_without_a_conflict_loses_no_lease() -> None:
    """If Storage refuses a change although the row and the lease are the same, the change can be repeated."""
    table = Refusing()
    lease = await claim(table)

    with pytest.raises(StorageUnavailable):
        await Ledger(table).release(lease, LATER)


async def test_a_completed_job_is_billed_once(table: MemoryTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt whose completion was made unseen has lost nothing, so its calls have one record each."""
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", (0.001,))
    attempt = Attempt(JOB, await claim(table), Ledger(table))

    async def save_callback_state() -> None:
        while state_of(table) != "done":  # noqa: ASYNC110  # the table has no event
            await asyncio.sleep(0)
        await CHANGES["callback saved"](JobUpdates(table))

    other = asyncio.create_task(save_callback_state())
    table.faults.append(Fault.LOST)

    await attempt.complete(b"{}", "succeeded", [Call(Usage(calls=1, input_tokens=5))], now())
    await other

    assert "waiting" == table.rows["contoso", "j_job-1"].values["callback_status"]
    assert ["answered"] == usage_of(table)
