"""What an attempt puts on record that has lost its lease, and what counts of it beside the records of its heir."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from shared.billing.usage import Call
from shared.billing.usage_records import counted
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import StorageUnavailable
from shared.jobs import attempt as attempts
from shared.jobs import attempt_usage, ledger
from shared.jobs.attempt import Attempt
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.step_rows import StepRecord
from tests.support.fakes import Fault, MemoryTable

JOB = Job(customer="contoso", action="chat", job_id="job-1")
ANSWERED = Call(Usage(calls=1, input_tokens=5))
UNANSWERED = Call(None, outcome="unanswered")
START = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)


class Clock:
    """The time of the ledger and of usage records."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = START
        for module in (attempts, attempt_usage, ledger):
            monkeypatch.setattr(module, "now", lambda: self.time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock."""
    return Clock(monkeypatch)


@pytest.fixture
def table() -> MemoryTable:
    """A table in memory."""
    return MemoryTable()


@pytest.fixture
def start(table: MemoryTable, clock: Clock) -> Callable[[], Attempt]:
    """Return an attempt of the job, after the lease of the one before has expired."""

    async def start() -> Attempt:
        jobs = Ledger(table)
        clock.time += timedelta(seconds=jobs.lease_s)
        lease = await jobs.claim("contoso", "job-1", fingerprint="fingerprint", submitted_at=START)
        assert isinstance(lease, Lease)
        attempt = Attempt(JOB, lease, jobs)
        await attempt.stored_steps()
        return attempt

    return start


def records(table: MemoryTable) -> list[tuple[str, str]]:
    """Month and outcome of each usage record that counts."""
    rows = [row for (_, key), row in sorted(table.rows.items()) if key.startswith("u_")]
    return sorted((row.key[2:9], row.values["outcome"]) for row in counted(rows))


def outcomes(table: MemoryTable) -> list[str]:
    """The outcomes of the usage records that count."""
    return sorted(outcome for _, outcome in records(table))


async def complete(attempt: Attempt, calls: Sequence[Call] = (ANSWERED,)) -> None:
    """End the job."""
    await attempt.complete(b"{}", "succeeded", calls, attempts.now())


@pytest.mark.parametrize("heir_first", [True, False])
@pytest.mark.parametrize("lost", [[], [UNANSWERED], [ANSWERED, UNANSWERED]])
async def test_a_slow_attempt_is_recorded_once(
    table: MemoryTable, start: Callable[[], Attempt], lost: list[Call], heir_first: bool
) -> None:
    """Whoever writes first: the calls of a slow attempt have a record each, and the attempt none for a crash."""
    slow, heir = await start(), await start()
    slow.usage.add_unsettled_calls(lost)

    for end in (lambda: complete(heir), slow.settle)[:: 1 if heir_first else -1]:
        await end()

    assert sorted(call.outcome for call in [ANSWERED, *lost]) == outcomes(table)


@pytest.mark.parametrize("heir_first", [True, False])
async def test_a_crash_before_a_slow_attempt_is_recorded_once(
    table: MemoryTable, start: Callable[[], Attempt], caplog: pytest.LogCaptureFixture, heir_first: bool
) -> None:
    """Only the attempt that has the lease writes that the first one crashed, even if the second knew it, too."""
    await start()
    slow, heir = await start(), await start()

    for end in (lambda: complete(heir), slow.settle)[:: 1 if heir_first else -1]:
        await end()

    assert ["answered", "unanswered"] == outcomes(table)
    assert not caplog.records


async def test_a_crash_is_recorded_beside_a_call_that_was_cut_short(
    table: MemoryTable, start: Callable[[], Attempt]
) -> None:
    """A call that was cut short has its record; the one that was under way when the worker died has another."""
    crashed = await start()
    crashed.usage.add_unsettled_calls([UNANSWERED])
    await crashed.save_step(StepRecord("0001", b"1", Usage()), [])

    await complete(await start())

    assert ["answered", "unanswered", "unanswered"] == outcomes(table)


async def test_a_slow_attempt_keeps_its_earlier_records(table: MemoryTable, start: Callable[[], Attempt]) -> None:
    """What a slow attempt has recorded while it had its lease counts beside what it records afterwards."""
    slow = await start()
    slow.usage.add_unsettled_calls([UNANSWERED])
    await slow.save_step(StepRecord("0001", b"1", Usage()), [])
    heir = await start()
    slow.usage.add_unsettled_calls([ANSWERED])

    await slow.settle()
    await complete(heir)

    assert ["answered", "answered", "unanswered"] == outcomes(table)


@pytest.mark.parametrize("heir_at", [timedelta(0), timedelta(minutes=9)])
async def test_a_slow_attempt_is_recorded_once_across_months(
    table: MemoryTable, start: Callable[[], Attempt], clock: Clock, heir_at: timedelta
) -> None:
    """A placeholder is superseded if a new month has begun between it and the records of its attempt."""
    clock.time = datetime(2027, 3, 31, 23, 54, tzinfo=UTC)
    slow = await start()
    clock.time += heir_at
    await complete(await start())
    clock.time = datetime(2027, 4, 1, 0, 6, tzinfo=UTC)
    slow.usage.add_unsettled_calls([ANSWERED])

    await slow.settle()

    assert ["answered", "answered"] == outcomes(table)
    assert "2027-04" in [month for month, _ in records(table)]


async def test_a_failed_settlement_can_be_repeated(table: MemoryTable, start: Callable[[], Attempt]) -> None:
    """Wherever Storage fails, the records that a repetition leaves are the same, each once."""
    slow = await start()
    await complete(await start())
    slow.usage.add_unsettled_calls([ANSWERED, UNANSWERED])
    for fault in (Fault.LOST, Fault.REFUSED):
        table.faults.extend([None, fault])
        with pytest.raises(StorageUnavailable):
            await slow.settle()

    await slow.settle()

    assert ["answered", "answered", "unanswered"] == outcomes(table)
