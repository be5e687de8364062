"""The writes of an attempt: one at a time, repeated until they are known to be made, and few in number."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.billing.usage import Call
from shared.billing.usage_records import counted
from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import LeaseLost, RateLimited, RetryLater, StorageUnavailable, UpstreamRetryLater
from shared.jobs import attempt as module
from shared.jobs.attempt import Attempt
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.step_rows import MAX_ADDED_ROWS, StepRecord
from shared.storage.base import Row
from tests.support.fakes import Fault, MemoryTable

JOB = Job(customer="acme", action="multi_chat", job_id="job-1")
ANSWERED = Call(Usage(calls=1, input_tokens=5))
UNANSWERED = Call(None, outcome="unanswered")
LATER = RetryLater("Later.", 1)


class ObservedTable(MemoryTable):
    """A table that records how many rows each transaction adds."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[int] = []

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See Table."""
        self.added.append(0)
        return await super().merge(row, operation_id=operation_id)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> str:
        """See Table."""
        self.added.append(len(added))
        assert len(added) <= MAX_ADDED_ROWS
        return await super().merge_and_insert(changed, added, operation_id=operation_id)


@pytest.fixture
def table() -> ObservedTable:
    """A table in memory."""
    return ObservedTable()


async def start(table: MemoryTable, *, lease_s: float = 90) -> Attempt:
    """Return the next attempt of the job."""
    ledger = Ledger(table, lease_s=lease_s)
    lease = await ledger.claim("acme", "job-1", fingerprint="f", submitted_at=now())
    assert isinstance(lease, Lease)
    attempt = Attempt(JOB, lease, ledger)
    await attempt.stored_steps()
    return attempt


async def expire(table: MemoryTable) -> None:
    """Let the job's lease expire."""
    row = table.rows["acme", "j_job-1"]
    await MemoryTable.merge(table, replace(row, values={"lease_until": now() - timedelta(seconds=1)}))


def step(attempt: Attempt, key: str, calls: Sequence[Call] = (ANSWERED,)) -> tuple[StepRecord, Sequence[Call]]:
    """Return a step of the attempt, and its calls."""
    usage = sum((call.consumed() for call in calls), Usage())
    return StepRecord(key, b"1", usage, usage_rows=attempt.step_usage(key, calls)), calls


def outcomes(table: MemoryTable) -> Counter[str]:
    """Return how many usage records of each outcome count."""
    rows = [row for (_, key), row in sorted(table.rows.items()) if key.startswith("u_")]
    return Counter(row.values["outcome"] for row in counted(rows))


def keys(table: MemoryTable, kind: str) -> list[str]:
    """Return the keys of the rows of a kind."""
    return [key for _, key in sorted(table.rows) if key.startswith(f"{kind}_")]


async def test_steps_that_end_together_share_transactions(table: ObservedTable):
    """Each waits until it is stored, whoever stores it."""
    attempt = await start(table)

    await asyncio.gather(*(attempt.save_step(*step(attempt, f"{number:04}")) for number in range(70)))

    assert 140 == sum(table.added)
    assert len(table.added) <= 4
    assert 70 == len(keys(table, "s")) == len(keys(table, "u"))
    assert Usage(calls=70, input_tokens=350) == attempt.usage.billed


@pytest.mark.parametrize("calls", [0, 1, 98, 99, 100, 150, 250])
@pytest.mark.parametrize("end", ["complete", "release"])
async def test_any_number_of_unanswered_calls_is_recorded(table: ObservedTable, calls: int, end: str):
    """What does not fit the last transaction is written before it; each call has one record."""
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([UNANSWERED] * calls)

    if end == "complete":
        await attempt.complete(b"{}", "succeeded", [ANSWERED] * 2, now())
    else:
        await attempt.release(LATER)

    expected = Counter({"unanswered": calls, "answered": 2 * (end == "complete")})
    assert +expected == outcomes(table)
    assert {"complete": "done", "release": "waiting"}[end] == table.rows["acme", "j_job-1"].values["state"]


async def test_unanswered_calls_are_recorded_with_the_next_step(table: ObservedTable):
    """They wait for no transaction of their own; those of a later step are not written twice."""
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([UNANSWERED] * 3)

    await attempt.save_step(*step(attempt, "0001"))
    await attempt.save_step(*step(attempt, "0002"))

    assert [3 + 2, 2] == table.added
    assert Counter(unanswered=3, answered=2) == outcomes(table)


async def test_a_renewal_writes_what_waits(table: ObservedTable):
    """The heartbeat stores unanswered calls and steps; without any, it only renews the lease."""
    attempt = await start(table, lease_s=0.03)
    attempt.usage.add_unsettled_calls([UNANSWERED])

    async with attempt, asyncio.timeout(5):
        while len(table.added) < 3:  # noqa: ASYNC110  # a list has no event
            await asyncio.sleep(0.001)

    assert [1, 0, 0] == table.added[:3]
    assert Counter(unanswered=1) == outcomes(table)


async def test_an_attempt_that_has_ended_is_not_renewed(table: ObservedTable):
    """Its heartbeat ends, even while the block goes on."""
    attempt = await start(table, lease_s=0.03)

    async with attempt:
        await attempt.complete(b"{}", "succeeded", [], now())
        before = list(table.added)
        await asyncio.sleep(0.05)

    assert before == table.added
    assert attempt.lease_lost is None


@pytest.mark.parametrize(
    ("because", "retries", "failed"),
    [
        (LATER, 3, 0),
        (UpstreamRetryLater(RateLimited("Slow down."), 60, 2), 2, 0),
        (StorageUnavailable("Storage is down."), 3, 1),
    ],
)
async def test_a_release_says_what_the_next_attempt_needs(
    table: ObservedTable, because: RetryLater, retries: int, failed: int
):
    """Retries that are used up, the reason, and what could not be recovered; only Storage's failure is a failed one."""
    first = await start(table)
    await first.ledger.release(first.lease, LATER, retries=3)
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([replace(ANSWERED, outcome="lost")])

    await attempt.release(because)

    lease = (await start(table)).lease
    assert (retries, failed, str(because)) == (lease.retries, lease.failed_attempts, lease.reason)
    assert ANSWERED.consumed() == lease.unrecoverable_usage


async def test_a_write_without_a_response_is_repeated_before_any_other(
    table: ObservedTable, monkeypatch: pytest.MonkeyPatch
):
    """It is repeated under its operation id, so it is made once; then the others follow."""
    monkeypatch.setattr(module, "STORAGE_WAITS_S", ())
    attempt = await start(table)
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await attempt.save_step(*step(attempt, "0001"))

    await attempt.save_step(*step(attempt, "0002"))

    assert ["s_job-1~0001", "s_job-1~0002"] == keys(table, "s")
    assert [2, 2, 2] == table.added
    assert Counter(answered=2) == outcomes(table)


@pytest.mark.parametrize(("fault", "outcome"), [(Fault.LOST, "answered"), (Fault.REFUSED, "lost")])
async def test_a_write_before_the_lease_was_lost_is_looked_for(
    table: ObservedTable, monkeypatch: pytest.MonkeyPatch, fault: Fault, outcome: str
):
    """A step that was stored unseen is answered, and recorded once; one that was not is lost."""
    monkeypatch.setattr(module, "STORAGE_WAITS_S", ())
    slow = await start(table)
    table.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await slow.save_step(*step(slow, "0001"))
    await expire(table)
    other = await start(table)

    with pytest.raises(LeaseLost):
        await slow.release(LATER)
    await slow.settle()
    await other.complete(b"{}", "succeeded", [], now())

    assert Counter([outcome]) == outcomes(table)
    assert (outcome == "answered") == bool(keys(table, "s"))


async def test_a_fault_while_a_write_is_sent_is_not_repeated(table: ObservedTable, monkeypatch: pytest.MonkeyPatch):
    """It was never sent. The next write has what it had."""
    attempt = await start(table)
    save_steps = attempt.ledger.save_steps

    async def fail(*_: Any, **__: Any) -> Lease:
        raise ValueError("A fault in this software.")

    monkeypatch.setattr(attempt.ledger, "save_steps", fail)
    with pytest.raises(ValueError, match="A fault"):
        await attempt.save_step(*step(attempt, "0001"))
    monkeypatch.setattr(attempt.ledger, "save_steps", save_steps)

    await attempt.save_step(*step(attempt, "0002"))

    assert ["s_job-1~0001", "s_job-1~0002"] == keys(table, "s")
    assert Counter(answered=2) == outcomes(table)


async def test_an_attempt_waits_for_storage_a_few_times_in_all(table: ObservedTable, monkeypatch: pytest.MonkeyPatch):
    """The waits are those of the attempt, not of each write."""
    waits: list[float] = []

    class Time:
        """Records how long the attempt sleeps."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            """See asyncio.sleep."""
            waits.append(seconds)

    monkeypatch.setattr(module, "asyncio", Time())
    attempt = await start(table)
    table.faults.extend([Fault.REFUSED] * 3)
    await attempt.save_step(*step(attempt, "0001"))
    table.faults.extend([Fault.REFUSED] * 3)
    with pytest.raises(StorageUnavailable):
        await attempt.save_step(*step(attempt, "0002"))

    assert [1, 2, 4, 8, 15] == waits


def test_an_attempt_names_its_job_in_log_lines():
    """By customer and id."""
    lease = Lease("acme", "job-1", 1, now(), now(), "owner", "etag")

    assert "customer=acme job_id=job-1" == str(Attempt(JOB, lease, Ledger(MemoryTable())))
