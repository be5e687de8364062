"""What has outlived its retention is removed, in order, and nothing else is, whatever fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.billing.outbox import PARTITION, outbox_key
from shared.billing.rollups import Rollups
from shared.clock import now
from shared.errors import SettingInvalid, StorageUnavailable
from shared.jobs.records import time_row
from shared.jobs.schedule import Schedule
from shared.retention.expiry import EPOCH, Cutoff, Removal, Removed, cutoff_at
from shared.retention.sweep import Overtaken, Position, Sweep
from shared.settings import Settings, read_settings
from shared.storage.base import Row
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import Fault, MemoryQueues, MemoryTable
from tests.support.rows import every_row
from tests.support.sampled import Sampled

DAY = timedelta(days=1)
AT = now() + 400 * DAY
"""When the sweeps here run: long after now, so that what is written now is old."""
RESULTS = "results"


def settings(**values: str) -> Settings:
    """Return the app's settings, with the default retention unless `values` has another."""
    return read_settings({"JobStorage": "UseDevelopmentStorage=true"} | values)


@dataclass
class Data:
    """Rows and blobs in memory."""

    table: MemoryTable = field(default_factory=MemoryTable)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    queues: MemoryQueues = field(default_factory=MemoryQueues)

    async def done(self, customer: str, job_id: str, ago: timedelta, *, steps: int = 0, blobs: int = 0) -> None:
        """Add a job that ended `ago` before AT, with steps and blobs."""
        ended = AT - ago
        values = {
            "state": "done",
            "submitted_at": ended,
            "finished_at": ended,
            "lease_until": ended,
            "result_body": b"{}",
        }
        await self.table.insert(Row(customer, f"j_{job_id}", values), beside=[time_row(customer, job_id, ended)])
        for number in range(steps):
            await self.table.insert(Row(customer, f"s_{job_id}~{number}", {"value": b"1"}))
        for number in range(blobs):
            await self.blobs.write(RESULTS, f"{customer}/{job_id}/image-{number}.png", b"png", "image/png")

    async def unfinished(self, customer: str, job_id: str, ago: timedelta, lease_until: datetime, state: str) -> None:
        """Add a job that was submitted `ago` before AT and has not ended."""
        values = {"state": state, "attempt": 1, "submitted_at": AT - ago, "lease_until": lease_until}
        entry = time_row(customer, job_id, values["submitted_at"])
        await self.table.insert(Row(customer, f"j_{job_id}", values), beside=[entry])

    async def usage(self, customer: str, *months: str) -> None:
        """Add a usage record of each month."""
        for month in months:
            await self.table.insert(Row(customer, f"u_{month}-11_job_0000", {"calls": 1}))

    def sweep(self, **values: str) -> Sweep:
        """Return a sweep of it."""
        return Sweep(
            self.table,
            self.blobs,
            settings(**values),
            Schedule(self.table, self.queues, "jobs", "callbacks", "batches"),
        )

    @property
    def left(self) -> list[str]:
        """
        Customer and key of each row except the sweep's own and rollups, and the names of the blobs. Time entries are
        not among them; each belongs to a job that is.
        """
        rows = [f"{at}/{key}" for at, key in self.table.rows if at != "~sweep" and not key.startswith("r_")]
        jobs = {re.sub("/t_[0-9]{14}_", "/j_", name) for name in rows if "/t_" in name}
        assert jobs <= set(rows)
        return sorted([*(name for name in rows if "/t_" not in name), *(name for _, name in self.blobs.blobs)])

    @property
    def time_entries(self) -> int:
        """The number of time entries."""
        return sum(key.startswith("t_") for _, key in self.table.rows)


@pytest.fixture
def data() -> Data:
    """No data yet."""
    return Data()


@every_row(
    ("at", "months", "usage_before", "days", "jobs_before"),
    [
        ("2026-11-20", 24, "2024-11", 7, "2026-11-13"),
        ("2026-12-31", 24, "2024-12", 30, "2026-12-01"),
        ("2026-01-01", 1, "2025-12", 1, "2025-12-31"),
        ("2026-01-31", 12, "2025-01", 31, "2025-12-31"),
        ("2026-12-01", 120, "2016-12", 365, "2025-12-01"),
        ("2026-12-01", 0, "", 0, None),
    ],
)
def test_jobs_are_kept_for_days_and_usage_for_whole_months(
    at: str, months: int, usage_before: str, days: int, jobs_before: str | None
):
    """Jobs that ended in that many days, and usage of the current month and that many before it; 0 keeps all."""
    values = {"RETAIN_USAGE_MONTHS": str(months), "RETAIN_JOBS_DAYS": str(days)}

    cutoff = cutoff_at(settings(**values), datetime.fromisoformat(at).replace(tzinfo=UTC))

    first = EPOCH if jobs_before is None else datetime.fromisoformat(jobs_before).replace(tzinfo=UTC)
    assert (usage_before, first) == (cutoff.usage_before, cutoff.jobs_before)


@every_row("name", ["RETAIN_JOBS_DAYS", "RETAIN_USAGE_MONTHS", "RETAIN_STATEMENTS_YEARS"])
@every_row("value", ["-1", "1.5", "ever", "99999"])
def test_an_invalid_retention_is_refused(name: str, value: str):
    """Anything but a whole number of a sensible size is refused when the settings are read."""
    with pytest.raises(SettingInvalid, match=name):
        settings(**{name: value})


POSITION = {"jobs_before": AT - 30 * DAY, "usage_before": "", "customer": "contoso", "phase": "usage", "after": ""}


@pytest.mark.parametrize(
    ("days", "position", "young", "old"),
    [("1", None, 7.9, 8.1), ("30", POSITION | {"sweep": "of an older version"}, 38, 39)],
    ids=["a short retention", "a pass of an older version"],
)
async def test_a_finished_job_stays_as_long_as_a_message_of_it_may_wait(
    data: Data, days: str, position: dict[str, Any] | None, young: float, old: float
):
    """
    However short its retention, a finished job stays until any deadline that it can have has passed, so that a
    requeued second message of it replays the result and calls no model. A position without a cutoff for submissions
    removes jobs older than any deadline before its cutoff for jobs.
    """
    for job_id, ago in (("young", young), ("old", old)):
        await data.done("contoso", job_id, ago * DAY, blobs=1)
    if position is not None:
        await data.table.insert(Row("~sweep", "position", position))

    await data.sweep(RETAIN_JOBS_DAYS=days).run(AT)

    assert ["contoso/j_young", "contoso/young/image-0.png"] == data.left


async def test_an_expired_job_is_removed_as_a_whole(data: Data):
    """Row, steps and blobs of an expired job are removed; those of a younger one stay, even if the ids begin alike."""
    await data.done("contoso", "a", 31 * DAY, steps=3, blobs=2)
    await data.done("contoso", "a-b", 29 * DAY, steps=2, blobs=1)
    await data.done("contoso", "a.c", 31 * DAY, steps=1)
    await data.done("contoso", "0", 31 * DAY)  # so that the younger one's steps lie between those that are removed
    await data.done("fabrikam", "a", 29 * DAY, steps=1, blobs=1)
    sweep = data.sweep()

    assert "complete" == await sweep.run(AT)

    assert [
        *("contoso/a-b/image-0.png", "contoso/j_a-b", "contoso/s_a-b~0", "contoso/s_a-b~1"),
        *("fabrikam/a/image-0.png", "fabrikam/j_a", "fabrikam/s_a~0"),
    ] == data.left
    assert (3, 4, 2, 0) == (sweep.removed.jobs, sweep.removed.steps, sweep.removed.blobs, sweep.removed.usage)
    assert (2, 2) == (sweep.customers, data.time_entries)


async def test_an_imported_job_is_removed_as_a_whole(data: Data):
    """Its steps and blobs are as young as its row: its age is what the row says. Those of a younger one stay."""
    at = now()
    await data.done("contoso", "a", AT - at + 31 * DAY, steps=3, blobs=3)
    await data.done("contoso", "a-b", AT - at + 29 * DAY, steps=2, blobs=1)
    data.blobs.page_size = 2
    sweep = data.sweep()

    assert "complete" == await sweep.run(at)

    assert ["contoso/a-b/image-0.png", "contoso/j_a-b", "contoso/s_a-b~0", "contoso/s_a-b~1"] == data.left
    assert (1, 3, 3) == (sweep.removed.jobs, sweep.removed.steps, sweep.removed.blobs)


JOB = ["contoso/j_job", "contoso/job/image-0.png", "contoso/s_job~0"]
LATEST, FIRST_KEPT = f"{AT:%Y-%m}", cutoff_at(settings(), AT).usage_before
OLD = ["1999-01", "2024-02"]


@pytest.mark.parametrize(
    ("values", "jobs", "months"),
    [
        ({}, [], [FIRST_KEPT, LATEST]),
        ({"RETAIN_USAGE_MONTHS": "0"}, [], [*OLD, FIRST_KEPT, LATEST]),
        ({"RETAIN_JOBS_DAYS": "0"}, JOB, [FIRST_KEPT, LATEST]),
        (
            {"RETAIN_JOBS_DAYS": "0", "RETAIN_USAGE_MONTHS": "0", "RETAIN_STATEMENTS_YEARS": "0"},
            JOB,
            [*OLD, FIRST_KEPT, LATEST],
        ),
    ],
    ids=["default", "usage forever", "jobs forever", "everything forever"],
)
async def test_each_retention_is_independent(data: Data, values: dict[str, str], jobs: list[str], months: list[str]):
    """
    Usage records are removed by the month in their key, and outlive their job. Both can be kept forever; a sweep that
    keeps everything only looks for jobs whose wake-up got lost, and rolls days up.
    """
    await data.done("contoso", "job", 3000 * DAY, steps=1, blobs=1)
    await data.usage("contoso", *OLD, FIRST_KEPT, LATEST)

    assert "complete" == await data.sweep(**values).run(AT)

    assert sorted([*jobs, *(f"contoso/u_{month}-11_job_0000" for month in months)]) == data.left
    if len(values) > 1:
        data.table.counts.clear()
        assert "complete" == await data.sweep(**values).run(AT + DAY)
        assert {"page": 6, "next_partition": 3} == data.table.counts
    kept = [f"r_{month}-11_000" for month in months if month != LATEST]
    assert kept == sorted(key for _, key in data.table.rows if key.startswith(("r_1", "r_2")))


async def test_what_exports_need_goes_with_the_usage_records(data: Data, caplog: pytest.LogCaptureFixture):
    """
    Outbox rows, what was sent of a day, and budgets' events: those of removed months go, later ones stay. The log says
    what was never sent.
    """
    times = {month: datetime.fromisoformat(f"{month}-28T23:59:59+00:00") for month in (OLD[-1], FIRST_KEPT)}
    for month, at in times.items():
        keys = [
            f"{outbox_key(at)}_1",
            f"y_{at:%Y-%m-%d}_stripe",
            f"e_{month}_team_USD_80",
            f"e_{at:%Y-%m-%d}_team_USD_80",
        ]
        for key in keys:
            await data.table.insert(Row("contoso", key, {}))

    await data.sweep().run(AT)

    assert sorted([*(f"contoso/{key}" for key in keys), f"{PARTITION}/contoso"]) == sorted(data.left)
    assert ["exports_expired customer=contoso rows=1"] == [text for text in caplog.messages if "expired" in text]


async def test_what_waits_to_be_exported_goes_before_its_records(data: Data, monkeypatch: pytest.MonkeyPatch):
    """An export that found no record would take it for done, and the log would not say that it was never sent."""
    at = datetime.fromisoformat(f"{OLD[-1]}-28T12:00:00+00:00")
    for key in (f"u_{at:%Y-%m-%d}_job_0000", f"{outbox_key(at)}_1"):
        await data.table.insert(Row("contoso", key, {}))
    deleted: list[str] = []
    delete = data.table.delete

    async def note(rows: Sequence[Row]) -> Sequence[str]:
        deleted.extend(row.key[:2] for row in rows)
        return await delete(rows)

    monkeypatch.setattr(data.table, "delete", note)
    await data.sweep().run(AT)

    assert ["o_", "u_"] == [prefix for prefix in deleted if prefix in ("o_", "u_")]


@pytest.mark.parametrize("state", ["running", "waiting", "cancelled"])
async def test_an_unfinished_job_stays_until_its_deadline_has_long_passed(data: Data, state: str):
    """
    A job that did not end is removed, with its steps and blobs, when its retention is over, counted from its latest
    possible deadline. If its worker died, a placeholder stays. A row with a valid lease is not touched, however old.
    """
    for job_id, ago, lease_s in (("young", 36.9 * DAY, -1), ("old", 37.1 * DAY, -1), ("runs", 100 * DAY, 60)):
        await data.unfinished("contoso", job_id, ago, now() + timedelta(seconds=lease_s), state)
        await data.table.insert(Row("contoso", f"s_{job_id}~1", {"value": b"1"}))
        await data.blobs.write(RESULTS, f"contoso/{job_id}/steps/2.json", b"1", "application/json")

    await data.sweep().run(AT)

    left = [
        f"contoso/{name}"
        for job_id in ("young", "runs")
        for name in (f"j_{job_id}", f"s_{job_id}~1", f"{job_id}/steps/2.json")
    ]
    placeholders = [f"contoso/u_{now():%Y-%m-%d}_old_~1"] if state == "running" else []
    assert sorted([*left, *placeholders]) == data.left


async def test_a_job_that_was_to_run_later_counts_from_then(data: Data):
    """However long ago it was submitted, it is kept as if it had been submitted when it was due."""
    for job_id, state, due in (
        ("waits", "queued", AT + 20 * DAY),
        ("was due", "waiting", AT - 7.9 * DAY),
        ("never ran", "waiting", AT - 8.1 * DAY),
        ("ran", "done", AT - 7.9 * DAY),
        ("ran long ago", "done", AT - 8.1 * DAY),
    ):
        await data.unfinished("contoso", job_id, 38 * DAY, now() - DAY, state)
        row = data.table.rows["contoso", f"j_{job_id}"]
        ended = {"finished_at": AT - 2 * DAY} if state == "done" else {}
        await data.table.merge(Row("contoso", row.key, {"due_at": due, **ended}, row.etag))

    await data.sweep(RETAIN_JOBS_DAYS="1").run(AT)

    assert ["contoso/j_ran", "contoso/j_waits", "contoso/j_was due"] == data.left


class Changing(MemoryTable):
    """
    A table in which jobs change when the sweep is about to delete them: a worker claims the one that waits, or another
    sweep removes `j_reused` first, and its id is submitted again.
    """

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """Change the job, then delete."""
        for row in rows:
            current = self.rows.get((row.partition, row.key))
            state = current and current.values.get("state")
            if state == "waiting":
                await self.merge(Row(row.partition, row.key, {"state": "running"}, current.etag))
            if state == "done" and row.key == "j_reused":
                await super().delete([Row(row.partition, row.key, {})])
                await self.insert(Row(row.partition, row.key, {"state": "running", "submitted_at": AT}))
        return await super().delete(rows)


async def test_a_job_that_changes_before_its_deletion_stays():
    """An abandoned row that is claimed, or an expired one that is a new job's by then, stays, and is not counted."""
    data = Data(Changing())
    await data.unfinished("contoso", "late", 38 * DAY, now() - DAY, "waiting")
    for job_id in ("reused", "other"):
        await data.done("contoso", job_id, 31 * DAY)
    sweep = data.sweep()

    await sweep.run(AT)

    jobs = {key: row.values["state"] for (_, key), row in data.table.rows.items() if key.startswith("j_")}
    assert ({"j_late": "running", "j_reused": "running"}, 1) == (jobs, sweep.removed.jobs)


async def test_data_that_belongs_to_no_job_stays(data: Data):
    """Other blobs in the results container, and rows of unknown kinds, stay. A missing container has no blobs."""
    names = ["contoso/texts/a.txt", "contoso/plain.txt", "contoso/a#b?/x", "other.txt", "UPPER/job/result.json"]
    for name in names:
        await data.blobs.write(RESULTS, name, b"x", "text/plain")
    await data.done("contoso", "job", 31 * DAY, blobs=1)
    await data.table.insert(Row("contoso", "x_new", {"finished_at": AT - 900 * DAY}))
    await data.table.insert(Row("~other", "j_x", {"finished_at": AT - 900 * DAY}))

    assert "complete" == await data.sweep().run(AT)
    assert sorted([*names, "contoso/x_new", "~other/j_x"]) == data.left

    await data.done("contoso", "job", 31 * DAY)
    data.blobs.missing.add(RESULTS)
    assert "complete" == await data.sweep().run(AT + DAY)
    assert sorted([*names, "contoso/x_new", "~other/j_x"]) == data.left


async def test_rows_stay_as_long_as_their_blobs(data: Data):
    """If a blob can't be deleted, the customer's rows stay, others' are removed, and the next pass completes it."""
    await data.done("contoso", "job", 31 * DAY, blobs=2)
    await data.done("fabrikam", "job", 31 * DAY, blobs=1)
    await data.usage("contoso", "2020-01")
    data.blobs.locked.add("contoso/job/image-1.png")
    sweep = data.sweep()

    assert "complete" == await sweep.run(AT)
    assert ["contoso/j_job", "contoso/job/image-1.png"] == data.left
    assert 1 == sweep.skipped

    data.blobs.locked.clear()
    await data.sweep().run(AT + DAY)
    assert [] == data.left


async def test_a_storage_that_is_down_ends_the_sweep(data: Data, caplog: pytest.LogCaptureFixture):
    """It is logged and not raised, nothing is lost, and the next sweep completes the work."""
    for number in range(5):
        await data.done(f"c-{number}", "job", 31 * DAY, blobs=1)
    data.table.down = True
    with caplog.at_level(logging.INFO):
        assert "storage_error" == await data.sweep().run(AT)
    assert "sweep_finished storage_error customers=0 jobs=0" in caplog.text
    assert "The table is down." in caplog.text

    data.table.down, data.blobs.down = False, True
    sweep = data.sweep()
    assert "storage_error" == await sweep.run(AT)
    assert (3, 10) == (sweep.skipped, len(data.left))

    data.blobs.down = False
    await data.sweep().run(AT)
    await data.sweep().run(AT + DAY)
    assert [] == data.left


async def test_a_sweep_continues_where_the_last_one_stopped(data: Data):
    """With time for one page each, each sweep removes its part, until nothing is left."""
    data.table.page_size = data.blobs.page_size = 2
    for customer in ("contoso", "fabrikam"):
        for number in range(5):
            await data.done(customer, f"job-{number}", 31 * DAY, steps=1, blobs=1)
    left, outcome = [len(data.left)], ""
    while outcome != "complete":
        assert len(left) < 45
        outcome = await data.sweep().run(AT, seconds=0)
        left.append(len(data.left))

    assert 0 == left[-1]
    assert sorted(left, reverse=True) == left
    assert len(set(left)) > 6


async def test_a_pass_keeps_its_cutoff(data: Data):
    """
    Rows that expire during a pass wait for the next one, since their blobs were not removed. A retention that was made
    longer meanwhile takes effect at once.
    """
    await data.done("contoso", "old", 31 * DAY, blobs=1)
    await data.done("contoso", "young", 29.5 * DAY, blobs=1)
    everything = data.left
    assert "incomplete" == await data.sweep().run(AT, seconds=0)
    assert "complete" == await data.sweep(RETAIN_JOBS_DAYS="60").run(AT)
    assert everything == data.left

    for _ in range(2):  # usage, blobs
        assert "incomplete" == await data.sweep().run(AT, seconds=0)
    assert "complete" == await data.sweep().run(AT + DAY)
    assert ["contoso/j_young", "contoso/young/image-0.png"] == data.left
    await data.sweep().run(AT + DAY)
    assert [] == data.left


async def test_a_pass_a_day_is_enough(data: Data):
    """After a pass, a sweep makes one read, until half a day has passed or a retention was shortened."""
    await data.done("contoso", "job", 29 * DAY)
    await data.sweep().run(AT)
    data.table.counts.clear()

    assert "complete" == await data.sweep().run(AT + timedelta(hours=11))
    assert {} == data.table.counts

    await data.sweep().run(AT + timedelta(hours=13))
    assert data.table.counts["page"]
    assert ["contoso/j_job"] == data.left

    await data.sweep(RETAIN_JOBS_DAYS="7").run(AT + timedelta(hours=13))
    assert [] == data.left


class Fragile(MemoryTable):
    """A table at whose n-th request the worker dies, or the request fails as Storage's do."""

    fail_at = -1
    fault: Fault | None = None
    requests = 0

    async def _pass(self) -> None:
        self.requests += 1
        if self.requests == self.fail_at:
            if self.fault is None:
                raise Died
            if self.fault is Fault.REFUSED:
                raise StorageUnavailable("Not now.")
            self.faults.append(self.fault)
        await super()._pass()


class Died(BaseException):
    """The worker died."""


@every_row("fault", [None, Fault.REFUSED, Fault.LOST, Fault.TWICE])
async def test_a_sweep_may_crash_anywhere(sampled: Sampled, fault: Fault | None):
    """Whatever request fails, no row is removed before its blobs and steps, and later sweeps complete the work."""
    for fail_at in sampled(itertools.count(1)):
        data = Data(Fragile())
        data.table.page_size = data.blobs.page_size = 2
        for customer, jobs in (("contoso", 3), ("fabrikam", 1)):  # more than a page of them, and less
            for number in range(jobs):
                await data.done(customer, f"old-{number}", 31 * DAY, steps=1, blobs=1)
            await data.done(customer, "young", 29 * DAY, steps=1, blobs=1)
            await data.usage(customer, "2020-01", f"{AT:%Y-%m}")
        expected = sorted(name for name in data.left if "old" not in name and "2020" not in name)
        assert isinstance(data.table, Fragile)
        data.table.requests, data.table.fail_at, data.table.fault = 0, fail_at, fault

        with contextlib.suppress(Died):
            await data.sweep().run(AT)
        passed, data.table.fail_at = data.table.requests < fail_at, -1
        left = data.left
        for name in left:
            job = re.search(r"(\w+)/(?:s_)?(old-\d)", name)
            assert job is None or f"{job[1]}/j_{job[2]}" in left, name
        assert set(expected) <= set(left)

        for day in range(2):
            await data.sweep().run(AT + day * timedelta(hours=13))
        assert expected == data.left
        if passed:
            break
    assert fail_at > 30


async def test_concurrent_sweeps_do_no_harm(data: Data):
    """Of three that start together one completes, and the others stop."""
    data.table.page_size = 2
    for number in range(9):
        await data.done("contoso", f"old-{number}", 31 * DAY, steps=1, blobs=1)
        await data.done("contoso", f"young-{number}", 29 * DAY)

    outcomes = await asyncio.gather(*(data.sweep().run(AT) for _ in range(3)))

    assert ["complete", "overtaken", "overtaken"] == sorted(outcomes)
    assert [f"contoso/j_young-{number}" for number in range(9)] == data.left


async def test_a_sweep_recognizes_its_own_position(data: Data):
    """A position that was written twice, because the response was lost, is not another sweep's."""
    await data.done("contoso", "job", 31 * DAY)
    await data.sweep().run(AT - 9 * DAY)
    data.table.faults.append(Fault.TWICE)

    assert "complete" == await data.sweep().run(AT)

    assert [] == data.left


async def test_a_sweep_that_was_overtaken_stops(data: Data):
    """A delayed sweep finds that another one has continued, and leaves the position to it."""
    await data.done("contoso", "job", 31 * DAY)
    slow, quick, start = data.sweep(), data.sweep(), Position(Cutoff(AT, "", AT))
    await slow._save(await slow._next_customer(start))
    assert "complete" == await quick.run(AT)

    position = await slow._next_customer(start)
    with pytest.raises(Overtaken):
        await slow._save(position)


JOBS = 1000
COSTS = {
    "1000 expired jobs of one call": {"table page": 22, "table delete": 20, "table read": 2},
    "1000 expired jobs of ten steps": {"table page": 31, "table delete": 120, "table read": 2},
    "1000 expired jobs with a blob each": {"table page": 22, "table delete": 20}
    | {"table read": 1002, "blob delete": 1000},
    "1000 old usage records": {"table page": 21, "table delete": 10, "table read": 2},
}
"""Requests of a sweep, without those for its own position: one read and two writes."""


@pytest.mark.parametrize(
    "case",
    [case if "one call" in case or "usage" in case else pytest.param(case, marks=pytest.mark.long) for case in COSTS],
)
async def test_a_sweep_makes_as_many_requests_as_the_docs_say(data: Data, case: str):
    """The requests of a sweep are counted, and the table on the page has the same numbers."""
    for number in range(JOBS):
        name = f"job-{number}"
        if "usage" in case:
            await data.table.insert(Row("contoso", f"u_2020-01-11_{name}_0000", {"calls": 1}))
        else:
            await data.done("contoso", name, 31 * DAY, steps=10 * ("ten" in case), blobs=int("blob" in case))
    table, reads = data.table, 0
    read = table.read

    async def counted(partition: str, key: str) -> Row | None:
        nonlocal reads
        reads += partition != "~sweep"
        return await read(partition, key)

    table.read = counted  # type: ignore[method-assign]

    assert "complete" == await data.sweep().run(AT)

    requests = {f"table {name}": count for name, count in table.counts.items()} | {"table read": reads}
    requests |= {f"blob {name}": count for name, count in data.blobs.counts.items()}
    requests = {name: count for name, count in requests.items() if count}
    assert [] == data.left
    assert COSTS[case] | {"table next_partition": 3, "blob page": 1} == requests
    page = (Path(__file__).parents[3] / "docs/retention.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| {case} |"))
    of_tables = sum(count for name, count in requests.items() if name.startswith("table"))
    assert [of_tables, requests["blob page"], requests.get("blob delete", 0)] == [
        int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+) ", row.replace(case, ""))
    ]


async def test_nothing_is_left_of_a_customer_whose_usage_has_expired(data: Data):
    """With the last rollup goes the row that says how far the days are rolled up; a later day begins it anew."""
    day = f"{Rollups(data.table).last_closed_day()}"
    await data.table.insert(Row("contoso", f"u_{day}_job_0000", {"calls": 1}))
    await data.sweep().run(now())
    assert {f"r_{day}_000", "r_through"} == {key for _, key in data.table.rows if key.startswith("r_")}

    await data.sweep().run(AT + 800 * DAY)
    assert [] == [key for at, key in data.table.rows if at == "contoso"]

    await data.table.insert(Row("contoso", f"u_{day}_job_0001", {"calls": 1}))
    assert date.fromisoformat(day) == await Rollups(data.table).advance("contoso", ())


@pytest.mark.parametrize("deletions", range(3))
async def test_nothing_is_left_of_rollups_if_their_removal_is_interrupted(data: Data, deletions: int):
    """Whichever deletion fails, the next pass removes the rest, and the row that says how far they have come."""
    first = date(2020, 1, 1)
    days = [first + timedelta(days=number) for number in range(100)]
    for key in (*(f"r_{day}_000" for day in days), "r_through"):
        await data.table.insert(Row("contoso", key, {"through": f"{days[-1]}"}))
    data.table.faults.extend([None] * deletions + [Fault.REFUSED])
    removal = Removal(data.table, data.blobs, "results", Cutoff(EPOCH, FIRST_KEPT, EPOCH), Removed())

    for _ in range(2):
        with contextlib.suppress(StorageUnavailable):
            await removal.remove_rollups("contoso", "")

    assert [] == [key for _, key in data.table.rows if key.startswith("r_")]


async def test_a_sweep_rolls_up_what_it_keeps(data: Data):
    """
    Each closed day that is kept gets its rollup, also if the price book can't be read; a rollup whose month is removed
    goes with it, and the placeholders of the last two months before that stay as long as a marker may withdraw them.
    """
    await data.table.insert(Row("~prices", "current", {"sha256": "0" * 64, "at": AT, "by": "test"}))
    removed = (date.fromisoformat(f"{FIRST_KEPT}-01") - timedelta(days=1)).isoformat()
    long_ago = (date.fromisoformat(f"{FIRST_KEPT}-01") - timedelta(days=63)).isoformat()
    kept = [f"{FIRST_KEPT}-11", f"{Rollups(data.table).last_closed_day()}"]
    for day in (long_ago, removed, *kept):
        await data.table.insert(Row("contoso", f"u_{day}_job_0000", {"calls": 1}))
        await data.table.insert(Row("contoso", f"u_{day}_job_~1", {"calls": 0}))
        await data.table.insert(Row("contoso", f"r_{day}_000", {"format": 0}))

    assert "complete" == await data.sweep().run(AT)

    records = [*(f"u_{day}_job_0000" for day in kept), *(f"u_{day}_job_~1" for day in (removed, *kept))]
    assert [*sorted(f"contoso/{key}" for key in records), "~prices/current"] == data.left
    rollups = {key: row for (_, key), row in data.table.rows.items() if key.startswith("r_")}
    assert {f"r_{removed}_000", *(f"r_{day}_000" for day in kept), "r_through"} == rollups.keys()
    assert [2, 2] == [rollups[f"r_{day}_000"].values["count"] for day in kept]
    assert kept[-1] == rollups["r_through"].values["through"]
