"""Jobs that wait for more than two minutes: a row of the schedule instead of a hidden message."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.contract.job import decode_job
from shared.errors import StorageUnavailable
from shared.jobs import admission
from shared.jobs.schedule import Schedule
from shared.jobs.schedule_entries import ALL, PARTITIONS
from shared.jobs.status import document_of
from shared.retention.customer_data import CustomerData
from shared.retention.sweep import Sweep
from shared.storage.base import MAX_HIDDEN_S, Row, RowPage
from tests.support.customers import Customer
from tests.support.endpoint import error
from tests.support.fakes import Fault, MemoryTable
from tests.support.sampled import few_by_default
from tests.support.simulated_time import SimulatedTime
from tests.support.workers import Worker

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=100)
MONTH = timedelta(days=32)


def entries(worker: Worker) -> list[Row]:
    """The rows of the schedule."""
    return [row for (partition, _), row in sorted(worker.table.rows.items()) if partition in PARTITIONS]


async def send_due(worker: Worker, after: timedelta) -> list[bytes]:
    """Run the timer when so much time has passed; return the messages that it sends. None is hidden."""
    await worker.services.schedule.send_due(now() + after)
    sent = worker.requeued()
    assert all(delay_s == 0 for _, delay_s in sent)
    return [body for body, _ in sent]


async def status(worker: Worker, customer: Customer, job_id: str) -> Any:
    """The job's status document."""
    record = await worker.services.queries.get(customer.name, job_id)
    assert record is not None
    return document_of(record)


async def defer(worker: Worker, customer: Customer, *job_ids: str, after_s: int = 3600) -> None:
    """Have the endpoint ask jobs for a long wait."""
    for job_id in job_ids:
        customer.account.will_answer(error(429, message="Slow down.", retry_after=str(after_s)))
        assert await worker.deliver(customer, job_id=job_id) is None


async def test_a_long_wait_leaves_the_queue(worker: Worker):
    """
    While a job waits, there is no message of it, and the schedule has its customer, id and due time alone. Once it is
    due, its message is sent, and it goes on where it stopped. Nothing of its wait is left then.
    """
    customer = worker.customer()
    before = now()
    await defer(worker, customer, "waits")
    (entry,) = entries(worker)
    waiting, row = await status(worker, customer, "waits"), worker.row(customer, "waits")

    assert [] == worker.requeued()
    assert {"customer": customer.name, "job_id": "waits"} == entry.values
    due_ms, of_customer, job_id = entry.key.split("_", 2)
    assert (customer.name, "waits") == (of_customer, job_id)
    assert before + HOUR <= datetime.fromtimestamp(int(due_ms) / 1000, UTC) <= now() + 1.1 * HOUR
    assert ("waiting", 1, "rate_limited") == (waiting.status, waiting.attempts, waiting.error.code)
    assert rfc3339(row["due_at"]) == waiting.due_at

    assert [] == await send_due(worker, 0.99 * HOUR)
    (body,) = await send_due(worker, 1.1 * HOUR + timedelta(seconds=1))
    result = await worker.run(customer, body)

    assert ("succeeded", 2) == (result["status"], result["attempts"])
    assert ([], []) == (entries(worker), await send_due(worker, MONTH))
    assert (b"", None) == (worker.row(customer, "waits")["wakeup"], (await status(worker, customer, "waits")).due_at)


@pytest.mark.parametrize(("after_s", "hidden"), [(10, True), (105, True), (121, False), (80_000, False)])
async def test_only_short_waits_are_hidden_messages(worker: Worker, after_s: int, hidden: bool):
    """Up to two minutes, a message waits in the queue; no message is ever hidden for longer."""
    customer = worker.customer()
    await defer(worker, customer, "waits", after_s=after_s)

    sent = worker.requeued()
    assert (hidden, not hidden) == (bool(sent), bool(entries(worker)))
    assert all(delay_s <= MAX_HIDDEN_S for _, delay_s in sent)


@pytest.mark.parametrize(("write", "fault"), few_by_default(itertools.product(range(9), Fault), 4))
async def test_nothing_is_lost_by_a_fault(worker: Worker, monkeypatch: pytest.MonkeyPatch, write: int, fault: Fault):
    """Whichever write fails, gets lost or is made twice: the job ends with its result, bought once, and no entry."""
    time = SimulatedTime()
    time.install(monkeypatch)
    customer = worker.customer()
    customer.account.will_answer(error(429, retry_after="3600"))
    messages = [customer.body(job_id="waits")]
    worker.table.faults.extend([*[None] * write, fault])
    result = None
    for _ in range(12):
        time.time += timedelta(seconds=60)  # a lease ends whose answer got lost
        if not messages:
            try:
                messages = await send_due(worker, MONTH)
            except StorageUnavailable:
                messages = [body for body, _ in worker.requeued()]
            continue
        try:
            result = await worker.deliver(customer, messages[0]) or result
        except StorageUnavailable:
            continue  # the host delivers the message again
        messages = messages[1:] + [body for body, _ in worker.requeued()]

    assert result is not None
    assert "succeeded" == result["status"]
    assert [("answered", 1, 18)] == [each for each in worker.outcomes(customer) if each[0] == "answered"]
    assert ([], []) == (await send_due(worker, MONTH), entries(worker))


async def test_a_doubled_wake_up_is_harmless(worker: Worker):
    """Two timers run at the same time, as they may: the job is run once, and its result published again."""
    customer = worker.customer()
    await defer(worker, customer, "waits")
    await asyncio.gather(*(worker.services.schedule.send_due(now() + 2 * HOUR) for _ in range(2)))
    messages = worker.requeued()

    results = [await worker.run(customer, body) for body, _ in messages]

    assert 2 == len(results)
    assert results[0] == results[1]
    assert 2 == len(customer.account.received)


async def test_whoever_sends_the_message_wakes_the_job(worker: Worker):
    """An operator, or a provider's webhook, need not wait; the time of the entry then passes without effect."""
    customer = worker.customer()
    await defer(worker, customer, "by-id", "by-message")

    assert await worker.services.schedule.wake(customer.name, "by-id")
    ((body, _),) = worker.requeued()
    results = [await worker.run(customer, body), await worker.run(customer, job_id="by-message")]

    assert ["succeeded"] * 2 == [result["status"] for result in results]
    assert ([], []) == (await send_due(worker, MONTH), entries(worker))
    assert not await worker.services.schedule.wake(customer.name, "by-id")
    assert not await worker.services.schedule.wake(customer.name, "unknown")


async def test_a_job_that_waits_again_has_its_new_time(worker: Worker):
    """It was woken early and waits again, so that its first entry is not its own any more."""
    customer = worker.customer()
    await defer(worker, customer, "waits", after_s=600)
    await defer(worker, customer, "waits", after_s=7200)

    assert 2 == len(entries(worker))
    assert [] == await send_due(worker, HOUR)
    assert 1 == len(entries(worker))
    assert 1 == len(await send_due(worker, 3 * HOUR))


async def test_callbacks_wait_in_the_schedule_too(worker: Worker):
    """The callback of a job that is done goes into its own queue when it is due, and is found if it got lost."""
    customer, schedule = worker.customer(), worker.services.schedule
    name, queue = customer.name, worker.services.settings.callbacks_queue
    await worker.run(customer, job_id="done")

    await schedule.send(name, "done", b"soon", delay_s=60, waits="callback")
    await schedule.send(name, "done", b"later", delay_s=300, waits="callback")
    await schedule.send(name, "done", b"a job's", delay_s=300)  # it can't be continued
    hidden, waiting = worker.queues.sent.pop(queue), len(entries(worker))
    await schedule.send_due(now() + HOUR)
    sent = worker.queues.sent.pop(queue)
    await schedule.wake_overdue(name, now() + HOUR)

    assert ([(b"soon", 60)], 1, [(b"later", 0)], []) == (hidden, waiting, sent, entries(worker))
    assert [(b"later", 0)] == worker.queues.sent.pop(queue)
    assert [] == worker.requeued()


@pytest.mark.parametrize("lost", ["the entry", "the message"])
async def test_the_sweep_finds_a_lost_wake_up(worker: Worker, lost: str, caplog: pytest.LogCaptureFixture):
    """Even if all data is kept forever, it looks once a day, and sends what was due an hour ago or more."""
    customer = worker.customer()
    await defer(worker, customer, "lost", "waits")
    if lost == "the entry":
        await worker.table.delete([entry for entry in entries(worker) if entry.values["job_id"] == "lost"])
    else:
        await send_due(worker, 2 * HOUR)
        await worker.change_row(customer, "waits", waits="", wakeup=b"")
    await worker.change_row(customer, "lost", due_at=now() - 1.1 * HOUR)
    services = worker.services

    with caplog.at_level(logging.INFO):
        await Sweep(services.table, services.blobs, services.settings, services.schedule).run()
    ((body, _),) = worker.requeued()

    assert "jobs_woken overdue sent=1 failed=0" in caplog.text
    assert "lost" == (await worker.run(customer, body))["job_id"]


async def test_a_cancelled_job_ends_at_once(worker: Worker):
    """Its message is sent when it is cancelled, or when it is put into the schedule and was cancelled meanwhile."""
    customer = worker.customer()
    await defer(worker, customer, "waits")
    body = worker.wakeup(customer, "waits")
    calls = len(customer.account.received)

    assert "cancelled" == await worker.services.updates.cancel(customer.name, "waits")
    await worker.services.schedule.add(customer.name, "waits", now() + HOUR, body)
    await worker.services.schedule.wake(customer.name, "waits")
    results = [await worker.run(customer, body) for body, _ in worker.requeued()]

    assert ["cancelled"] * 2 == [result["error"]["code"] for result in results]
    assert ([], calls) == (await send_due(worker, MONTH), len(customer.account.received))


async def test_a_job_that_runs_does_not_wait(worker: Worker):
    """Another message of it has continued it meanwhile; one that was erased has only its message, hidden briefly."""
    customer = worker.customer()
    body = customer.body(job_id="runs")
    await worker.claim(customer, "runs", body)

    await worker.services.schedule.add(customer.name, "runs", now() + HOUR, body)
    assert ([], []) == (entries(worker), worker.requeued())
    await worker.services.schedule.add(customer.name, "erased", now() + HOUR, body)
    assert ([], [(body, MAX_HIDDEN_S)]) == (entries(worker), worker.requeued())


async def test_a_job_whose_time_came_meanwhile_is_woken(worker: Worker):
    """Storage was so slow that the timer has taken the entry before the job had its message."""
    customer = worker.customer()
    await defer(worker, customer, "waits")
    body = worker.wakeup(customer, "waits")

    await worker.services.schedule.add(customer.name, "waits", now(), body)

    assert [(body, 0)] == worker.requeued()


async def test_one_that_can_not_be_sent_holds_up_no_other(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It stays in the schedule for the next minute, and the log says so."""
    customer = worker.customer()
    await defer(worker, customer, *(f"job-{number}" for number in range(5)))
    read = worker.table.read

    async def fail_once(partition: str, key: str) -> Row | None:
        if key == "j_job-2":
            raise StorageUnavailable("The table is down.")
        return await read(partition, key)

    monkeypatch.setattr(worker.table, "read", fail_once)
    with caplog.at_level(logging.INFO):
        assert 4 == len(await send_due(worker, MONTH))
    monkeypatch.undo()

    assert "jobs_woken due sent=4 failed=1" in caplog.text
    assert ["job-2"] == [entry.values["job_id"] for entry in entries(worker)]
    assert 1 == len(await send_due(worker, MONTH))


@dataclass
class Paged(MemoryTable):
    """A table whose pages are read in order. `times` are its reads."""

    partitions: list[str] = field(default_factory=list)

    async def page(self, partition: str, *args: Any, **options: Any) -> RowPage:
        """See `Table`."""
        self.partitions.append(partition)
        return await super().page(partition, *args, **options)


async def test_what_is_due_is_sent_in_pages_while_there_is_time(worker: Worker):
    """A run with no time left sends nothing more; the next one goes on. All entries of a customer are together."""
    table, customer = Paged(page_size=2), worker.customer()
    schedule = Schedule(table, worker.queues, "jobs", "callbacks", "batches")
    for number in range(5):
        row = Row(customer.name, f"j_job-{number}", {"state": "waiting"})
        await table.insert(row)
        await schedule.add(customer.name, f"job-{number}", now() + HOUR * (number + 1), f"{number}".encode())

    await schedule.send_due(now() + MONTH, seconds=0)
    assert ([], []) == (table.partitions, worker.requeued())
    await schedule.send_due(now() + MONTH)

    assert {b"%d" % number for number in range(5)} == {body for body, _ in worker.requeued()}
    assert set(ALL) == set(table.partitions)
    assert 2 + len(ALL) == len(table.partitions)


async def test_an_erased_customer_leaves_no_entry(worker: Worker):
    """Others' stay."""
    customer, other = worker.customer(), worker.customer()
    await defer(worker, customer, "one", "two")
    await defer(worker, other, "three")
    services = worker.services

    counts = await CustomerData(services.table, services.blobs, services.settings, customer.name).erase()

    assert counts.nothing_left
    assert ["three"] == [entry.values["job_id"] for entry in entries(worker)]


async def test_a_wait_costs_as_much_as_the_docs_say(worker: Worker):
    """The operations on tables: to put a job into the schedule, to wake it, and a run with nothing due."""
    customer = worker.customer()
    await defer(worker, customer, "waits")
    schedule, table = worker.services.schedule, worker.table
    counts = [table.operations]
    await schedule.add(customer.name, "waits", now() + 2 * HOUR, b"{}")
    counts.append(table.operations)
    await schedule.send_due(now() + 0.5 * HOUR)
    counts.append(table.operations)
    await schedule.wake(customer.name, "waits")
    counts.append(table.operations)

    added, idle, woken = (after - before for before, after in itertools.pairwise(counts))
    page = (Path(__file__).parents[3] / "docs/scale.md").read_text()
    assert f"once for each wait | {added} to tables" in page
    assert f"with nothing due | {idle} queries" in page
    assert f"to wake it | {woken} read, 1 message" in page


# Jobs that are to run later.


@pytest.mark.parametrize("way", ["submitted", "from the queue"])
async def test_a_job_runs_at_its_time(worker: Worker, way: str):
    """
    Until `run_at` it is queued, without an attempt; its deadline counts from then. Submitting it again changes nothing.
    If its message comes too early, it goes on waiting.
    """
    customer, run_at = worker.customer(), now() + 5 * HOUR
    body = customer.body(job_id="later", options={"run_at": rfc3339(run_at), "deadline_s": 60})
    for _ in range(2):
        if way == "submitted":
            await worker.services.submissions.submit(decode_job(body, default_id=""))
        else:
            assert await worker.deliver(customer, body) is None
    queued = await status(worker, customer, "later")
    (message,) = await send_due(worker, 5 * HOUR)
    early = await worker.deliver(customer, message)

    assert ("queued", 0, None, rfc3339(run_at)) == (queued.status, queued.attempts, queued.error, queued.due_at)
    assert (None, []) == (early, customer.account.received)
    (message,) = await send_due(worker, 5 * HOUR)
    members = json.loads(message)
    assert run_at - timedelta(milliseconds=1) <= datetime.fromisoformat(members["options"].pop("run_at"))


@pytest.mark.parametrize("way", ["submitted", "from the queue"])
async def test_a_time_within_two_minutes_is_a_hidden_message(worker: Worker, way: str):
    """It costs no row of the schedule."""
    customer = worker.customer()
    body = customer.body(job_id="soon", options={"run_at": rfc3339(now() + SOON)})
    if way == "submitted":
        await worker.services.submissions.submit(decode_job(body, default_id=""))
    else:
        assert await worker.deliver(customer, body) is None

    ((_, delay_s),) = worker.requeued()
    assert 90 < delay_s <= 100
    assert [] == entries(worker)


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=4000)])
async def test_a_time_that_has_passed_is_now(worker: Worker, ago: timedelta):
    """The deadline counts from the submission then."""
    customer = worker.customer()

    result = await worker.run(customer, job_id="now", options={"run_at": rfc3339(now() - ago), "deadline_s": 60})

    assert ("succeeded", 1) == (result["status"], result["attempts"])


async def test_a_job_is_cancelled_before_its_time(worker: Worker):
    """It ends as cancelled at once, not at its time."""
    customer = worker.customer()
    body = customer.body(job_id="later", options={"run_at": rfc3339(now() + HOUR)})
    await worker.deliver(customer, body)

    await worker.services.updates.cancel(customer.name, "later")
    await worker.services.schedule.wake(customer.name, "later")
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("cancelled", []) == (result["error"]["code"], customer.account.received)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_ten_thousand_waiting_jobs_leave_the_queue_empty(worker: Worker):
    """The host scales by hidden messages, too. None of these jobs is one, and none is lost."""
    customers = [worker.customer() for _ in range(20)]
    delivered = 0
    for customer in customers:
        customer.account.will_answer(*[error(429, retry_after="3600")] * 500)
        for number in range(500):
            delivered += await worker.deliver(customer, job_id=f"job-{number}") is None

    assert 10_000 == delivered == len(entries(worker))
    assert len(worker.requeued()) < 100
    assert 10_000 == len(await send_due(worker, 2 * HOUR))


@pytest.mark.parametrize("died", [True, False], ids=["its worker died", "its result is to be published"])
async def test_a_message_that_finds_no_room_stays_in_the_queue(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, died: bool
):
    """However long the wait: the schedule keeps no message of a job that runs or is done."""
    customer = worker.customer()
    body = customer.body(job_id="busy")
    await (worker.crash(customer, "busy", body) if died else worker.deliver(customer, body))
    limit = worker.services.limiter.of(customer.name, "default")
    limit.jobs, limit.job_seconds = 100, 1e6
    monkeypatch.setattr(admission, "MAX_HOLD_S", 0.001)
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)

    assert await worker.deliver(customer, body) is None

    (requeued,) = worker.requeued()
    assert requeued[1] <= MAX_HIDDEN_S


async def test_jitter_does_not_use_up_the_deadline(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A job whose deadline is a little later than the wait that its endpoint asked for continues before it."""
    customer = worker.customer()
    customer.account.will_answer(error(429, message="Slow down.", retry_after="3500"))
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)

    assert await worker.deliver(customer, job_id="tight", options={"deadline_s": 3600}) is None

    assert 3500 < (worker.row(customer, "tight")["due_at"] - now()).total_seconds() < 3560
