"""The timer has each month closed once for everybody who has anything in it, wherever one of its runs dies."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.errors import StorageUnavailable
from shared.jobs import closing_pass
from shared.jobs.closing_pass import MAX_ROUNDS, ClosingPass, last_closable
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries
from shared.jobs.statement_jobs import StatementJobs
from shared.jobs.versions import VERSION
from shared.storage.base import Row, Table
from tests.support.closable import add_usage, publish_prices
from tests.support.crashing_storage import Fate, Mortal, WorkerDied
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.rows import every_row
from tests.support.sampled import Sampled
from tests.support.workers import SETTINGS

NOVEMBER_FIRST = datetime(2026, 11, 1, 0, 30, tzinfo=UTC)
CUSTOMERS = [f"customer-{number}" for number in range(7)]


@dataclass
class Storage:
    """What the runs of a timer share."""

    table: MemoryTable = field(default_factory=lambda: MemoryTable(page_size=3))
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    queues: MemoryQueues = field(default_factory=MemoryQueues)

    def run(self, fate: Fate | None = None) -> ClosingPass:
        """Return a run of the timer in a worker of its own."""
        table, queues = (cast(Any, Mortal(store, fate or Fate())) for store in (self.table, self.queues))
        return ClosingPass(table, self.jobs(table, queues), PriceBooks(table, self.blobs, "statements"))

    def jobs(self, table: Table, queues: MemoryQueues) -> StatementJobs:
        """Return what submits the jobs."""
        outputs, customers = Outputs(SETTINGS, self.blobs), CustomerRecords(table)
        return StatementJobs(table, Ledger(table), JobQueries(table), outputs, queues, "jobs", customers)

    def messages(self) -> list[tuple[str, str]]:
        """Return customer and job of each message that was sent, without those that were sent twice."""
        jobs = [json.loads(body) for body, _ in self.queues.sent["jobs"]]
        return sorted({(job["customer"], job["job_id"]) for job in jobs})

    def rows(self, beginning: str = "j_") -> list[tuple[str, str]]:
        """Return the rows of jobs, or others."""
        return sorted(at for at in self.table.rows if at[1].startswith(beginning))


@pytest.fixture
async def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Seven customers with usage in October, pages of two customers, and prices."""
    monkeypatch.setattr(closing_pass, "_PAGE", 2)
    storage = Storage()
    await publish_prices(storage.table, storage.blobs)
    for customer in CUSTOMERS:
        await add_usage(storage.table, customer, month="2026-10")
    return storage


def jobs_of(month: str = "2026-10", customers: list[str] = CUSTOMERS) -> list[tuple[str, str]]:
    """Return each customer with the job that closes its month."""
    return [(customer, f"statement-{month}") for customer in customers]


async def test_everybody_with_anything_in_the_month_has_a_job(storage: Storage):
    """Usage, a closed job, a credit or debit; what is in another month, or nothing at all, does not count."""
    for customer, key in {
        "adjusted": "d_2026-10_credit",
        "closed": "c_2026-10-31_job_1",
        "early": "u_2026-09-30_job_1_0000",
        "late": "u_2026-11-01_job_1_0000",
        "debited-later": "d_2026-11_debit",
        "idle": "customer",
    }.items():
        await storage.table.insert(Row(customer, key, {}))

    assert "complete" == await storage.run().run(NOVEMBER_FIRST)

    assert jobs_of(customers=["adjusted", "closed", *CUSTOMERS]) == storage.messages()
    assert "idle" == await storage.run().run(NOVEMBER_FIRST)
    assert 9 == len(storage.queues.sent["jobs"])


@pytest.mark.parametrize("after", [False, True])
async def test_a_run_that_dies_anywhere_loses_nobody(storage: Storage, sampled: Sampled, after: bool):
    """The next run continues: everybody's message is sent, and everybody has one job."""
    whole = Fate()
    rows = dict(storage.table.rows)
    assert "complete" == await storage.run(whole).run(NOVEMBER_FIRST)
    assert whole.operations > 50
    for operation in sampled(range(1, whole.operations + 1)):
        storage.table.rows, storage.queues.sent = dict(rows), MemoryQueues().sent
        try:
            await storage.run(Fate(operation, after)).run(NOVEMBER_FIRST)
        except WorkerDied:
            pass
        else:
            pytest.fail("It did not die.")

        outcome = await storage.run().run(NOVEMBER_FIRST)

        assert outcome in {"complete", "idle"}
        assert jobs_of() == storage.messages()
        assert 7 == len(storage.rows()) == len(storage.rows("t_"))


async def test_a_run_whose_time_is_up_is_continued(storage: Storage):
    """It saves how far it has come; after as many runs as there are pages, everybody has one message."""
    outcomes = [await storage.run().run(NOVEMBER_FIRST, seconds=0) for _ in range(5)]

    assert ["incomplete", "incomplete", "incomplete", "complete", "idle"] == outcomes
    assert 7 == len(storage.queues.sent["jobs"])
    assert jobs_of() == storage.messages()


async def test_two_runs_at_once_submit_each_job_once(storage: Storage):
    """One of them finds that the other has continued, and stops."""
    outcomes = await asyncio.gather(storage.run().run(NOVEMBER_FIRST), storage.run().run(NOVEMBER_FIRST))

    assert ["complete", "overtaken"] == sorted(outcomes)
    assert jobs_of() == storage.messages()
    assert 7 == len(storage.rows())


class FailingTable(MemoryTable):
    """A table that does not answer for one customer, for so many reads."""

    failing = ""
    failures = 0

    async def page(self, partition: str, *args: Any, **options: Any) -> Any:
        """See `Table`."""
        if partition == self.failing and self.failures:
            self.failures -= 1
            raise StorageUnavailable("The partition is moving.")
        return await super().page(partition, *args, **options)


@pytest.mark.parametrize(("failures", "left_out"), [(1, False), (MAX_ROUNDS - 1, False), (MAX_ROUNDS, True)])
async def test_a_customer_for_whom_storage_fails_holds_nobody_up(storage: Storage, failures: int, left_out: bool):
    """
    And is not left out either, as long as Storage answers for it at last; else the log says so. Each run of the timer
    tries it once: an outage lasts longer than a moment.
    """
    storage.table = table = FailingTable(**vars(storage.table))
    table.failing, table.failures = CUSTOMERS[2], failures

    outcomes = [await storage.run().run(NOVEMBER_FIRST) for _ in range(MAX_ROUNDS + 1)]

    expected = [job for job in jobs_of() if not left_out or job[0] != CUSTOMERS[2]]
    rounds = min(failures + 1, MAX_ROUNDS)
    assert [*["incomplete"] * (rounds - 1), "complete", *["idle"] * (MAX_ROUNDS + 1 - rounds)] == outcomes
    assert expected == storage.messages()


async def test_a_job_of_a_later_version_holds_nobody_up(storage: Storage):
    """It is left to that version; the pass is made again for its sake, and everybody else has a job."""
    other = Row("customer-3", "j_statement-2026-10", {"state": "queued", "attempt": 0, "submitted_at": NOVEMBER_FIRST})
    values = {**other.values, "fingerprint": "later", "marker": "m", "version": VERSION + 1}
    await storage.table.insert(replace(other, values=values))

    assert "incomplete" == await storage.run().run(NOVEMBER_FIRST)

    assert jobs_of(customers=[each for each in CUSTOMERS if each != "customer-3"]) == storage.messages()


async def test_months_are_closed_one_after_the_other(storage: Storage):
    """Each in its turn, also if the app was stopped for two of them, and none before half past midnight."""
    for month in ("2026-11", "2026-12"):
        await add_usage(storage.table, "contoso", month=month, job=month)
    outcomes = [
        await storage.run().run(at)
        for at in (
            NOVEMBER_FIRST,
            datetime(2026, 11, 30, 23, 59, tzinfo=UTC),
            datetime(2026, 12, 1, 0, 29, tzinfo=UTC),
            datetime(2027, 1, 1, 0, 30, tzinfo=UTC),
            datetime(2027, 1, 1, 0, 40, tzinfo=UTC),
            datetime(2027, 1, 1, 0, 50, tzinfo=UTC),
        )
    ]

    assert ["complete", "idle", "idle", "complete", "complete", "idle"] == outcomes
    assert [*jobs_of("2026-11", ["contoso"]), *jobs_of("2026-12", ["contoso"]), *jobs_of()] == storage.messages()


async def test_without_a_price_book_no_month_is_closed_by_itself():
    """Nor later, when there is one: the operator closes it, if it is to be closed."""
    storage = Storage()
    await add_usage(storage.table, "contoso", month="2026-10")

    assert "complete" == await storage.run().run(NOVEMBER_FIRST)
    await publish_prices(storage.table, storage.blobs)

    assert "idle" == await storage.run().run(NOVEMBER_FIRST)
    assert [] == storage.messages()


async def test_an_id_from_before_is_logged(storage: Storage, caplog: pytest.LogCaptureFixture):
    """A caller's row with the job's id, from before such ids were refused, holds nobody else up."""
    values = {"state": "done", "attempt": 1, "fingerprint": "x", "submitted_at": NOVEMBER_FIRST}
    await storage.table.insert(Row(CUSTOMERS[0], "j_statement-2026-10", values))

    assert "complete" == await storage.run().run(NOVEMBER_FIRST)

    assert jobs_of()[1:] == storage.messages()
    assert f"statements_queued customer={CUSTOMERS[0]} The id of the job belongs to a caller's job" in caplog.text


@every_row(
    ("at", "month"),
    [
        ((2026, 12, 1, 0, 29), "2026-10"),
        ((2026, 12, 1, 0, 30), "2026-11"),
        ((2026, 12, 31, 23, 59), "2026-11"),
        ((2027, 1, 1, 0, 30), "2026-12"),
        ((2028, 3, 1, 1, 0), "2028-02"),
    ],
)
def test_the_last_month_can_be_closed_half_an_hour_later(at: tuple[int, ...], month: str):
    """In UTC."""
    assert month == last_closable(datetime(*at, tzinfo=UTC))  # type: ignore[arg-type,misc]
