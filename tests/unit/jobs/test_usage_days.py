"""Usage records around midnight: none is written for a day that is closed, none twice, and none gets lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.rollups import CLOSED_AFTER
from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_records import (
    LATEST_WRITE,
    RECORD,
    RecordLabels,
    day_of,
    marker_row,
    on_time,
    possible_keys,
    usage_rows,
)
from shared.contract.result import ConnectionLabel, Usage
from shared.errors import LeaseLost, StorageUnavailable
from shared.jobs import attempt as attempts
from shared.jobs import attempt_usage, ledger
from shared.jobs.attempt import Attempt
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row
from tests.support.attempts import ANSWERED, JOB, start
from tests.support.counted_records import counted
from tests.support.fakes import Fault, MemoryTable
from tests.support.rows import every_row

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)
EVENING = MIDNIGHT - timedelta(seconds=5)
LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
LABELS = RecordLabels("acme", "job-1", "chat", "m", LABEL, incarnation="0123abcd")
FETCHED = Call(Usage(calls=0, output_tokens=3), metered_as="batch-1")


class Clock:
    """The time of attempts and of the ledger; only the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = EVENING
        for module in (attempts, attempt_usage, ledger):
            monkeypatch.setattr(module, "now", lambda: self.time)
        monkeypatch.setattr(attempts, "STORAGE_WAITS_S", ())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands some seconds before midnight."""
    return Clock(monkeypatch)


async def take_over(table: MemoryTable, clock: Clock) -> Attempt:
    """Return the attempt that starts once the lease of the one before has expired."""
    row = table.rows["acme", "j_job-1"]
    await table.merge(replace(row, values={"lease_until": clock.time - timedelta(seconds=1)}))
    return await start(table)


def days(table: MemoryTable) -> list[str]:
    """Return the days of all usage records, markers and closed jobs."""
    return [key[2:12] for _, key in sorted(table.rows) if key[:5] in {"u_202", "m_202", "c_202"}]


def step_of(attempt: Attempt, key: str = "p0001") -> tuple[StepRecord, list[Call]]:
    """Return a step with a call, whose record is made now."""
    rows = attempt.step_usage(key, [ANSWERED])
    return StepRecord(key, b"1", Usage(calls=1), usage_rows=rows), [ANSWERED]


@every_row(
    ("at", "day"),
    [
        (MIDNIGHT, "2026-11-30"),
        (MIDNIGHT + LATEST_WRITE - timedelta(seconds=1), "2026-11-30"),
        (MIDNIGHT + LATEST_WRITE, "2026-12-01"),
        (MIDNIGHT + timedelta(days=40), "2027-01-10"),
    ],
)
def test_a_record_that_comes_late_gets_a_later_day(at: datetime, day: str):
    """Ten minutes after the end of its day a row gets the day of its time, and what names the row has its new key."""
    rows = [
        *usage_rows(LABELS, [ANSWERED, FETCHED], EVENING),
        marker_row(LABELS, 1, EVENING, since=EVENING),
        Row("acme", "s_x", {}),
    ]

    first, fetched, metered, marker, other = on_time(rows, at)

    assert [f"u_{day}_job-1_0123abcd_0000", f"u_{day}_job-1_0123abcd_0001", "m_batch-1"] == [
        row.key for row in (first, fetched, metered)
    ]
    assert (f"m_{day}_job-1_0123abcd_~1", "s_x") == (marker.key, other.key)
    assert fetched.key == metered.values[RECORD]
    assert {day} == {f"{row.values['at']:%Y-%m-%d}" for row in (first, fetched, marker)}
    assert [ANSWERED.usage.input_tokens] == [first.values["input_tokens"]]  # type: ignore[union-attr]


@given(st.integers(0, 366 * 1440).map(lambda minutes: EVENING - timedelta(minutes=minutes)), st.integers(0, 5 * 1440))
def test_no_record_is_written_for_a_closed_day(at: datetime, minutes: int):
    """However late it is written, the day has not ended more than ten minutes ago, and its key is a possible one."""
    written = at + timedelta(minutes=minutes)
    (row,) = usage_rows(LABELS, [ANSWERED], at)

    (moved,) = on_time([row], written)

    end = datetime.combine(day_of(moved) + timedelta(days=1), datetime.min.time(), UTC)
    assert written - end < LATEST_WRITE
    assert {row.key, moved.key} <= set(possible_keys(row, written))
    assert len(possible_keys(row, written)) <= 1 + (written.date() - at.date()).days


@pytest.mark.parametrize("late", [timedelta(minutes=5), timedelta(minutes=20), timedelta(days=2)], ids=str)
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
@pytest.mark.parametrize("later_faults", [[], [Fault.TWICE], [Fault.LOST, None], [Fault.REFUSED, None]], ids=repr)
async def test_a_repeated_write_is_made_once(
    clock: Clock, late: timedelta, fault: Fault, later_faults: list[Fault | None]
):
    """
    Storage does not answer before midnight, and the write is repeated after it: the record has the first day if that
    write was made, or if the day is not closed yet, and else the later one. There is never a second.
    """
    table = MemoryTable()
    attempt = await start(table)
    table.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await attempt.save_step(*step_of(attempt))

    clock.time += late
    table.faults.extend(later_faults)
    while attempt._unsaved:
        clock.time += timedelta(minutes=1)
        try:
            async with attempt._writing:
                await attempt._write_some()
        except StorageUnavailable:
            continue

    expected = EVENING if fault is Fault.LOST or late < LATEST_WRITE else clock.time
    assert [f"{expected:%Y-%m-%d}"] == days(table)
    assert 1 == len(counted(table.rows.values()))


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_a_row_that_others_have_changed_hides_no_write(clock: Clock, fault: Fault):
    """If the job's row has changed since a write whose answer got lost, its records are looked for under both days."""
    table = MemoryTable()
    attempt = await start(table)
    table.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await attempt.save_step(*step_of(attempt))
    row = table.rows["acme", "j_job-1"]
    await table.merge(Row("acme", "j_job-1", {"cancelled": True}, row.etag))

    clock.time += timedelta(minutes=30)
    async with attempt._writing:
        await attempt._write_some()

    assert ["2026-11-30" if fault is Fault.LOST else "2026-12-01"] == days(table)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
@pytest.mark.parametrize("late", [timedelta(0), timedelta(minutes=30), timedelta(days=1, minutes=30)], ids=str)
async def test_a_lost_lease_is_settled_once(clock: Clock, fault: Fault, late: timedelta):
    """
    An attempt that has lost its lease appends what it consumed, row by row: what is written stays, what is not gets
    the day of its time, and no call is recorded twice.
    """
    table = MemoryTable()
    slow = await start(table)
    slow.usage.add_unsettled_calls([ANSWERED, FETCHED])
    await take_over(table, clock)
    table.faults.extend([None, fault])
    with pytest.raises(StorageUnavailable):
        await slow.settle()

    clock.time += late
    await slow.settle()
    await slow.settle()

    later = f"{clock.time:%Y-%m-%d}"
    assert sorted([*["2026-11-30"] * (1 + (fault is Fault.LOST)), *[later] * (2 - (fault is Fault.LOST))]) == sorted(
        days(table)
    )
    assert 2 == len(counted(table.rows.values()))
    (metered,) = [row for (_, key), row in table.rows.items() if key == "m_batch-1"]
    assert ("acme", metered.values[RECORD]) in table.rows


async def test_a_write_is_recognized_by_a_later_attempt_of_its_own(clock: Clock):
    """A write that was made under a later day before the lease was lost is not appended once more."""
    table = MemoryTable()
    slow = await start(table)
    step = step_of(slow)
    clock.time += timedelta(minutes=30)
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await slow.save_step(*step)
    await take_over(table, clock)
    with pytest.raises(LeaseLost):
        async with slow._writing:
            await slow._write_some()

    await slow.settle()

    calls = [row for row in counted(table.rows.values()) if row.values["calls"]]
    assert [date(2026, 12, 1)] == [day_of(row) for row in calls]
    assert JOB.id in calls[0].key


def test_unanswered_calls_move_like_others():
    """A placeholder keeps the rest of its key, by which its marker is found."""
    (row,) = usage_rows(LABELS, [UNANSWERED], EVENING, suffix="~1")

    moved: list[Any] = [each.key for each in on_time([row], MIDNIGHT + LATEST_WRITE)]

    assert ["u_2026-12-01_job-1_0123abcd_~1"] == moved


class GuardedTable(MemoryTable):
    """A table that takes no row of a day that ended more than ten minutes ago."""

    clock: Clock

    def _write_now(self, row: Row, beside: Sequence[Row], operation_id: str, conflict: type[Exception]) -> bool:
        for each in (row, *beside):
            if each.key[:5] in {"u_202", "m_202", "c_202"}:
                end = datetime.combine(day_of(each) + timedelta(days=1), datetime.min.time(), UTC)
                assert self.clock.time - end < LATEST_WRITE
        return super()._write_now(row, beside, operation_id, conflict)


class SlowTable(MemoryTable):
    """A table that needs minutes for each write, and takes no row of a closed day. Others change the job meanwhile."""

    clock: Clock
    changes: int = 0
    """How many of the next writes find that the job's row has just been changed."""

    def _write_now(self, row: Row, beside: Sequence[Row], operation_id: str, conflict: type[Exception]) -> bool:
        self.clock.time += timedelta(minutes=4)
        if self.changes and row.key.startswith("j_"):
            self.changes -= 1
            current = self.rows["acme", row.key]
            super()._write_now(Row("acme", row.key, {"note": self.changes}, current.etag), [], "", conflict)
        for each in (row, *beside):
            if each.key[:5] in {"u_202", "m_202", "c_202"}:
                end = datetime.combine(day_of(each) + timedelta(days=1), datetime.min.time(), UTC)
                assert self.clock.time - end < CLOSED_AFTER
        return super()._write_now(row, beside, operation_id, conflict)


@pytest.mark.parametrize("fault", [None, Fault.LOST])
@pytest.mark.parametrize("changes", [0, 2, 6])
async def test_a_write_that_storage_delays_gets_the_day_on_which_it_is_made(
    clock: Clock, changes: int, fault: Fault | None
):
    """However often the job's row has changed before, each try has the day of its own time."""
    table = SlowTable()
    table.clock = clock
    attempt = await start(table)
    clock.time = EVENING
    table.faults.append(fault)
    step = step_of(attempt)
    table.changes = changes

    try:
        await attempt.save_step(*step)
    except StorageUnavailable:
        async with attempt._writing:
            await attempt._write_some()

    assert 1 == len(counted(table.rows.values()))


@pytest.mark.parametrize("calls", [1, 6])
async def test_calls_that_are_appended_for_long_get_the_day_of_their_time(clock: Clock, calls: int):
    """An attempt that has lost its lease appends its calls one by one, and what names a record has its key."""
    table = SlowTable()
    table.clock = clock
    slow = await start(table)
    slow.usage.add_unsettled_calls([*[ANSWERED] * calls, FETCHED])
    await take_over(table, clock)
    clock.time = EVENING

    await slow.settle()
    await slow.settle()

    assert calls + 1 == len(counted(table.rows.values()))
    (metered,) = [row for (_, key), row in table.rows.items() if key == "m_batch-1"]
    assert ("acme", metered.values[RECORD]) in table.rows


_actions = st.tuples(
    st.sampled_from(["step", "step", "call", "heartbeat", "change"]),
    st.lists(st.sampled_from([None, Fault.REFUSED, Fault.LOST, Fault.TWICE]), max_size=2),
    st.sampled_from([0, 0, 1, 9, 11, 700, 1500]),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_actions, max_size=7), st.sampled_from(["complete", "settle", "settle twice"]))
async def test_each_call_is_recorded_once_whatever_fails_around_midnight(
    actions: list[tuple[str, list[Fault | None], int]], ending: str
):
    """
    Steps, calls without a response and the end of a job are written while Storage fails in any way, others change the
    job's row, and hours or days pass: no call has two records or none, and none is written for a closed day.
    """
    with pytest.MonkeyPatch.context() as patch:
        table, clock = GuardedTable(), Clock(patch)
        table.clock = clock
        attempt, calls = await start(table), 0
        for number, (action, faults, minutes) in enumerate(actions):
            clock.time += timedelta(minutes=minutes)
            table.faults.extend(faults)
            try:
                if action == "change":
                    row = table.rows["acme", "j_job-1"]
                    table.faults.clear()
                    await table.merge(Row("acme", "j_job-1", {"note": number}, row.etag))
                elif action == "step":
                    calls += 1
                    await attempt.save_step(*step_of(attempt, f"p{number:04}"))
                else:
                    if action == "call":
                        calls += 1
                        attempt.usage.add_unsettled_calls([ANSWERED])
                    async with attempt._writing:
                        await attempt._write_some()
            except StorageUnavailable:
                pass
            table.faults.clear()
        clock.time += timedelta(minutes=11)
        if ending == "complete":
            calls += 1
            await attempt.complete(b"{}", "succeeded", [ANSWERED], clock.time)
        else:
            await take_over(table, clock)
            for _ in range(1 + (ending == "settle twice")):
                await attempt.settle()
                clock.time += timedelta(days=1)

    records = [row.key[len("u_2026-11-30_") :] for row in counted(table.rows.values()) if row.values["calls"]]
    assert calls == len(records)
    assert len(records) == len(set(records))
