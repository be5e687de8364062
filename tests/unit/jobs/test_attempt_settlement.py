"""What an attempt puts on record that has lost its lease, and what counts of it beside the records of its heir."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.billing.usage import Call
from shared.contract.result import Usage
from shared.errors import LeaseLost, StorageUnavailable
from shared.jobs import attempt as attempts
from shared.jobs import attempt_usage, ledger
from shared.jobs.attempt import Attempt
from shared.jobs.step_rows import StepRecord
from tests.support.attempts import ANSWERED, UNANSWERED, keys, outcomes, start, take_over
from tests.support.fakes import Fault, MemoryTable


@pytest.fixture
def table() -> MemoryTable:
    """A table in memory."""
    return MemoryTable()


async def complete(attempt: Attempt) -> None:
    """End the job with one call."""
    await attempt.complete(b"{}", "succeeded", [ANSWERED], attempts.now())


async def save(attempt: Attempt, calls: Sequence[Call]) -> None:
    """Record calls with a step that has none of its own."""
    attempt.usage.add_unsettled_calls(calls)
    await attempt.save_step(StepRecord("0001", b"1", Usage()), [])


@pytest.mark.parametrize("heir_first", [True, False])
@pytest.mark.parametrize("lost", [[], [UNANSWERED], [ANSWERED, UNANSWERED]])
@pytest.mark.parametrize("crashed", [False, True], ids=["", "after a crash"])
async def test_a_slow_attempt_is_recorded_once(
    table: MemoryTable, caplog: pytest.LogCaptureFixture, lost: list[Call], heir_first: bool, crashed: bool
) -> None:
    """
    Whoever writes first: the calls of a slow attempt have a record each, and the attempt none for a crash. That one
    before it crashed is written once, by the attempt that has the lease.
    """
    slow = await start(table)
    if crashed:
        slow = await take_over(table)
    heir = await take_over(table)
    slow.usage.add_unsettled_calls(lost)

    for end in (lambda: complete(heir), slow.settle)[:: 1 if heir_first else -1]:
        await end()

    assert sorted([call.outcome for call in [ANSWERED, *lost]] + ["unanswered"] * crashed) == outcomes(table)
    assert not caplog.records


async def test_a_crash_is_recorded_beside_a_call_that_was_cut_short(table: MemoryTable) -> None:
    """A call that was cut short has its record; the one that was under way when the worker died has another."""
    await save(await start(table), [UNANSWERED])

    await complete(await take_over(table))

    assert ["answered", "unanswered", "unanswered"] == outcomes(table)


async def test_a_slow_attempt_keeps_its_earlier_records(table: MemoryTable) -> None:
    """What it has recorded while it had its lease counts beside what it records afterwards, each call once."""
    slow = await start(table)
    await save(slow, [UNANSWERED])
    heir = await take_over(table)
    step = StepRecord("0002", b"2", Usage(), usage_rows=slow.step_usage("0002", [ANSWERED]))
    with pytest.raises(LeaseLost):
        await slow.save_step(step, [ANSWERED])
    slow.usage.add_unsettled_calls([UNANSWERED])

    for fault in (Fault.LOST, Fault.REFUSED):  # wherever Storage fails, a repetition leaves the same records
        table.faults.extend([None, fault])
        with pytest.raises(StorageUnavailable):
            await slow.settle()
    await slow.settle()
    await complete(heir)

    assert ["answered", "lost", "unanswered", "unanswered"] == outcomes(table)


@pytest.mark.parametrize("heir_at", [timedelta(0), timedelta(minutes=9)])
async def test_a_slow_attempt_is_recorded_once_across_months(
    table: MemoryTable, monkeypatch: pytest.MonkeyPatch, heir_at: timedelta
) -> None:
    """A placeholder is superseded if a new month has begun between it and the records of its attempt."""

    def set_time(time: datetime) -> None:
        for module in (attempts, attempt_usage, ledger):
            monkeypatch.setattr(module, "now", lambda: time)

    begin = datetime(2027, 3, 31, 23, 54, tzinfo=UTC)
    set_time(begin)
    slow = await start(table)
    set_time(begin + heir_at + timedelta(seconds=slow.ledger.lease_s))
    await complete(await start(table))
    set_time(datetime(2027, 4, 1, 0, 6, tzinfo=UTC))
    slow.usage.add_unsettled_calls([ANSWERED])

    await slow.settle()

    assert ["answered", "answered"] == outcomes(table)
    assert any(key.startswith("2027-04") and key.endswith("~1.1") for key in keys(table, "u"))


async def test_a_repeated_settlement_records_each_call(table: MemoryTable) -> None:
    """If Storage fails in the middle, the repetition leaves no call out, also if a write was under way before."""
    slow = await start(table)
    await take_over(table)
    slow.usage.add_unsettled_calls([replace(ANSWERED, outcome="lost")] * 3)
    step = StepRecord("0001", b"1", ANSWERED.consumed(), usage_rows=slow.step_usage("0001", [ANSWERED]))
    with pytest.raises(LeaseLost):
        await slow.save_step(step, [ANSWERED])
    table.faults.extend([None, Fault.REFUSED])
    with pytest.raises(StorageUnavailable):
        await slow.settle()

    await slow.settle()

    assert ["lost"] * 4 == outcomes(table)
