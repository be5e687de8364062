"""
Batches of Claude whose creation got no answer: what is adopted, waited for, created again, and left alone.

Nothing but its results says whose a batch is, and an account may have other apps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.provider.account import Account
from local.provider.batch import Batch
from local.provider.faults import LOST, RESET, BatchFault, error
from shared.batches.erasure import erase_at_providers
from shared.retention.customer_data import CustomerData
from shared.retention.customer_import import CustomerImport
from shared.retention.export_reader import ExportReader
from tests.support.counted_records import counted
from tests.support.worker_crashes import CrashingApp, Process, crashing_app
from tests.support.workers import Memory

HOUR = 3600.0


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[CrashingApp]:
    """An app whose worker dies when a test says so."""
    async with crashing_app(client, monkeypatch, Process()) as made:
        yield made


async def _foreign(account: Account, seconds: float, lines: int = 2, prefix: str = "nightly") -> Batch:
    """Return another app's batch, which takes so long."""
    account.faults.batches.add(BatchFault(in_progress_s=seconds))
    params = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Theirs."}]}
    requests = [{"custom_id": f"{prefix}-{number}", "params": params} for number in range(lines)]
    async with httpx.AsyncClient(headers={"x-api-key": account.key}, trust_env=False) as http:
        response = await http.post(f"{account.url}/messages/batches", json={"requests": requests})
    return account.batches[response.json()["id"]]


async def _until_created(app: CrashingApp, account: Account, calls: int = 1) -> None:
    while len(account.calls("message_batches.create")) < calls:
        await app.pass_time(30, step_s=30)


def _own(account: Account, *foreign: Batch) -> list[Batch]:
    return [each for each in account.batches.values() if each not in foreign]


def _usage(app: CrashingApp, customer: str) -> list[dict[str, Any]]:
    """Return the records that count."""
    rows = counted(row for (partition, _), row in app.stored.table.rows.items() if partition == customer)
    return [dict(row.values) for row in rows]


@pytest.mark.parametrize("exists", [True, False])
async def test_another_app_s_batch_is_waited_for_and_left_alone(app: CrashingApp, caplog, exists: bool) -> None:
    """It has as many lines, was created at the same time, and runs for hours; nothing is bought twice for it."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    account.faults.route("message_batches.create", LOST if exists else RESET)
    jobs = [await app.send(customer) for _ in range(2)]
    await _until_created(app, account)
    foreign = await _foreign(account, 2.2 * HOUR)
    await app.pass_time(HOUR / 2)
    assert len(_own(account, foreign)) == exists
    assert app.results == []
    assert "may be it" in caplog.text
    await app.finish(jobs)
    await app.pass_time(HOUR)
    (own,) = _own(account, foreign)
    assert own.status == "completed"
    app_calls = {each.target for each in account.calls("message_batches.cancel")}
    assert app_calls == set()
    account.journal.entries[:] = [each for each in account.journal.entries if each.prompt != "Theirs."]
    app.check(customer, jobs)
    assert foreign.status == ("in_progress" if exists else "completed")


async def test_another_app_s_batches_that_can_not_be_it_hold_nothing_up(app: CrashingApp) -> None:
    """One with other lines, one from before, one of another time; and those that have ended are read once."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    foreign = [await _foreign(account, 20 * HOUR)]
    await app.pass_time(HOUR)
    ended = [await _foreign(account, 1, prefix=f"ended-{number}") for number in range(3)]
    jobs = [await app.send(customer) for _ in range(2)]
    account.faults.route("message_batches.create", RESET)
    await _until_created(app, account, 5)  # with those of others
    foreign.append(await _foreign(account, 20 * HOUR, lines=3))
    began_at = app.clock()
    await app.finish(jobs)
    assert app.clock() - began_at < 1200
    for each in ended:
        assert len([call for call in account.calls("message_batches.results") if call.target == each.id]) == 1
    assert [each.status for each in foreign] == ["in_progress"] * 2
    assert len(_own(account, *foreign, *ended)) == 1


async def test_two_batches_of_one_account_are_told_apart(app: CrashingApp) -> None:
    """The answers to both creations got lost, and they have as many lines."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    account.faults.route("message_batches.create", LOST, 2)
    jobs = [await app.send(customer, model=f"claude-{name}") for name in ("haiku-4-5", "sonnet-4-5")]
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert len(account.batches) == 2
    assert account.calls("message_batches.cancel") == []


async def test_a_second_batch_is_recorded_and_told_once_it_is_known(app: CrashingApp, caplog) -> None:
    """The list has shown the first only after the second was created. It is not cancelled: it could be anybody's."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    account.faults.batches.add(BatchFault(list_late_s=HOUR / 2))
    account.faults.route("message_batches.create", LOST)
    jobs = [await app.send(customer) for _ in range(3)]
    await app.finish(jobs)
    await app.pass_time(HOUR)
    assert {app.result(job)["status"] for job in jobs} == {"succeeded"}
    assert [batch.status for batch in account.batches.values()] == ["completed"] * 2
    assert "batch_created_again" in caplog.text
    assert "batch_doubled" in caplog.text
    (row,) = app.rows(customer, "p_")
    assert (row["state"], row["doubles"], row["doubled_lines"]) == ("done", 1, 3)
    usage, billed = _usage(app, customer), account.journal.billed()
    assert sorted(row["request_id"] for row in usage) == sorted(each.request_id for each in billed)
    assert sorted(row["outcome"] for row in usage) == ["answered"] * 3 + ["lost"] * 3


async def test_a_batch_is_read_though_the_list_of_others_can_not_be(app: CrashingApp) -> None:
    """A second one is looked for as long as that takes, after the jobs have their answers."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    account.faults.batches.add(BatchFault(list_late_s=HOUR / 2))
    account.faults.route("message_batches.create", LOST)
    jobs = [await app.send(customer) for _ in range(2)]
    await _until_created(app, account, 2)
    await app.pass_time(60)
    account.faults.route("message_batches.list", error(503), times=None)
    await app.finish(jobs, within_s=2 * HOUR)
    assert {app.result(job)["status"] for job in jobs} == {"succeeded"}
    account.faults.clear()
    await app.pass_time(HOUR)
    assert [(row["state"], row["doubles"]) for row in app.rows(customer, "p_")] == [("done", 1)]
    assert sorted(row["outcome"] for row in _usage(app, customer)) == ["answered"] * 2 + ["lost"] * 2


async def test_jobs_end_in_time_though_it_is_not_known_whose_a_batch_is(app: CrashingApp) -> None:
    """Their calls may have been billed; once the batch has ended, they are on record as what they were."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = 5 * HOUR
    account.faults.route("message_batches.create", LOST)
    jobs = [await app.send(customer, options={"deadline_s": HOUR}) for _ in range(2)]
    started_at = app.clock()
    await app.finish(jobs)
    assert app.clock() - started_at < 1.2 * HOUR
    assert [row["outcome"] for row in _usage(app, customer)] == ["unanswered"] * 2
    await app.pass_time(6 * HOUR)
    usage = _usage(app, customer)
    assert [(row["outcome"], row["processing"]) for row in usage] == [("lost", "batch")] * 2
    assert sorted(row["request_id"] for row in usage) == sorted(each.request_id for each in account.journal.billed())
    assert len(account.batches) == 1
    assert account.calls("message_batches.cancel") == []
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]


@pytest.mark.parametrize("fault", [error(503), error(404)])
async def test_results_that_can_not_be_read_allow_no_other_batch(app: CrashingApp, fault: Any) -> None:
    """Whoever took them for somebody else's would buy them twice."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.faults.route("message_batches.create", LOST)
    account.faults.route("message_batches.results", fault, times=30)
    jobs = [await app.send(customer) for _ in range(2)]
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert len(account.batches) == 1


@pytest.mark.parametrize("fault", [error(400), error(413)])
async def test_a_refused_creation_ends_its_jobs(app: CrashingApp, fault: Any) -> None:
    """There is no batch, nothing is looked for, and nothing is billed."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.faults.route("message_batches.create", fault)
    jobs = [await app.send(customer) for _ in range(2)]
    await app.finish(jobs, within_s=HOUR)
    assert {app.result(job)["status"] for job in jobs} == {"failed"}
    assert account.calls("message_batches.list") == []
    assert _usage(app, customer) == []


@pytest.mark.parametrize("exported_s", [0, 299, 600, 15_000])
async def test_a_batch_is_not_bought_again_where_its_customer_is_imported(
    app: CrashingApp, tmp_path: Path, exported_s: int
) -> None:
    """Whether it was sent by the export, after it by the other deployment, or harvested there long ago."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    jobs = [await app.send(customer), await app.send(customer, "multi_chat", input={"prompts": ["1", "2"]})]
    await app.deliver()
    if 0 < exported_s < 10_000:
        await app.pass_time(exported_s)
    await _export(app, customer, tmp_path / "export")
    await app.pass_time(max(exported_s, 900))
    await _import(app, tmp_path / "export")
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert len(account.batches) == 1


async def test_a_batch_that_was_sent_long_after_the_export_is_not_bought_again(
    app: CrashingApp, tmp_path: Path
) -> None:
    """The export says that it gathers; Anthropic has refused it for an hour before it took it."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.faults.route("message_batches.create", error(429, retry_after_s=600), times=6)
    account.durations.in_progress_s = HOUR
    jobs = [await app.send(customer) for _ in range(2)]
    await app.deliver()
    await _export(app, customer, tmp_path / "export")
    while not account.batches:
        await app.pass_time(60)
    await _import(app, tmp_path / "export")
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert len(account.batches) == 1


async def _export(app: CrashingApp, customer: str, directory: Path) -> None:
    services = app.worker.services
    await CustomerData(services.table, services.blobs, services.settings, customer).export(directory)


async def _import(app: CrashingApp, directory: Path) -> None:
    """Go on in another deployment, into which an export is brought."""
    app.results.clear()
    app.stored, app.messages = Memory(credentials=app.stored.credentials), []
    app.begin(Process())
    services = app.worker.services
    await CustomerImport(services.table, services.blobs, services.settings, ExportReader(directory)).run()


async def test_a_customer_that_is_erased_leaves_no_answers(app: CrashingApp) -> None:
    """Those of a batch that is done are deleted, and one that runs is cancelled."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    await app.finish([await app.send(customer)])
    await app.pass_time(600)
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]
    account.durations.in_progress_s = HOUR
    await app.send(customer)
    await app.pass_time(900)
    assert len(account.batches) == 2
    erasure = await erase_at_providers(app.worker.services.batch_worker.parts, customer)
    assert (len(erasure.cancelled), erasure.left) == (1, {})
    assert [each.status for each in account.batches.values()] == ["cancelling"]


async def test_one_that_may_be_an_erased_customer_s_is_named(app: CrashingApp) -> None:
    """It can't be cancelled: it could be anybody's."""
    customer = app.customer(style="anthropic")
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    account.faults.route("message_batches.create", LOST)
    await app.send(customer)
    await app.pass_time(900)
    erasure = await erase_at_providers(app.worker.services.batch_worker.parts, customer)
    (left,) = erasure.left.values()
    assert next(iter(account.batches)) in left
    assert account.calls("message_batches.cancel") == []
