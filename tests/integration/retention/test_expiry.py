"""What has outlived its retention goes, in its order, and nothing else does, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.contract.job import LONGEST_DEADLINE_S, Options
from shared.errors import SettingInvalid, StorageUnavailable
from shared.jobs.records import time_row
from shared.retention.expiry import NEVER, Reach, reach
from shared.retention.sweep import Sweep
from shared.settings import Settings, read_settings
from shared.storage.base import Row
from tests.support.endpoint import Endpoint, completion
from tests.support.fakes import Fault, MemoryBlobs, MemoryTable
from tests.support.harness import World, open_world

DAY = timedelta(days=1)
AT = datetime.now(UTC) + 400 * DAY
"""When the sweeps here take place: so long from now that what is written now is old."""
RESULTS = "results"


def settings(**values: str) -> Settings:
    """The app's settings, with the usual retention where nothing else is said."""
    return read_settings({"JobStorage": "x"} | values)


@dataclass
class Kept:
    """What is kept, in memory."""

    table: MemoryTable = field(default_factory=MemoryTable)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)

    async def done(self, customer: str, job_id: str, ago: timedelta, *, steps: int = 0, blobs: int = 0) -> None:
        """A job that ended so long before AT, with steps and blobs."""
        ended = AT - ago
        values = {"state": "done", "submitted_at": ended, "finished_at": ended, "lease_until": ended, "told": b"{}"}
        await self.table.insert(Row(customer, f"j_{job_id}", values), beside=[time_row(customer, job_id, ended)])
        for number in range(steps):
            await self.table.insert(Row(customer, f"s_{job_id}~{number}", {"value": b"1"}))
        for number in range(blobs):
            await self.blobs.write(RESULTS, f"{customer}/{job_id}/image-{number}.png", b"png", "image/png")

    async def unfinished(self, customer: str, job_id: str, ago: timedelta, lease_until: datetime, state: str) -> None:
        """A job that was submitted so long before AT and has not ended."""
        values = {"state": state, "submitted_at": AT - ago, "lease_until": lease_until}
        place = time_row(customer, job_id, values["submitted_at"])
        await self.table.insert(Row(customer, f"j_{job_id}", values), beside=[place])

    async def usage(self, customer: str, *months: str) -> None:
        """A usage record of each month."""
        for month in months:
            await self.table.insert(Row(customer, f"u_{month}_job_0000", {"calls": 1}))

    def sweep(self, **values: str) -> Sweep:
        """A sweep over it."""
        return Sweep(self.table, self.blobs, settings(**values))

    @property
    def left(self) -> list[str]:
        """
        Customer and key of each row, but for the sweep's own, and the names of the blobs. Places in time are
        where their jobs are.
        """
        rows = [f"{at}/{key}" for at, key in self.table.rows if at != "~sweep"]
        jobs = {re.sub("/t_[0-9]{14}_", "/j_", name) for name in rows if "/t_" in name}
        assert jobs <= set(rows)
        return sorted([*(name for name in rows if "/t_" not in name), *(name for _, name in self.blobs.blobs)])

    @property
    def places(self) -> int:
        """How many places in time there are."""
        return sum(key.startswith("t_") for _, key in self.table.rows)


@pytest.fixture
def kept() -> Kept:
    """Nothing yet."""
    return Kept()


@pytest.mark.parametrize(
    ("at", "months", "expected"),
    [
        ("2026-11-20", 24, "2024-11"),
        ("2026-12-31", 24, "2024-12"),
        ("2026-01-01", 1, "2025-12"),
        ("2026-01-31", 12, "2025-01"),
        ("2026-12-01", 120, "2016-12"),
        ("2026-12-01", 0, ""),
    ],
)
def test_usage_is_kept_for_whole_months(at: str, months: int, expected: str):
    """The month that runs and so many before it are kept; 0 keeps all."""
    wanted = reach(settings(RETAIN_USAGE_MONTHS=str(months)), datetime.fromisoformat(at).replace(tzinfo=UTC))

    assert expected == wanted.usage_before


def test_jobs_are_kept_for_days():
    """A job that ended earlier than so many days ago goes; 0 keeps all."""
    assert AT - 7 * DAY == reach(settings(RETAIN_JOBS_DAYS="7"), AT).jobs_before
    assert NEVER == reach(settings(RETAIN_JOBS_DAYS="0"), AT).jobs_before


@pytest.mark.parametrize("name", ["RETAIN_JOBS_DAYS", "RETAIN_USAGE_MONTHS"])
@pytest.mark.parametrize("value", ["-1", "1.5", "ever", "99999"])
def test_a_life_that_is_none_is_refused(name: str, value: str):
    """What is no whole number of a sensible size is refused when the settings are read."""
    with pytest.raises(SettingInvalid, match=name):
        settings(**{name: value})


def test_no_job_has_a_longer_deadline():
    """What is taken for abandoned is older than any deadline that a job can have."""
    longest = LONGEST_DEADLINE_S

    assert longest == msgspec.convert({"deadline_s": longest}, Options).deadline_s
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"deadline_s": longest + 1}, Options)


async def test_a_done_job_stays_as_long_as_a_message_of_it_may_wait(kept: Kept):
    """
    However short its life, a done job stays until no deadline that it can have is left: a second message of it that
    was put back is told, and buys nothing.
    """
    for job_id, ago in (("young", 7.9 * DAY), ("old", 8.1 * DAY)):
        await kept.done("contoso", job_id, ago, blobs=1)

    await kept.sweep(RETAIN_JOBS_DAYS="1").run(AT)

    assert ["contoso/j_young", "contoso/young/image-0.png"] == kept.left


async def test_a_pass_that_an_older_version_began_goes_on(kept: Kept):
    """A position without a time for submissions removes what is older than any deadline before its end of jobs."""
    for job_id, ago in (("young", 38 * DAY), ("old", 39 * DAY)):
        await kept.done("contoso", job_id, ago)
    values = {"jobs_before": AT - 30 * DAY, "usage_before": "", "customer": "contoso", "walk": "usage", "after": ""}
    await kept.table.insert(Row("~sweep", "position", values | {"sweep": "of an older version"}))

    await kept.sweep().run(AT)

    assert ["contoso/j_young"] == kept.left


async def test_an_expired_job_goes_as_a_whole(kept: Kept):
    """Row, steps and blobs of an expired job go; those of a younger one stay, also where ids begin alike."""
    await kept.done("contoso", "a", 31 * DAY, steps=3, blobs=2)
    await kept.done("contoso", "a-b", 29 * DAY, steps=2, blobs=1)
    await kept.done("contoso", "a.c", 31 * DAY, steps=1)
    await kept.done("contoso", "0", 31 * DAY)  # so that the younger one's steps lie between those that go
    await kept.done("fabrikam", "a", 29 * DAY, steps=1, blobs=1)
    sweep = kept.sweep()

    assert "complete" == await sweep.run(AT)

    assert [
        *("contoso/a-b/image-0.png", "contoso/j_a-b", "contoso/s_a-b~0", "contoso/s_a-b~1"),
        *("fabrikam/a/image-0.png", "fabrikam/j_a", "fabrikam/s_a~0"),
    ] == kept.left
    assert (3, 4, 2, 0) == (sweep.removed.jobs, sweep.removed.steps, sweep.removed.blobs, sweep.removed.usage)
    assert (2, 2) == (sweep.customers, kept.places)


async def test_old_usage_goes(kept: Kept):
    """Usage records of months beyond the retention go, by the month in their key."""
    month = f"{AT:%Y-%m}"
    first_kept = reach(settings(), AT).usage_before
    await kept.usage("contoso", "2024-02", "2023-12", first_kept, month)

    await kept.sweep().run(AT)

    assert sorted([f"contoso/u_{first_kept}_job_0000", f"contoso/u_{month}_job_0000"]) == kept.left


async def test_usage_outlives_its_job(kept: Kept):
    """Of an expired job the usage records stay until their own month is due."""
    await kept.done("contoso", "job", 31 * DAY)
    await kept.usage("contoso", f"{AT:%Y-%m}")

    await kept.sweep().run(AT)

    assert [f"contoso/u_{AT:%Y-%m}_job_0000"] == kept.left


async def test_nothing_goes_where_all_is_kept_for_ever(kept: Kept):
    """With both lives at 0 a sweep looks at no customer and writes nothing."""
    await kept.done("contoso", "job", 4000 * DAY, steps=1, blobs=1)
    await kept.usage("contoso", "1999-01")
    before = kept.left

    assert "complete" == await kept.sweep(RETAIN_JOBS_DAYS="0", RETAIN_USAGE_MONTHS="0").run(AT)

    assert before == kept.left
    assert ("~sweep", "position") not in kept.table.rows
    assert {} == kept.table.asked


async def test_each_life_is_by_itself(kept: Kept):
    """Jobs can be kept for ever while usage goes, and the other way round."""
    await kept.done("contoso", "job", 31 * DAY, blobs=1)
    await kept.usage("contoso", "2020-01")

    await kept.sweep(RETAIN_USAGE_MONTHS="0").run(AT)
    assert ["contoso/u_2020-01_job_0000"] == kept.left

    await kept.done("contoso", "job", 31 * DAY, blobs=1)
    await kept.sweep(RETAIN_JOBS_DAYS="0").run(AT)
    assert ["contoso/j_job", "contoso/job/image-0.png"] == kept.left


@pytest.mark.parametrize("state", ["running", "waiting", "cancelled"])
async def test_an_unfinished_job_stays_until_its_deadline_has_long_passed(kept: Kept, state: str):
    """A job that did not end goes when its retention is over, counted from the latest possible deadline."""
    lapsed = datetime.now(UTC) - timedelta(seconds=1)
    for job_id, ago in (("young", 36.9 * DAY), ("old", 37.1 * DAY)):
        await kept.unfinished("contoso", job_id, ago, lapsed, state)
        await kept.blobs.write(RESULTS, f"contoso/{job_id}/steps/1.json", b"1", "application/json")

    await kept.sweep().run(AT)

    assert ["contoso/j_young", "contoso/young/steps/1.json"] == kept.left


async def test_a_job_that_runs_stays_however_old(kept: Kept):
    """A row whose lease holds is not touched."""
    await kept.unfinished("contoso", "runs", 100 * DAY, datetime.now(UTC) + timedelta(seconds=60), "running")
    await kept.blobs.write(RESULTS, "contoso/runs/steps/1.json", b"1", "application/json")

    await kept.sweep().run(AT)

    assert ["contoso/j_runs", "contoso/runs/steps/1.json"] == kept.left


async def test_an_abandoned_job_goes(kept: Kept):
    """A row that never ended goes with its steps and blobs."""
    lapsed = datetime.now(UTC) - timedelta(seconds=1)
    await kept.unfinished("contoso", "lost", 38 * DAY, lapsed, "running")
    await kept.table.insert(Row("contoso", "s_lost~1", {"value": b"1"}))
    await kept.blobs.write(RESULTS, "contoso/lost/steps/2.json", b"1", "application/json")

    await kept.sweep().run(AT)

    assert [] == kept.left


class Claiming(MemoryTable):
    """A table in which somebody claims the job while the sweep is about to delete it."""

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """Deletes, after the claim."""
        for row in rows:
            found = self.rows.get((row.partition, row.key))
            if found and found.values.get("state") == "waiting":
                await self.merge(Row(row.partition, row.key, {"state": "running"}, found.etag))
        return await super().delete(rows)


async def test_an_abandoned_job_that_is_taken_up_stays():
    """A row that changes between the look at it and its deletion stays, and is not counted."""
    kept = Kept(Claiming())
    await kept.unfinished("contoso", "late", 38 * DAY, datetime.now(UTC) - DAY, "waiting")
    await kept.done("contoso", "done", 31 * DAY)
    sweep = kept.sweep()

    await sweep.run(AT)

    assert ["contoso/j_late"] == kept.left
    assert 1 == sweep.removed.jobs


class Reused(MemoryTable):
    """A table in which another sweep removes a done job first, and its id is handed in again."""

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """Deletes, after that."""
        if any(row.key == "j_done" for row in rows) and self.rows["contoso", "j_done"].values["state"] == "done":
            await super().delete([Row("contoso", "j_done", {})])
            await self.insert(Row("contoso", "j_done", {"state": "running", "submitted_at": AT}))
        return await super().delete(rows)


async def test_a_job_with_the_id_of_one_that_goes_stays():
    """A done row that is another by the time of its deletion is not deleted: somebody runs that job."""
    kept = Kept(Reused())
    await kept.done("contoso", "done", 31 * DAY)
    await kept.done("contoso", "other", 31 * DAY)

    await kept.sweep().run(AT)

    assert ["contoso/j_done"] == [name for name in kept.left if name.startswith("contoso/j_")]
    assert "running" == kept.table.rows["contoso", "j_done"].values["state"]


async def test_what_belongs_to_no_job_stays(kept: Kept):
    """Blobs of others in the results container, and rows of kinds that are not known, are left alone."""
    names = ["contoso/texts/a.txt", "contoso/plain.txt", "contoso/a#b?/x", "other.txt", "UPPER/job/result.json"]
    for name in names:
        await kept.blobs.write(RESULTS, name, b"x", "text/plain")
    await kept.done("contoso", "job", 31 * DAY, blobs=1)
    await kept.table.insert(Row("contoso", "x_new", {"finished_at": AT - 900 * DAY}))
    await kept.table.insert(Row("~other", "j_x", {"finished_at": AT - 900 * DAY}))

    assert "complete" == await kept.sweep().run(AT)

    assert sorted([*names, "contoso/x_new", "~other/j_x"]) == kept.left


async def test_a_missing_container_has_no_blobs(kept: Kept):
    """Where no result was ever put into a blob, rows go all the same."""
    kept.blobs.missing.add(RESULTS)
    await kept.done("contoso", "job", 31 * DAY)

    assert "complete" == await kept.sweep().run(AT)

    assert [] == kept.left


async def test_rows_wait_for_their_blobs(kept: Kept):
    """Where a blob can't be deleted the customer's rows stay, others' go, and the next pass ends it."""
    await kept.done("contoso", "job", 31 * DAY, blobs=2)
    await kept.done("fabrikam", "job", 31 * DAY, blobs=1)
    await kept.usage("contoso", "2020-01")
    kept.blobs.held.add("contoso/job/image-1.png")
    sweep = kept.sweep()

    assert "complete" == await sweep.run(AT)
    assert ["contoso/j_job", "contoso/job/image-1.png"] == kept.left
    assert 1 == sweep.faults

    kept.blobs.held.clear()
    await kept.sweep().run(AT + DAY)
    assert [] == kept.left


async def test_a_storage_that_is_down_ends_the_sweep(kept: Kept, caplog: pytest.LogCaptureFixture):
    """It is logged and not raised, nothing is lost, and the next sweep ends what was begun."""
    for number in range(5):
        await kept.done(f"c-{number}", "job", 31 * DAY, blobs=1)
    kept.table.down = True
    with caplog.at_level(logging.INFO):
        assert "storage_fault" == await kept.sweep().run(AT)
    assert "sweep_finished storage_fault customers=0 jobs=0" in caplog.text
    assert "The table is down." in caplog.text

    kept.table.down, kept.blobs.down = False, True
    sweep = kept.sweep()
    assert "storage_fault" == await sweep.run(AT)
    assert (3, 10) == (sweep.faults, len(kept.left))

    kept.blobs.down = False
    await kept.sweep().run(AT)
    await kept.sweep().run(AT + DAY)
    assert [] == kept.left


async def test_a_sweep_goes_on_where_the_last_one_stopped(kept: Kept):
    """With time for one page each, sweep after sweep removes its part, until all is gone."""
    kept.table.page_size = kept.blobs.page_size = 2
    for customer in ("contoso", "fabrikam"):
        for number in range(5):
            await kept.done(customer, f"job-{number}", 31 * DAY, steps=1, blobs=1)
    left, ended = [len(kept.left)], ""
    while ended != "complete":
        assert len(left) < 30
        ended = await kept.sweep().run(AT, seconds=0)
        left.append(len(kept.left))

    assert 0 == left[-1]
    assert sorted(left, reverse=True) == left
    assert len(set(left)) > 6


async def test_a_pass_keeps_its_reach(kept: Kept):
    """Rows that expire while a pass goes on wait for the next: their blobs were not looked at."""
    await kept.done("contoso", "old", 31 * DAY, blobs=1)
    await kept.done("contoso", "young", 29.5 * DAY, blobs=1)
    for _ in range(2):  # usage, blobs
        assert "goes_on" == await kept.sweep().run(AT, seconds=0)

    assert "complete" == await kept.sweep().run(AT + DAY)

    assert ["contoso/j_young", "contoso/young/image-0.png"] == kept.left
    await kept.sweep().run(AT + DAY)
    assert [] == kept.left


async def test_a_life_that_is_made_longer_holds_at_once(kept: Kept):
    """A pass that was begun with a shorter life goes on with the longer one."""
    await kept.done("contoso", "job", 31 * DAY, blobs=1)
    assert "goes_on" == await kept.sweep().run(AT, seconds=0)

    assert "complete" == await kept.sweep(RETAIN_JOBS_DAYS="60").run(AT)

    assert ["contoso/j_job", "contoso/job/image-0.png"] == kept.left


async def test_a_pass_a_day_is_enough(kept: Kept):
    """After a pass, another sweep asks one thing, until half a day has gone by or a life was made shorter."""
    await kept.done("contoso", "job", 29 * DAY)
    await kept.sweep().run(AT)
    kept.table.asked.clear()

    assert "complete" == await kept.sweep().run(AT + timedelta(hours=11))
    assert {} == kept.table.asked

    await kept.sweep().run(AT + timedelta(hours=13))
    assert kept.table.asked["page"]
    assert ["contoso/j_job"] == kept.left

    await kept.sweep(RETAIN_JOBS_DAYS="7").run(AT + timedelta(hours=13))
    assert [] == kept.left


class Fragile(MemoryTable):
    """A table at whose n-th request the sweep dies, or the request fails, as Storage's do."""

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
    """The worker is gone."""


@pytest.mark.parametrize("fault", [None, Fault.REFUSED, Fault.LOST, Fault.TWICE])
async def test_a_sweep_may_die_anywhere(fault: Fault | None):
    """At whatever request it breaks off: no row goes before its blobs and steps, and later sweeps end the work."""
    fail_at, ended = 0, False
    while not ended:
        fail_at += 1
        kept = Kept(Fragile())
        kept.table.page_size = kept.blobs.page_size = 2
        for customer in ("contoso", "fabrikam"):
            for number in range(3):
                await kept.done(customer, f"old-{number}", 31 * DAY, steps=1, blobs=1)
            await kept.done(customer, "young", 29 * DAY, steps=1, blobs=1)
            await kept.usage(customer, "2020-01", f"{AT:%Y-%m}")
        expected = sorted(name for name in kept.left if "old" not in name and "2020" not in name)
        assert isinstance(kept.table, Fragile)
        kept.table.requests, kept.table.fail_at, kept.table.fault = 0, fail_at, fault

        with contextlib.suppress(Died):
            await kept.sweep().run(AT)
        ended, kept.table.fail_at = kept.table.requests < fail_at, -1
        left = kept.left
        for name in left:
            job = re.search(r"(\w+)/(?:s_)?(old-\d)", name)
            assert job is None or f"{job[1]}/j_{job[2]}" in left, name
        assert set(expected) <= set(left)

        for day in range(2):
            await kept.sweep().run(AT + day * timedelta(hours=13))
        assert expected == kept.left
    assert fail_at > 30


async def test_two_sweeps_at_a_time_do_no_harm(kept: Kept):
    """Of two that begin together one goes through; both leave the same behind."""
    kept.table.page_size = 2
    for number in range(9):
        await kept.done("contoso", f"old-{number}", 31 * DAY, steps=1, blobs=1)
        await kept.done("contoso", f"young-{number}", 29 * DAY)

    ended = await asyncio.gather(*(kept.sweep().run(AT) for _ in range(3)))

    assert ["complete", "overtaken", "overtaken"] == sorted(ended)
    assert [f"contoso/j_young-{number}" for number in range(9)] == kept.left


async def test_a_sweep_knows_its_own_position_again(kept: Kept):
    """A position whose answer got lost, and was written twice, is not taken for another sweep's."""
    await kept.done("contoso", "job", 31 * DAY)
    await kept.sweep().run(AT - 9 * DAY)
    kept.table.faults.append(Fault.TWICE)

    assert "complete" == await kept.sweep().run(AT)

    assert [] == kept.left


async def test_a_sweep_that_lost_its_position_leaves(kept: Kept):
    """One that was held up finds that another has gone on, and leaves the position to it."""
    await kept.done("contoso", "job", 31 * DAY)
    slow, quick = kept.sweep(), kept.sweep()
    await slow._save(await slow._next(_place()))
    assert "complete" == await quick.run(AT)

    slow_place = await slow._next(_place())
    with pytest.raises(Exception, match=r"^$") as raised:
        await slow._save(slow_place)

    assert "Overtaken" == type(raised.value).__name__


def _place():
    from shared.retention.sweep import Position  # noqa: PLC0415

    return Position(Reach(AT, "", AT))


JOBS = 1000
COSTS = {
    "1000 expired jobs of one call": {"table page": 3, "table delete": 20},
    "1000 expired jobs of ten steps": {"table page": 12, "table delete": 120},
    "1000 expired jobs with a blob each": {
        "table page": 3,
        "table read": 1000,
        "table delete": 20,
        "blob delete": 1000,
    },
    "1000 old usage records": {"table page": 2, "table delete": 10},
}
"""Requests of a sweep besides those for its own position: the read at its begin and two writes."""


@pytest.mark.parametrize("case", COSTS)
async def test_a_sweep_costs_what_the_docs_say(kept: Kept, case: str):
    """The requests that a sweep takes are counted, and the table on the page has the same numbers."""
    for number in range(JOBS):
        name = f"job-{number}"
        if "usage" in case:
            await kept.table.insert(Row("contoso", f"u_2020-01_{name}_0000", {"calls": 1}))
        else:
            await kept.done("contoso", name, 31 * DAY, steps=10 * ("ten" in case), blobs=int("blob" in case))
    table, reads = kept.table, 0
    read = table.read

    async def counted(partition: str, key: str) -> Row | None:
        nonlocal reads
        reads += partition != "~sweep"
        return await read(partition, key)

    table.read = counted  # type: ignore[method-assign]

    assert "complete" == await kept.sweep().run(AT)

    asked = {f"table {name}": count for name, count in table.asked.items()} | {"table read": reads}
    asked |= {f"blob {name}": count for name, count in kept.blobs.asked.items()}
    asked = {name: count for name, count in asked.items() if count}
    assert [] == kept.left
    assert COSTS[case] | {"table next_partition": 3, "blob page": 1} == asked
    page = (Path(__file__).parents[3] / "docs/retention.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| {case} |"))
    of_tables = sum(count for name, count in asked.items() if name.startswith("table"))
    assert [of_tables, asked["blob page"], asked.get("blob delete", 0)] == [
        int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+) ", row.replace(case, ""))
    ]


@pytest_asyncio.fixture(scope="module")
async def own_world(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[World]:
    """A world in which nobody minds that a year goes by."""
    async with open_world(azurite, vault, endpoint) as opened:
        yield opened


async def test_what_real_jobs_leave_goes(own_world: World, caplog: pytest.LogCaptureFixture):
    """Jobs as the pipeline closes them, on Storage: first they and their blobs go, years later their usage."""
    customer = own_world.customer()
    customer.account.will_answer(completion("x" * 80_000))
    large = await customer.run(job_id="large", output={"blob": True})
    many = await customer.run(job_id="steps", action="multi_chat", input={"prompts": ["One?", "Two?"]})
    assert ["succeeded", "succeeded"] == [large["status"], many["status"]]
    kinds = {row["RowKey"][0] for row in await customer.rows()}
    assert {"j", "s", "t", "u"} == kinds
    stores = own_world.services.table, own_world.services.blobs, read_settings(own_world.environment)
    name, container = large["output_blob"]["name"], large["output_blob"]["container"]
    steps = sum(row["RowKey"].startswith("s_") for row in await customer.rows())
    blobs = len((await stores[1].page(container, f"{customer.name}/")).blobs)
    assert steps >= 2
    assert blobs >= 1
    for strange in ("a#b?/x", "it's/x", "x" * 200 + "/x"):  # no keys of jobs: none must be asked for
        await stores[1].write(container, f"{customer.name}/{strange}", b"x", "text/plain")

    await Sweep(*stores).run(datetime.now(UTC) + 29 * DAY)
    assert kinds == {row["RowKey"][0] for row in await customer.rows()}

    sweep = Sweep(*stores)
    with caplog.at_level(logging.INFO):
        assert "complete" == await sweep.run(datetime.now(UTC) + 31 * DAY)
    assert {"u"} == {row["RowKey"][0] for row in await customer.rows()}
    assert not await own_world.blobs.get_blob_client(container, name).exists()
    assert (2, steps, blobs) == (sweep.removed.jobs, sweep.removed.steps, sweep.removed.blobs)
    told = f"sweep_finished complete customers=1 jobs=2 steps={steps} blobs={blobs} usage=0 faults=0 run_ms="
    assert told in caplog.text

    await Sweep(*stores).run(datetime.now(UTC) + 800 * DAY)
    assert [] == await customer.rows()


@pytest.mark.parametrize("members", [{}, {"action": "multi_chat", "input": {"prompts": ["Hello?"]}}])
@pytest.mark.parametrize(("days", "usage"), [(1000, 1), (31, 2)], ids=["with its usage", "before its usage"])
async def test_an_id_is_free_again_after_its_time(own_world: World, days: int, usage: int, members: dict[str, object]):
    """
    Until it is removed a job is told and not bought again; after that its id is a new job's, whose calls are on record
    beside those of the first, where these are still kept.
    """
    customer = own_world.customer()
    stores = own_world.services.table, own_world.services.blobs, read_settings(own_world.environment)
    await customer.run(job_id="once", **members)
    await customer.run(job_id="once", **members)
    assert 1 == len(await customer.usage())

    await own_world.table.delete_entity("~sweep", "position")
    await Sweep(*stores).run(datetime.now(UTC) + days * DAY)
    again = await customer.run(job_id="once", **members)

    assert ("succeeded", 1) == (again["status"], again["usage"]["calls"])
    assert [("answered", 1)] * usage == [(row["outcome"], row["calls"]) for row in await customer.usage()]
    assert 2 == len(customer.account.received)


async def test_pages_on_storage_go_on(own_world: World, monkeypatch: pytest.MonkeyPatch):
    """A position with Storage's own continuation is kept in the table and taken up from there."""
    from shared.storage import tables  # noqa: PLC0415

    monkeypatch.setattr(tables, "_PAGE", 2)
    own = read_settings(own_world.environment)
    table, at = own_world.services.table, datetime.now(UTC) + 2000 * DAY
    for number in range(7):
        values = {"state": "done", "finished_at": at - 40 * DAY, "submitted_at": at - 40 * DAY}
        await table.insert(Row("c-paged", f"j_{number}", values))
    runs = 0
    while await Sweep(table, own_world.services.blobs, own).run(at, seconds=0) != "complete":
        runs += 1

    assert runs > 4
    assert [] == (await table.page("c-paged", "", "~")).rows
