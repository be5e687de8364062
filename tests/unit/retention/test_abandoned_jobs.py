"""What the sweep records of jobs that never end: what their next attempt would have recorded."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from shared.billing.bucket_rows import pool_key
from shared.clock import now
from shared.contract.budget import Budget
from shared.errors import StorageUnavailable
from shared.jobs.attempt import OUTCOME_STEP
from shared.jobs.versions import VERSION
from shared.retention.abandoned_jobs import AbandonedJobs
from shared.retention.expiry import Removal, Removed, cutoff_at
from shared.storage.base import Row
from tests.support.customers import Customer
from tests.support.endpoint import after
from tests.support.workers import Worker

BUDGET = Budget(limit=Decimal(100_000), unit="tokens", period="month")


async def abandoned(worker: Worker, *, budget: Budget | None = BUDGET) -> Customer:
    """Return a customer whose job `x` lost its worker during its call."""
    customer = worker.customer()
    budgets = {"main": budget} if budget else {}
    await worker.services.customer_records.change(
        customer.name, lambda record: record.with_budgets(budgets), by="ann", subject="budgets"
    )
    rows: dict[tuple[str, str], Row] = {}

    async def remember() -> None:
        rows.update(worker.table.rows)

    customer.account.will_answer(after(remember))
    await worker.run(customer, job_id="x")
    worker.table.rows = dict(rows)
    await worker.expire_lease(customer, "x")
    return customer


def placeholders(worker: Worker, customer: Customer) -> list[tuple[str, dict[str, object]]]:
    """Return the keys and values of the job's `unanswered` records."""
    return [
        (key, {**row.values, "at": None})
        for (partition, key), row in sorted(worker.table.rows.items())
        if partition == customer.name and row.values.get("outcome") == "unanswered"
    ]


def spent(worker: Worker, customer: Customer) -> tuple[Decimal, Decimal]:
    """Return what is spent and reserved of the budget."""
    key = pool_key(customer.name, "main", BUDGET, now())
    rows = [row for (_, name), row in worker.table.rows.items() if name.startswith(key.prefix)]
    spent, reserved = (sum((Decimal(row.values[name]) for row in rows), Decimal(0)) for name in ("spent", "reserved"))
    return spent, reserved


def job_row(worker: Worker, customer: Customer) -> Row:
    """Return the job's row."""
    return worker.table.rows[customer.name, "j_x"]


async def test_the_sweep_records_what_the_next_attempt_would(worker: Worker):
    """The same placeholder, with the job's model and connection, and what was reserved is spent; only once."""
    customer = await abandoned(worker)
    reserved = spent(worker, customer)[1]
    before = dict(worker.table.rows)
    await worker.run(customer, job_id="x")
    expected = placeholders(worker, customer)
    worker.table.rows = dict(before)

    etag = await AbandonedJobs(worker.table).settle(job_row(worker, customer))

    assert 1 == len(expected)
    assert expected == placeholders(worker, customer)
    assert (reserved, 0) == spent(worker, customer)
    assert reserved > 0
    assert etag == job_row(worker, customer).etag == await AbandonedJobs(worker.table).settle(job_row(worker, customer))
    assert expected == placeholders(worker, customer)


async def test_a_job_without_a_reservation_is_recorded_too(worker: Worker):
    """Its row says nothing of the connection. So are attempts before the last one that have no record yet."""
    customer = await abandoned(worker, budget=None)
    await worker.change_row(customer, "x", attempt=3, crashed_attempts="1", state="running")

    await AbandonedJobs(worker.table).settle(job_row(worker, customer))

    records = placeholders(worker, customer)
    assert ["~1", "~3"] == [key.rpartition("_")[2] for key, _ in records]
    assert {("chat", "unknown")} == {(values["action"], values["connection"]) for _, values in records}


async def test_calls_that_are_on_record_get_no_placeholder(worker: Worker):
    """An attempt that has stored the job's outcome had no call under way."""
    customer = await abandoned(worker)
    await worker.table.insert(Row(customer.name, f"s_x~{OUTCOME_STEP}", {}))

    await AbandonedJobs(worker.table).settle(job_row(worker, customer))

    assert [] == placeholders(worker, customer)


@pytest.mark.parametrize("made", [True, False])
async def test_a_sweep_that_fails_leaves_all_or_nothing(worker: Worker, monkeypatch: pytest.MonkeyPatch, made: bool):
    """The record and what is spent are one transaction; the next sweep adds what is missing, and nothing twice."""
    customer = await abandoned(worker)
    write = worker.table.merge_and_insert

    async def fail(*arguments: object, **options: object) -> None:
        if made:
            await write(*arguments, **options)  # type: ignore[arg-type]
        raise StorageUnavailable("Storage does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(worker.table, "merge_and_insert", fail)
        with pytest.raises(StorageUnavailable):
            await AbandonedJobs(worker.table).settle(job_row(worker, customer))
    assert made == bool(placeholders(worker, customer)) == (spent(worker, customer)[0] > 0)

    await AbandonedJobs(worker.table).settle(job_row(worker, customer))

    assert 1 == len(placeholders(worker, customer))
    assert 0 == spent(worker, customer)[1]


async def test_a_job_that_is_claimed_meanwhile_is_left_alone(worker: Worker):
    """Its new attempt records everything."""
    customer = await abandoned(worker)
    row = job_row(worker, customer)
    await worker.change_row(customer, "x", attempt=2)

    assert "" == await AbandonedJobs(worker.table).settle(row)
    assert [] == placeholders(worker, customer)


async def test_a_job_that_closes_a_month_has_made_no_call(worker: Worker):
    """Its attempt that died leaves nothing that may have been billed."""
    customer = await abandoned(worker, budget=None)
    await worker.change_row(customer, "x", action="statement")

    assert await AbandonedJobs(worker.table).settle(job_row(worker, customer))
    assert [] == placeholders(worker, customer)


async def test_a_job_of_a_later_version_is_left_to_its_sweep(worker: Worker):
    """Its reservation may have a shape that this version can't read. The sweep goes on with other jobs."""
    customer = await abandoned(worker)
    await worker.change_row(customer, "x", version=VERSION + 1, reservation='{"invented": 1}')

    assert "" == await AbandonedJobs(worker.table).settle(job_row(worker, customer))
    assert [] == placeholders(worker, customer)


async def test_the_record_is_exported(worker: Worker):
    """As any other usage record."""
    customer = await abandoned(worker)
    await worker.change_row(customer, "x", submitted_at=now() - timedelta(days=400))
    settings = worker.services.settings
    removal = Removal(worker.table, worker.services.blobs, "results", cutoff_at(settings, now()), Removed(), ["stripe"])

    assert "" == await removal.remove_jobs(customer.name, "")

    (key, _), *_ = placeholders(worker, customer)
    outbox = [row for (_, name), row in worker.table.rows.items() if name.startswith("o_")]
    assert [[key]] == [json.loads(row.values["records"]) for row in outbox]
    assert 1 == removal.removed.jobs
