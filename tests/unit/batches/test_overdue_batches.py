"""Batches that can't be read before the deadlines of their jobs: these end all the same, and the books follow later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.faults import error
from shared.billing.statements import Statements
from shared.clock import now
from shared.storage.base import Row
from tests.support.counted_records import counted
from tests.support.patient_budgets import monthly, total
from tests.support.sampled import Sampled
from tests.support.worker_crashes import CrashingApp, Process, crashing_app

HOUR = 3600.0


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[CrashingApp]:
    """An app whose worker dies when a test says so."""
    async with crashing_app(client, monkeypatch, Process()) as made:
        yield made


async def _sent(
    app: CrashingApp, processing: str = "batch", number: int = 2, deadline_s: float = HOUR
) -> tuple[str, Account, list[str]]:
    """Return a customer, its account, and jobs whose batch is at the provider for a quarter of an hour."""
    customer = app.customer()
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR / 4
    options = {"deadline_s": deadline_s, "processing": processing}
    jobs = [await app.send(customer, options=options) for _ in range(number)]
    await app.pass_time(600)
    assert len(account.batches) == 1
    return customer, account, jobs


async def _disconnect(app: CrashingApp, customer: str) -> None:
    app.stored.credentials.secrets.pop((customer, "default"))
    app.worker.services.connections.forget(customer, "default")


async def _connect(app: CrashingApp, customer: str) -> None:
    app.connect(customer, app.accounts[customer])
    app.worker.services.connections.forget(customer, "default")


def _usage(app: CrashingApp, customer: str) -> list[dict[str, Any]]:
    """Return the records that count."""
    rows = counted(row for (partition, _), row in app.stored.table.rows.items() if partition == customer)
    return [dict(row.values) for row in rows]


async def test_jobs_of_a_deleted_connection_end_soon_after_their_deadline(app: CrashingApp) -> None:
    """Their calls may have been billed. Once the connection is back, what was answered is on record."""
    customer, account, jobs = await _sent(app)
    started_at = app.clock() - 600
    await _disconnect(app, customer)
    await app.finish(jobs)
    assert 0 <= app.clock() - started_at - HOUR <= 10 * 60
    assert {app.result(job)["status"] for job in jobs} == {"failed"}
    assert [row["outcome"] for row in _usage(app, customer)] == ["unanswered"] * 2
    await app.pass_time(HOUR)
    await _connect(app, customer)
    await app.pass_time(HOUR)
    usage = _usage(app, customer)
    assert [(row["outcome"], row["processing"]) for row in usage] == [("lost", "batch")] * 2
    assert sorted(row["request_id"] for row in usage) == sorted(each.request_id for each in account.journal.billed())
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]
    assert account.files == {}
    assert len(app.results) == 2
    day = now().date()
    statement = await Statements(app.stored.table).read(customer, day - timedelta(days=1), day)
    assert (statement.totals.lost.records, statement.totals.unanswered.records) == (2, 0)


async def test_jobs_of_a_batch_that_meets_a_fault_of_ours_end_soon_after_their_deadline(app: CrashingApp) -> None:
    """Whatever it is. Once it is fixed, what was answered is on record."""
    customer, account, jobs = await _sent(app)
    started_at = app.clock() - 600
    (batch,) = (key for owner, key in app.stored.table.rows if owner == customer and key.startswith("p_"))
    odd = Row(customer, f"l_{batch.removeprefix('p_')}_00001x", {"job_id": "none"})
    await app.stored.table.insert(odd)
    await app.finish(jobs)
    assert 0 <= app.clock() - started_at - HOUR <= 10 * 60
    assert [row["outcome"] for row in _usage(app, customer)] == ["unanswered"] * 2
    app.stored.table.rows.pop((customer, odd.key))
    await app.pass_time(HOUR)
    usage = _usage(app, customer)
    assert [(row["outcome"], row["processing"]) for row in usage] == [("lost", "batch")] * 2
    assert sorted(row["request_id"] for row in usage) == sorted(each.request_id for each in account.journal.billed())
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]


@pytest.mark.parametrize("route", ["batches.get", "files.content"])
async def test_the_cheapest_is_bought_in_time_if_its_batch_can_not_be_read(app: CrashingApp, route: str) -> None:
    """Both calls may have been billed, and both are on record in the end."""
    customer, account, jobs = await _sent(app, "cheapest")
    started_at = app.clock() - 600
    account.faults.route(route, error(503), None)
    await app.finish(jobs)
    assert app.clock() - started_at < HOUR
    assert {app.result(job)["status"] for job in jobs} == {"succeeded"}
    bought = [(row.get("processing", ""), row["outcome"]) for row in _usage(app, customer)]
    assert sorted(bought) == [("", "unanswered")] * 2 + [("standard", "answered")] * 2
    account.faults.clear()
    await app.pass_time(HOUR)
    bought = [(row.get("processing", ""), row["outcome"]) for row in _usage(app, customer)]
    assert sorted(bought) == [("batch", "lost")] * 2 + [("standard", "answered")] * 2
    billed = sorted(each.request_id for each in account.journal.billed())
    assert sorted(row["request_id"] for row in _usage(app, customer)) == billed


async def test_a_call_that_turns_out_not_to_have_been_made_is_not_billed(app: CrashingApp) -> None:
    """The provider cancels the batch in the end, without having run it."""
    customer, account, jobs = await _sent(app)
    (batch,) = account.batches.values()
    batch.times["expires_at"], account.durations.cancelling_s = 1e12, HOUR
    for each in account.batches.values():
        each.status = "validating"  # nothing of it is run
    await app.finish(jobs)
    assert [row["outcome"] for row in _usage(app, customer)] == ["unanswered"] * 2
    await app.pass_time(2 * HOUR)
    assert batch.status == "cancelled"
    assert account.journal.billed() == []
    assert _usage(app, customer) == []
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]


async def test_a_job_that_is_late_itself_gets_the_answers_that_were_late(app: CrashingApp) -> None:
    """It has not said yet that there are none."""
    customer, account, jobs = await _sent(app)
    account.faults.route("batches.get", error(503), None)
    app.held.add("jobs")
    await app.pass_time(HOUR)
    account.faults.clear()
    await app.pass_time(HOUR)
    app.held.clear()
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)


async def test_a_budget_counts_calls_that_may_have_been_billed(app: CrashingApp) -> None:
    """At their estimate, as any such call."""
    customer, _, _ = await _sent(app, number=1)
    records = app.worker.services.customer_records
    budgets = {"main": monthly("1000000")}
    await records.change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")
    app.begin(Process())
    job = await app.send(customer, options={"deadline_s": HOUR})
    await app.pass_time(600)
    await _disconnect(app, customer)
    await app.finish([job])
    spent, reserved = total(app.stored.table, customer, "main")
    assert spent > 0
    assert reserved == 0


async def test_a_worker_may_die_while_the_books_follow(client, monkeypatch, sampled: Sampled) -> None:
    """At any operation; here at some. Each call is on record once."""
    for dies_at in sampled(range(1, 40), share=13):
        async with crashing_app(client, monkeypatch, Process()) as app:
            customer, account, jobs = await _sent(app)
            account.faults.route("batches.get", error(503), None)
            await app.pass_time(0.8 * HOUR)
            app.begin(Process(dies_at, after=dies_at % 2 == 0))
            await app.finish(jobs)
            account.faults.clear()
            await app.pass_time(HOUR)
            billed = sorted(each.request_id for each in account.journal.billed())
            assert sorted(row["request_id"] for row in _usage(app, customer)) == billed
            assert len(app.result(jobs[0])) > 0
            assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]
