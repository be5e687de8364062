"""Patient jobs beside what comes in between: messages, workers, other connections, a provider that never ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from local.provider.account import Account
from local.provider.faults import LOST, BatchFault, CallFault, error
from shared import clock
from shared.batches import gathering, records
from shared.jobs.batch_message import encode_batch_message
from tests.support.worker_crashes import CrashingApp, Process, crashing_app

HOUR = 3600.0


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[CrashingApp]:
    """An app whose worker dies when a test says so."""
    async with crashing_app(client, monkeypatch, Process()) as made:
        yield made


async def _sent(
    app: CrashingApp, number: int = 2, *, in_progress_s: float = HOUR / 2, **members: object
) -> tuple[str, Account, list[str]]:
    """Return a customer, its account, and jobs whose batch is at the provider."""
    customer = app.customer()
    account = app.accounts[customer]
    account.durations.in_progress_s = in_progress_s
    jobs = [await app.send(customer, **members) for _ in range(number)]
    await app.pass_time(600)
    assert len(account.batches) == 1
    return customer, account, jobs


def _message_of(app: CrashingApp, customer: str, index: int = 0) -> bytes:
    """Return the message that continues a job that waits."""
    return next(row["message"] for row in app.rows(customer, "l_")[index:] if row.get("message"))


async def test_a_job_s_message_that_comes_again_takes_nothing_from_it(app: CrashingApp) -> None:
    """While it waits, and at every minute of the harvest."""
    customer, account, jobs = await _sent(app)
    message = _message_of(app, customer)
    while app.clock() - account.batches.copy().popitem()[1].times["created_at"] < HOUR:
        await app.stored.queues.send("jobs", message)
        await app.pass_time(60)
    app.check(customer, jobs)
    assert {app.result(job)["usage"]["calls"] for job in jobs} == {1}


@pytest.mark.parametrize("ended_by", ["cancelled", "given up", "connection"])
async def test_a_job_that_ends_early_waits_for_its_calls_that_are_paid_for(app: CrashingApp, ended_by: str) -> None:
    """Its answers are on record, whatever made it end."""
    customer, account, (job, _) = await _sent(app)
    row = app.stored.table.rows[customer, f"j_{job}"]
    if ended_by == "cancelled":
        await app.cancel(customer, job)
    elif ended_by == "given up":
        await app.stored.table.merge(type(row)(customer, row.key, {"failed_attempts": 5}, row.etag))
    else:
        secret = app.stored.credentials.secrets.pop((customer, "default"), None)
        app.worker.services.connections.forget(customer, "default")
    await app.stored.queues.send("jobs", _message_of(app, customer))
    await app.pass_time(600)
    assert app.results == []
    if ended_by == "connection":
        app.stored.credentials.secrets[customer, "default"] = secret
        app.worker.services.connections.forget(customer, "default")
    await app.finish([job])
    await app.pass_time(HOUR)
    assert len([row for row in app.rows(customer, "u_") if row["outcome"] == "answered"]) == 2
    assert len(account.journal.billed()) == 2


async def test_a_connection_that_leads_elsewhere_buys_nothing_again(app: CrashingApp) -> None:
    """The other account is not asked for the batch; the calls are recorded as ones that may have been billed."""
    customer, account, jobs = await _sent(app, options={"deadline_s": HOUR})
    other = app.provider.account()
    app.connect(customer, other, endpoint=other.url.replace("127.0.0.1", "localhost"))
    app.worker.services.connections.forget(customer, "default")
    await app.finish(jobs)
    assert other.received == []
    assert {app.result(job)["status"] for job in jobs} == {"failed"}
    assert [row["outcome"] for row in app.rows(customer, "u_")] == ["unanswered"] * 2
    assert len(account.batches) == 1


async def test_a_batch_that_its_connection_finds_again_is_read(app: CrashingApp) -> None:
    """Its usage is that of the connection that served it, whatever the connection is by now."""
    customer, account, jobs = await _sent(app)
    other = app.provider.account()
    app.connect(customer, other, endpoint=other.url.replace("127.0.0.1", "localhost"))
    app.worker.services.connections.forget(customer, "default")
    await app.pass_time(HOUR)
    app.connect(customer, account)
    app.worker.services.connections.forget(customer, "default")
    await app.finish(jobs)
    app.check(customer, jobs)
    assert other.received == []


async def test_a_file_at_an_account_that_is_not_the_connection_s_any_more_is_uploaded_again(app: CrashingApp) -> None:
    """Nothing was bought yet."""
    customer = app.customer()
    account = app.accounts[customer]
    account.durations.file_processing_s = HOUR
    jobs = [await app.send(customer)]
    await app.pass_time(600)
    assert len(account.files) == 1
    other = app.provider.account()
    app.connect(customer, other, endpoint=other.url.replace("127.0.0.1", "localhost"))
    app.worker.services.connections.forget(customer, "default")
    await app.finish(jobs)
    assert app.result(jobs[0])["status"] == "succeeded"
    assert (len(account.batches), len(other.batches)) == (0, 1)


async def test_usage_names_the_connection_that_has_served(app: CrashingApp) -> None:
    """Between the harvest and the end of the job, its connection may become another one."""
    customer, account, jobs = await _sent(app)
    app.held.add("jobs")
    await app.pass_time(HOUR)
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]
    other = app.provider.account(style="azure")
    app.connect(customer, other, endpoint=other.url.replace("127.0.0.1", "localhost"))
    app.worker.services.connections.forget(customer, "default")
    app.held.clear()
    await app.finish(jobs)
    app.check(customer, jobs)
    assert {row["provider"] for row in app.rows(customer, "u_")} == {"openai"}
    assert other.received == []
    assert len(account.batches) == 1


async def test_a_rotated_key_reads_the_batch(app: CrashingApp) -> None:
    """The account is the same."""
    customer, account, jobs = await _sent(app)
    old = account.key
    account.key = "rotated-key-0123456789"
    app.provider.accounts[account.key] = app.provider.accounts.pop(old)
    app.connect(customer, account)
    await app.finish(jobs)
    app.check(customer, jobs)


async def test_a_key_of_another_account_at_the_same_endpoint_buys_nothing_again(app: CrashingApp) -> None:
    """It looks like a rotated key: the other account says that there is no such batch."""
    customer, _, jobs = await _sent(app, options={"deadline_s": HOUR})
    other = app.provider.account()
    app.connect(customer, other)
    app.worker.services.connections.forget(customer, "default")
    started_at = app.clock()
    await app.finish(jobs)
    assert app.clock() - started_at < 2 * HOUR
    assert other.batches == {}
    assert [row["outcome"] for row in app.rows(customer, "u_")] == ["unanswered"] * 2


async def test_a_creation_that_another_account_refuses_is_not_taken_for_none(app: CrashingApp) -> None:
    """The first one may exist, and so nothing is bought again."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("batches.create", LOST)
    jobs = [await app.send(customer, options={"deadline_s": HOUR})]
    while not account.batches:
        await app.pass_time(30)
    other = app.provider.account()
    app.connect(customer, other)
    app.worker.services.connections.forget(customer, "default")
    await app.finish(jobs)
    await app.pass_time(HOUR)
    assert (len(account.batches), len(other.batches)) == (1, 0)
    assert [row["outcome"] for row in app.rows(customer, "u_")] == ["unanswered"]


async def test_a_batch_that_its_provider_never_ends_is_cancelled_and_given_up(app: CrashingApp, caplog) -> None:
    """A day after its deadline; its jobs have ended soon after that."""
    customer, account, jobs = await _sent(app, in_progress_s=3 * HOUR, options={"deadline_s": HOUR})
    account.durations.cancelling_s = 100 * HOUR
    batch = next(iter(account.batches.values()))
    batch.times["expires_at"] = 1e12
    await app.finish(jobs, within_s=1.2 * HOUR)
    assert batch.status == "cancelling"
    await app.pass_time(27 * HOUR, step_s=600)
    assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]
    assert "batch_given_up" in caplog.text
    assert {app.result(job)["status"] for job in jobs} == {"failed"}
    assert [row["outcome"] for row in app.rows(customer, "u_")] == ["unanswered"] * 2


async def test_a_second_batch_is_cancelled_and_told(app: CrashingApp, caplog) -> None:
    """The list has shown the first one only after the second was created."""
    customer = app.customer()
    account = app.accounts[customer]
    account.durations.in_progress_s = HOUR
    account.faults.batches.add(BatchFault(list_late_s=HOUR / 2))
    account.faults.route("batches.create", LOST)
    jobs = [await app.send(customer) for _ in range(3)]
    await app.finish(jobs)
    assert [batch.status for batch in account.batches.values()] == ["cancelled", "completed"]
    assert {app.result(job)["status"] for job in jobs} == {"succeeded"}
    assert "batch_created_again" in caplog.text
    assert "batch_doubled" in caplog.text
    (row,) = app.rows(customer, "p_")
    billed_twice = len(account.journal.billed()) - 3
    assert (row["doubles"], row["doubled_lines"]) == (1, billed_twice)
    assert billed_twice > 0
    usage = app.rows(customer, "u_")
    assert sorted(row["request_id"] for row in usage) == sorted(each.request_id for each in account.journal.billed())
    assert sorted(row["outcome"] for row in usage) == ["answered"] * 3 + ["lost"] * billed_twice
    assert {(row["processing"], row["action"], row["model"]) for row in usage} == {("batch", "chat", "gpt-6-luna")}


@pytest.mark.long
async def test_a_worker_may_die_while_a_second_batch_is_recorded(client, monkeypatch) -> None:
    """At any operation after both are at the provider; here at some. Each call is on record once."""
    for dies_at in range(1, 40, 5):
        async with crashing_app(client, monkeypatch, Process()) as app:
            customer = app.customer()
            account = app.accounts[customer]
            account.durations.in_progress_s = HOUR
            account.faults.batches.add(BatchFault(list_late_s=HOUR / 2))
            account.faults.route("batches.create", LOST)
            jobs = [await app.send(customer) for _ in range(3)]
            await app.pass_time(1200)
            assert len(account.batches) == 2
            app.begin(Process(dies_at, after=dies_at % 2 == 0))
            await app.finish(jobs)
            await app.pass_time(HOUR)
            usage, billed = app.rows(customer, "u_"), account.journal.billed()
            assert len(billed) > 3
            assert sorted(row["request_id"] for row in usage) == sorted(each.request_id for each in billed)
            assert [row["state"] for row in app.rows(customer, "p_")] == ["done"]


async def test_a_batch_without_room_is_not_taken_for_its_successor(app: CrashingApp) -> None:
    """Both are of one file; the list shows the first one, while the answer to the second's creation got lost."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.batches.add(BatchFault(fail_code="token_limit_exceeded"))
    account.faults.batches.add(BatchFault(list_late_s=100))
    jobs = [await app.send(customer)]
    while not account.batches:
        await app.pass_time(10, step_s=10)
    account.faults.route("batches.create", LOST)
    while len(account.batches) < 2:
        await app.pass_time(10, step_s=10)
    await app.stored.queues.send("batches", encode_batch_message(customer, _batch_id(app, customer)))
    await app.deliver()
    assert "batches.list" in {request.route for request in account.received}
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert len(account.batches) == 2


def _batch_id(app: CrashingApp, customer: str) -> str:
    keys = (key for partition, key in app.stored.table.rows if partition == customer)
    return next(key.removeprefix("p_") for key in keys if key.startswith("p_"))


async def test_a_refused_creation_after_a_lost_one_is_looked_for(app: CrashingApp) -> None:
    """A 429 says nothing about the creation before."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.batches.add(BatchFault(list_late_s=400))
    account.faults.route("batches.create", LOST)
    account.faults.route("batches.create", error(429), 3)
    jobs = [await app.send(customer)]
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert len(account.batches) == 1


async def test_a_lost_message_of_a_batch_costs_minutes(app: CrashingApp) -> None:
    """Each message that the schedule sends is lost once."""
    customer = app.customer()
    jobs, lost = [await app.send(customer)], 0
    await app.deliver()
    for _ in range(60):
        app.clock.advance(60)
        await app.provider.settle()
        await app.worker.services.schedule.send_due(clock.now())
        sent = app.stored.queues.sent["batches"]
        if sent and lost < 6:
            lost += len(sent)
            sent.clear()
        await app.deliver()
    app.check(customer, jobs)
    assert lost == 6


async def test_a_full_batch_is_sent_at_once_and_others_join_the_next(app: CrashingApp, monkeypatch) -> None:
    """Whichever worker they come to."""
    for module in (records, gathering):
        monkeypatch.setattr(module, "MAX_LINES", 3)
    customer = app.customer()
    jobs = [await app.send(customer) for _ in range(5)]
    await app.deliver()
    app.begin(Process())
    jobs += [await app.send(customer) for _ in range(2)]
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)
    assert all(row["lines"] <= 3 for row in app.rows(customer, "p_"))


async def test_an_erased_customer_s_batch_ends_without_a_trace(app: CrashingApp) -> None:
    """No row of it comes again, and no message goes round without end."""
    customer, _, _ = await _sent(app)
    for key in [key for key in app.stored.table.rows if key[0] == customer]:
        app.stored.table.rows.pop(key)
    await app.pass_time(HOUR)
    assert app.messages == []
    assert app.results == []
    assert [key for key in app.stored.table.rows if key[0] in (customer, "~batches")] == []


async def test_an_answer_that_no_outcome_names_is_on_record(app: CrashingApp) -> None:
    """The filter has stopped one, of a job that fails; the other is bought once more, in another batch."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.calls.add(CallFault(200, match="filtered"))
    account.faults.calls.add(CallFault(500, match="broken"))
    prompts = ["filtered", "broken", "good"]
    jobs = [await app.send(customer, "multi_chat", input={"prompts": prompts})]
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs, succeeded=False)


async def test_answers_that_a_cancelled_batch_does_not_hand_out_are_not_bought_again(app: CrashingApp) -> None:
    """It says that it has some, and names no file: they may have been billed, and are on record so."""
    customer, account, jobs = await _sent(app, 4, in_progress_s=1.5 * HOUR, options={"deadline_s": HOUR})
    (batch,) = account.batches.values()
    while not batch.has_ended:
        await app.pass_time(10, step_s=10)
    assert batch.status == "cancelled"
    assert 0 < batch.completed < 4
    batch.output_file_id = None
    await app.finish(jobs)
    await app.pass_time(HOUR)
    assert {app.result(job)["status"] for job in jobs} == {"failed"}
    assert [row["outcome"] for row in app.rows(customer, "u_")] == ["unanswered"] * 4
