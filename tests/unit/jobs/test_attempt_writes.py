"""The writes of an attempt: one at a time, repeated until they are known to be made, few, and in time for its lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from shared.billing.usage import Call
from shared.clock import now
from shared.contract.result import Usage
from shared.errors import LeaseLost, RateLimited, RetryLater, StorageUnavailable, UpstreamRetryLater
from shared.jobs import attempt as module
from shared.jobs.attempt import Attempt
from shared.jobs.step_rows import MAX_ADDED_ROWS, StepRecord
from shared.storage.base import Row
from tests.support.attempts import ANSWERED, LATER, UNANSWERED, keys, outcomes, start, take_over
from tests.support.fakes import Fault, MemoryTable
from tests.support.simulated_time import SimulatedTime


class ObservedTable(MemoryTable):
    """A table that records how many rows each transaction of an attempt adds: not the claim."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[int] = []

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See Table."""
        self.added.append(0)
        return await super().merge(row, operation_id=operation_id)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See Table."""
        if changed.etag:
            self.added.append(len(added))
        assert len(added) <= MAX_ADDED_ROWS
        return await super().merge_and_insert(changed, added, operation_id=operation_id)


@pytest.fixture
def table() -> ObservedTable:
    """A table in memory."""
    return ObservedTable()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """Time that passes only while attempts sleep."""
    time = SimulatedTime()
    time.install(monkeypatch)
    return time


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt does not wait for Storage."""
    monkeypatch.setattr(module, "STORAGE_WAITS_S", ())


async def save(attempt: Attempt, key: str) -> None:
    """Save a step with one call."""
    record = StepRecord(key, b"1", ANSWERED.consumed(), usage_rows=attempt.step_usage(key, [ANSWERED]))
    await attempt.save_step(record, [ANSWERED])


async def complete(attempt: Attempt, calls: Sequence[Call] = ()) -> None:
    """End the job."""
    await attempt.complete(b"{}", "succeeded", calls, now())


async def test_steps_that_end_together_share_transactions(table: ObservedTable):
    """Each waits until it is stored, whoever stores it."""
    attempt = await start(table)

    await asyncio.gather(*(save(attempt, f"{number:04}") for number in range(70)))

    assert 140 == sum(table.added)
    assert len(table.added) <= 4
    assert 70 == len(keys(table, "s")) == len(keys(table, "u"))
    assert Usage(calls=70, input_tokens=350, processing="standard") == attempt.usage.billed


@pytest.mark.parametrize("calls", [0, 1, 98, 99, 100, 150, 250])
@pytest.mark.parametrize(("state", "answered"), [("done", 2), ("waiting", 0)])
async def test_any_number_of_unanswered_calls_is_recorded(table: ObservedTable, calls: int, state: str, answered: int):
    """What does not fit the last transaction is written before it; each call has one record."""
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([UNANSWERED] * calls)

    await (complete(attempt, [ANSWERED] * answered) if state == "done" else attempt.release(LATER))

    assert ["answered"] * answered + ["unanswered"] * calls == outcomes(table)
    assert state == table.rows["acme", "j_job-1"].values["state"]


async def test_unanswered_calls_are_recorded_with_the_next_step(table: ObservedTable):
    """They wait for no transaction of their own; those of a later step are not written twice."""
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([UNANSWERED] * 3)

    await save(attempt, "0001")
    await save(attempt, "0002")

    assert [3 + 2, 2] == table.added
    assert ["answered"] * 2 + ["unanswered"] * 3 == outcomes(table)


async def test_a_renewal_writes_what_waits(table: ObservedTable, time: SimulatedTime):
    """The heartbeat stores unanswered calls; without any, it only renews the lease, until the block is left."""
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([UNANSWERED])

    async with attempt:
        await time.wait(attempt.ledger.lease_s)
        heartbeat = attempt._heartbeat

    assert isinstance(heartbeat, asyncio.Task)
    await asyncio.wait([heartbeat], timeout=1)
    assert heartbeat.cancelled()
    assert [1, 0] == table.added[:2]
    assert ["unanswered"] == outcomes(table)


async def test_a_lease_whose_claim_took_long_is_renewed_at_once(table: ObservedTable):
    """The claim has set the lease's end, and may have waited for other jobs' transactions since."""
    attempt = await start(table)
    attempt.lease = structs.replace(attempt.lease, began=attempt.lease.began - attempt.ledger.lease_s)

    async with attempt:
        await asyncio.sleep(0.01)

    assert [0] == table.added


async def test_a_renewal_that_fails_is_followed_by_another(
    table: ObservedTable, time: SimulatedTime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """In time, if Storage refuses it or its response gets lost, and after a fault of ours. Each is logged at once."""
    attempt = await start(table)
    table.faults.extend([Fault.REFUSED, Fault.LOST])
    renew = attempt.ledger.renew

    async def fail(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(attempt.ledger, "renew", renew)
        raise ValueError(b"terces".decode()[::-1])  # not as in the traceback's lines

    async with attempt:
        await time.wait(150)  # both renewals that fail, and two more
        assert table.rows["acme", "j_job-1"].values["lease_until"] > time.time
        monkeypatch.setattr(attempt.ledger, "renew", fail)
        await time.wait(60)
        assert table.rows["acme", "j_job-1"].values["lease_until"] > time.time

    job = "customer=acme job_id=job-1"
    assert [
        *[(logging.WARNING, f"lease_not_renewed {job}")] * 2,
        (logging.ERROR, f"job_error {job} ValueError"),
    ] == [(record.levelno, record.getMessage().partition("\n")[0].partition(":")[0]) for record in caplog.records]
    assert "secret" not in caplog.text
    assert attempt.lease_lost is None


@pytest.mark.parametrize(
    ("end", "writes"),
    [(complete, 1), (lambda attempt: attempt.release(LATER), 1), (None, 2)],
    ids=["completed", "released", "lost"],
)
@pytest.mark.usefixtures("time")
async def test_renewals_end_with_the_attempt(table: ObservedTable, end: Any, writes: int):
    """Once the job is completed or released, or the lease is lost, nothing is renewed, even while the block goes on."""
    attempt = await start(table)

    async with attempt:
        await (take_over(table) if end is None else end(attempt))
        async with asyncio.timeout(5):
            for _ in range(2):  # the timer, and the task that it begins
                assert isinstance(attempt._heartbeat, asyncio.Task)
                await attempt._heartbeat

    assert writes == len(table.added)
    assert (end is None) == (attempt.lease_lost is not None)


@pytest.mark.parametrize(
    ("because", "retries", "failed", "code"),
    [
        (LATER, 3, 0, ""),
        (UpstreamRetryLater(RateLimited("Slow down."), 60, 2), 2, 0, "rate_limited"),
        (StorageUnavailable("Storage is down."), 3, 1, ""),
        (RetryLater("x" * 1001, 1), 3, 0, ""),
    ],
    ids=["wait", "provider", "Storage", "long reason"],
)
async def test_a_release_says_what_the_next_attempt_needs(
    table: ObservedTable, because: RetryLater, retries: int, failed: int, code: str
):
    """
    Retries that are used up, the reason in up to 1000 characters, its code, and what could not be recovered; only
    Storage's failure is a failed attempt.
    """
    first = await start(table)
    await first.ledger.release(first.lease, LATER, retries=3)
    attempt = await start(table)
    attempt.usage.add_unsettled_calls([replace(ANSWERED, outcome="lost")])

    await attempt.release(because)

    lease = (await start(table)).lease
    names = ("retries", "failed_attempts", "reason", "reason_code", "unrecoverable_usage")
    assert (retries, failed, str(because)[:1000], code, ANSWERED.consumed()) == tuple(
        getattr(lease, name) for name in names
    )


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.REFUSED])
@pytest.mark.parametrize("following", ["step", "renewal", "release"])
async def test_a_write_without_a_response_is_repeated_before_any_other(
    table: ObservedTable, following: str, fault: Fault
):
    """It is repeated under its operation id, so it is made once; then the others follow."""
    attempt = await start(table, lease_s=0.03 if following == "renewal" else 90)
    table.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await save(attempt, "0001")

    if following == "step":
        await save(attempt, "0002")
    elif following == "release":
        await attempt.release(LATER)
    else:
        async with attempt, asyncio.timeout(5):
            while len(table.added) < 3:  # noqa: ASYNC110  # a list has no event
                await asyncio.sleep(0.001)

    saved = ["0001", "0002"] if following == "step" else ["0001"]
    assert [f"job-1~{key}" for key in saved] == keys(table, "s")
    assert [2, 2, 2 * (following == "step")] == table.added[:3]
    assert ["answered"] * len(saved) == outcomes(table)
    assert Usage() == attempt.usage.unrecoverable


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(("fault", "outcome"), [(Fault.LOST, "answered"), (Fault.REFUSED, "lost")])
async def test_a_write_before_the_lease_was_lost_is_looked_for(table: ObservedTable, fault: Fault, outcome: str):
    """A step that was stored unseen is answered, and recorded once; one that was not is lost."""
    slow = await start(table)
    table.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await save(slow, "0001")
    other = await take_over(table)

    with pytest.raises(LeaseLost):
        await slow.release(LATER)
    await slow.settle()
    await complete(other)

    assert [outcome] == outcomes(table)
    assert (outcome == "answered") == bool(keys(table, "s"))


async def test_a_fault_while_a_write_is_sent_is_not_repeated(table: ObservedTable, monkeypatch: pytest.MonkeyPatch):
    """It was never sent. The next write has what it had."""
    attempt = await start(table)

    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError("A fault in this software.")

    with monkeypatch.context() as patch:
        patch.setattr(attempt.ledger, "save_steps", fail)
        with pytest.raises(ValueError, match="A fault"):
            await save(attempt, "0001")
    await save(attempt, "0002")

    assert ["job-1~0001", "job-1~0002"] == keys(table, "s")
    assert ["answered"] * 2 == outcomes(table)


async def test_an_attempt_waits_for_storage_a_few_times_in_all(
    table: ObservedTable, time: SimulatedTime, monkeypatch: pytest.MonkeyPatch
):
    """The waits are those of the attempt, not of each write."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    attempt = await start(table)
    table.faults.extend([Fault.REFUSED] * 3)
    await save(attempt, "0001")
    table.faults.extend([Fault.REFUSED] * 3)
    with pytest.raises(StorageUnavailable):
        await save(attempt, "0002")

    assert [1, 2, 4, 8, 15] == waits
    assert "customer=acme job_id=job-1" == str(attempt)
