"""The poll of a connection: one message and few requests to Storage for all responses that its jobs wait for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.faults import ResponseFault, error
from shared.batches import look_requests, response_poll
from shared.clock import now
from shared.jobs.batch_message import decode_batch_message, encode_poll_message
from shared.jobs.polls import AGAIN_AFTER, LEASE, LOST_AFTER, Poll, Polls, poll_key, read_poll
from shared.jobs.response_looks import next_look
from shared.jobs.schedule_entries import POLLS
from shared.jobs.versions import VERSION, NewerVersion
from shared.jobs.waiting_rows import creation_of, look_key, look_range
from shared.shares import Shares
from shared.storage.base import MAX_HIDDEN_S, Row
from shared.upstream.client import UpstreamClient
from shared.upstream.guarded_connections import GuardedConnections
from tests.support.fakes import Fault
from tests.support.response_jobs import EventfulApp, eventful_app, finish, send_response
from tests.support.worker_crashes import Process

LONG_S = 3000.0


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


async def waiting(app: EventfulApp, customer: str, jobs: int = 1, *, seconds: float = LONG_S) -> list[str]:
    """Have so many jobs wait for responses that take so long."""
    for _ in range(jobs):
        app.accounts[customer].faults.responses.add(ResponseFault("completed", queued_s=1, in_progress_s=seconds))
    names = [await send_response(app, customer, job_id=f"job-{number}") for number in range(jobs)]
    await app.deliver()
    assert {row["state"] for row in app.rows(customer, "j_")} == {"waiting"}
    return names


def poll_of(app: EventfulApp, customer: str) -> Poll | None:
    """The poll of the customer's connection."""
    row = app.stored.table.rows.get((customer, poll_key("default")))
    return row and read_poll(row)


def waiting_key(app: EventfulApp, customer: str) -> str:
    """The key of a row that says that a response is waited for; none if none is."""
    return next((row.key for row in look_rows(app, customer)), "")


def look_rows(app: EventfulApp, customer: str) -> list[Row]:
    """The rows of the looks to come."""
    first, last = look_range("default")
    return [
        row for (partition, key), row in app.stored.table.rows.items() if partition == customer and first <= key < last
    ]


def move(app: EventfulApp, row: Row, due_at: datetime, **values: Any) -> None:
    """Have a look be due at another time."""
    table, key = app.stored.table, look_key("default", due_at, creation_of(row))
    del table.rows[row.partition, row.key]
    table.rows[row.partition, key] = replace(row, key=key, values={**row.values, **values})
    table._written[row.partition, key] = now()


def looks(account: Account) -> int:
    """How often a response was looked at."""
    return len(account.calls("responses.get"))


def message(app: EventfulApp, customer: str) -> bytes:
    """The message that is meant for the next turn."""
    poll = poll_of(app, customer)
    assert poll is not None
    return encode_poll_message(customer, "default", poll.generation)


async def turn(app: EventfulApp, body: bytes) -> None:
    """Have the app's worker process a message of the queue of batches."""
    await app.worker.services.batch_worker.process(body)


def clone(app: EventfulApp, customer: str, number: int) -> None:
    """Have so many jobs wait for the response of the only one that does."""
    table = app.stored.table
    job, (look,) = table.rows[customer, "j_job-0"], look_rows(app, customer)
    for copy in range(1, number):
        values = {**look.values, "job_id": f"job-{copy}"}
        for row in (
            replace(job, key=f"j_job-{copy}"),
            replace(look, key=f"{look.key[:-6]}{copy:06}", values=values),
        ):
            table.rows[customer, row.key] = row
            table._written[customer, row.key] = now()
            table._operations[customer, row.key] = ""


@pytest.mark.parametrize("jobs", [100, pytest.param(1000, marks=pytest.mark.long)])
async def test_a_look_at_a_thousand_responses_asks_little_of_storage(app: EventfulApp, jobs: int) -> None:
    """
    One message, hidden, a request to the provider for each that is due, four requests to the table, and two for each
    hundred. The end of each costs a read and a message, and that of a hundred another request.
    """
    customer = app.customer()
    account = app.accounts[customer]
    await waiting(app, customer)
    clone(app, customer, jobs)
    assert [each.queue for each in app.messages] == ["batches"]
    app.clock.advance(2.1)
    await app.provider.settle()
    body, before, looked = message(app, customer), app.stored.table.operations, looks(account)
    app.messages.clear()
    await turn(app, body)
    assert app.stored.table.operations - before == 4 + 2 * jobs // 100
    assert {queue: len(sent) for queue, sent in app.stored.queues.sent.items() if sent} == {"batches": 1}
    assert looks(account) - looked == jobs

    next(iter(account.responses.values())).body["status"] = "completed"
    app.stored.queues.sent.clear()
    app.clock.advance(2.1)
    body, before = message(app, customer), app.stored.table.operations
    await turn(app, body)
    assert app.stored.table.operations - before == 4 + jobs + jobs // 100
    assert {queue: len(sent) for queue, sent in app.stored.queues.sent.items() if sent} == {"jobs": jobs}
    assert poll_of(app, customer) is None


@pytest.mark.parametrize("jobs", [2000, pytest.param(20_000, marks=pytest.mark.long)])
async def test_a_turn_reads_what_is_due_and_an_event_reads_nothing_else(app: EventfulApp, jobs: int) -> None:
    """However many wait: a turn reads a page more at most, and an event the row of its response and that of the job."""
    customer = app.customer()
    account, table = app.accounts[customer], app.stored.table
    await waiting(app, customer)
    clone(app, customer, jobs)
    app.clock.advance(LONG_S)
    for number, row in enumerate(look_rows(app, customer)):
        due_at = now() + timedelta(seconds=600 if number >= 10 else -1)
        move(app, row, due_at, wake_at=now() + timedelta(days=1))
    body, looked, before = message(app, customer), looks(account), (table.operations, table.rows_read)
    await turn(app, body)
    assert looks(account) == looked + 10
    assert table.operations - before[0] == 6
    assert table.rows_read - before[1] <= table.page_size

    (response,) = account.responses
    for name, operations in {response: 3, "resp_of_another": 2}.items():
        before = table.operations, table.rows_read
        body = json.dumps({"type": "response.completed", "data": {"id": name}}).encode()
        await app.worker.services.provider_events.receive(customer, "default", body)
        assert (table.operations - before[0], table.rows_read - before[1]) == (operations, 0)


async def test_waiting_jobs_have_one_message_in_all(app: EventfulApp) -> None:
    """However many they are, from the first look to the last one; the end of each is noticed."""
    customer, other = app.customer(), app.customer()
    jobs = await waiting(app, customer, 20, seconds=250)
    await waiting(app, other, 1, seconds=LONG_S)
    hidden = set()
    while len(app.results) < len(jobs):
        messages = [each for each in app.messages if each.visible_at > app.clock()]
        assert all(each.visible_at - app.clock() <= MAX_HIDDEN_S for each in messages)
        hidden.add(len(messages))
        await app.pass_time(5)
    assert hidden <= {0, 1, 2}
    assert {each["status"] for each in app.results} == {"succeeded"}


async def test_old_responses_are_looked_at_together_by_the_schedule(app: EventfulApp) -> None:
    """Looks after two minutes are at whole minutes, and no message waits for them."""
    customer = app.customer()
    await waiting(app, customer, 5)
    await app.pass_time(LONG_S / 2)
    app.messages = [each for each in app.messages if each.queue == "jobs"]
    account, turns, silent = app.accounts[customer], list[int](), 0
    for _ in range(int(LONG_S / 4 / 5)):
        before = looks(account)
        await app.pass_time(5)
        silent += not app.messages
        if looks(account) > before:
            turns.append(looks(account) - before)
    assert silent == int(LONG_S / 4 / 5)
    assert len(turns) <= 5
    assert max(turns) == 5


async def test_a_doubled_message_ends_at_one_read(app: EventfulApp) -> None:
    """While its turn is under way on another worker, and afterwards."""
    customer = app.customer()
    await waiting(app, customer)
    first = message(app, customer)
    app.clock.advance(3)
    await turn(app, first)
    before, looked = app.stored.table.operations, looks(app.accounts[customer])
    await turn(app, first)
    assert (app.stored.table.operations - before, looks(app.accounts[customer])) == (1, looked)

    polls, decoded = Polls(app.worker.services.schedule), decode_batch_message(message(app, customer))
    assert decoded is not None
    assert await polls.take(decoded) is not None
    before = app.stored.table.operations
    assert await polls.take(decoded) is None
    assert app.stored.table.operations - before == 1


async def test_a_turn_whose_worker_died_is_taken_over(app: EventfulApp) -> None:
    """By its own message once its lease is over, or by the schedule's."""
    customer = app.customer()
    (job,) = await waiting(app, customer, seconds=100)
    polls, decoded = Polls(app.worker.services.schedule), decode_batch_message(message(app, customer))
    assert decoded is not None
    assert await polls.take(decoded) is not None
    app.messages.clear()
    app.clock.advance(LEASE.total_seconds() + 1)
    assert await polls.take(decoded) is not None
    await finish(app, [job], within_s=(LEASE + AGAIN_AFTER).total_seconds() + 60)


@pytest.mark.parametrize("lost_at_s", [0, 10, 60, 119, 200, 700])
async def test_a_lost_message_costs_minutes(app: EventfulApp, lost_at_s: float) -> None:
    """Whichever it is, the schedule has the next look."""
    customer = app.customer()
    (job,) = await waiting(app, customer, seconds=lost_at_s + 60)
    await app.pass_time(lost_at_s)
    app.messages.clear()
    app.stored.queues.sent.clear()
    await finish(app, [job], within_s=660)
    app.check_books(customer, [job])
    assert app.result(job)["attempts"] <= 3


async def test_the_jobs_own_entry_is_enough(app: EventfulApp) -> None:
    """If all of a poll is lost, its jobs look at their responses themselves."""
    customer = app.customer()
    (job,) = await waiting(app, customer, seconds=60)
    del app.stored.table.rows[customer, poll_key("default")]
    app.messages.clear()
    await finish(app, [job], within_s=700)
    assert app.result(job)["status"] == "succeeded"


async def test_a_poll_that_nobody_goes_on_with_is_begun_anew(app: EventfulApp) -> None:
    """Its message and its entry are gone, as after an import: the next job that waits sends another."""
    customer = app.customer()
    await waiting(app, customer)
    app.messages.clear()
    for key in [key for key in app.stored.table.rows if key[0] == POLLS]:
        del app.stored.table.rows[key]
    before, schedule = poll_of(app, customer), app.worker.services.schedule
    assert before is not None
    await Polls(schedule).join(customer, "default", now() + timedelta(seconds=2), waiting_key(app, customer))
    assert poll_of(app, customer) == before
    app.clock.advance((LOST_AFTER + AGAIN_AFTER).total_seconds())
    await Polls(schedule).join(customer, "default", now() + timedelta(seconds=2), waiting_key(app, customer))
    after = poll_of(app, customer)
    assert after is not None
    assert after.generation == before.generation + 1
    assert [key for key in app.stored.table.rows if key[0] == POLLS]
    assert len(app.stored.queues.sent["batches"]) == 1


async def test_a_job_that_joins_a_turn_is_looked_at_after_it(app: EventfulApp) -> None:
    """The turn may have read its row or not; many that join send no message, and write once."""
    customer = app.customer()
    await waiting(app, customer)
    polls, decoded = Polls(app.worker.services.schedule), decode_batch_message(message(app, customer))
    app.messages.clear()
    assert decoded is not None
    poll = await polls.take(decoded)
    assert poll is not None
    soon = now() + timedelta(seconds=2)
    before = app.stored.table.operations
    for _ in range(10):
        await polls.join(customer, "default", soon, waiting_key(app, customer))
    assert app.stored.table.operations - before == 10 + 1
    assert app.stored.queues.sent["batches"] == []
    await polls.rest(poll, now() + timedelta(hours=1), entry_by=now() + timedelta(hours=1))
    after = poll_of(app, customer)
    assert after is not None
    assert (after.due_at, after.generation) == (soon, poll.generation + 1)
    assert [delay_s for _, delay_s in app.stored.queues.sent["batches"]] == [2.0]


async def test_a_job_that_joins_the_last_turn_keeps_the_poll(app: EventfulApp) -> None:
    """Its row was not read: the poll is not deleted."""
    customer = app.customer()
    await waiting(app, customer)
    polls, decoded = Polls(app.worker.services.schedule), decode_batch_message(message(app, customer))
    assert decoded is not None
    poll = await polls.take(decoded)
    assert poll is not None
    await polls.join(customer, "default", now() + timedelta(seconds=2), waiting_key(app, customer))
    await polls.end(poll)
    after = poll_of(app, customer)
    assert after is not None
    assert after.due_at <= now() + timedelta(seconds=2)


async def test_a_job_that_wants_a_look_after_the_lease_is_read_by_the_turn(app: EventfulApp) -> None:
    """It may be the only one that still waits: the poll is not deleted, and its next look is no later than it wants."""
    customer = app.customer()
    await waiting(app, customer)
    polls = Polls(app.worker.services.schedule)
    for ends in (True, False):
        decoded = decode_batch_message(message(app, customer))
        assert decoded is not None
        poll = await polls.take(decoded)
        assert poll is not None
        wanted = poll.lease_until + timedelta(minutes=5)
        before = app.stored.table.operations
        for _ in range(10):
            await polls.join(customer, "default", wanted, waiting_key(app, customer))
        assert app.stored.table.operations - before == 10 + 1
        if ends:
            await polls.end(poll)
        else:
            await polls.rest(poll, wanted + timedelta(hours=1), entry_by=wanted + timedelta(hours=1))
        after = poll_of(app, customer)
        assert after is not None
        assert after.due_at <= wanted


async def test_a_poll_that_is_begun_late_has_its_entry(app: EventfulApp) -> None:
    """Storage was slow, and the look is due already: should its message get lost, the schedule sends another."""
    customer = app.customer()
    await waiting(app, customer)
    del app.stored.table.rows[customer, poll_key("default")]
    schedule = app.worker.services.schedule
    await Polls(schedule).join(customer, "default", now() - timedelta(seconds=1), waiting_key(app, customer))
    poll = poll_of(app, customer)
    assert poll is not None
    app.stored.queues.sent["batches"].clear()
    app.clock.advance((AGAIN_AFTER + timedelta(minutes=1)).total_seconds())
    await schedule.send_due(now())
    assert [body for body, _ in app.stored.queues.sent["batches"]] == [message(app, customer)]


async def test_an_address_that_may_not_be_called_ends_the_turn(
    app: EventfulApp, client: UpstreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at again a minute later, and the job has what is there then."""
    customer = app.customer()
    (job,) = await waiting(app, customer, seconds=20)
    body = message(app, customer)
    app.messages.clear()
    app.clock.advance(2.1)
    with monkeypatch.context() as patch:
        guarded = GuardedConnections(allow_local=False, allow_private=False, lookups=Shares(1))
        patch.setattr(client, "_connections", guarded)
        await turn(app, body)
    poll = poll_of(app, customer)
    assert poll is not None
    assert 59 < (poll.due_at - now()).total_seconds() <= 60
    await finish(app, [job], within_s=90)


async def test_a_turn_does_not_take_more_than_a_worker_has_memory_for(
    app: EventfulApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one goes on, seconds later: with looks, and with jobs whose deadline is near."""
    customer = app.customer()
    account = app.accounts[customer]
    await waiting(app, customer)
    clone(app, customer, 50)
    monkeypatch.setattr(response_poll, "_MAX_TASKS", 20)
    app.clock.advance(2.1)
    for looked_at in (20, 40, 50):
        app.messages.clear()
        await turn(app, message(app, customer))
        poll = poll_of(app, customer)
        assert poll is not None
        assert looks(account) == looked_at
        assert (poll.due_at - now()).total_seconds() <= 3

    for row in look_rows(app, customer):
        move(app, row, now() - timedelta(seconds=1), wake_at=now())
    for woken in (20, 40, 50):
        await turn(app, message(app, customer))
        assert len(app.stored.queues.sent["jobs"]) == woken
    assert poll_of(app, customer) is None


async def test_a_turn_that_hangs_is_cut_off(app: EventfulApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the host ends the worker for it, with all that the worker does."""
    customer = app.customer()
    (job,) = await waiting(app, customer, seconds=20)
    body = message(app, customer)
    app.messages.clear()
    app.clock.advance(2.1)
    with monkeypatch.context() as patch:
        patch.setattr(response_poll, "_LIMIT_S", 0)
        await turn(app, body)
    assert looks(app.accounts[customer]) == 0
    poll = poll_of(app, customer)
    assert poll is not None
    assert poll.lease_until <= now()
    assert (poll.due_at - now()).total_seconds() <= 3
    await finish(app, [job], within_s=60)


async def test_an_earlier_look_replaces_the_message(app: EventfulApp) -> None:
    """The one for later comes to nothing."""
    customer = app.customer()
    await waiting(app, customer)
    await app.pass_time(600)
    late = message(app, customer)
    polls = Polls(app.worker.services.schedule)
    await polls.join(customer, "default", now() + timedelta(seconds=2), waiting_key(app, customer))
    looked = looks(app.accounts[customer])
    await turn(app, late)
    assert looks(app.accounts[customer]) == looked
    assert len(app.stored.queues.sent["batches"]) == 1


async def test_a_refusal_ends_the_turn_and_the_next_one_goes_on(app: EventfulApp) -> None:
    """The provider's wait is kept to, and no response is left out because others come before it."""
    customer = app.customer()
    account = app.accounts[customer]
    await waiting(app, customer)
    clone(app, customer, 100)
    app.messages.clear()
    app.clock.advance(2.1)
    account.faults.route("responses.get", error(404), 40)
    account.faults.route("responses.get", error(429, retry_after_s=50))
    await turn(app, message(app, customer))
    assert 41 <= looks(account) <= 41 + 16
    poll = poll_of(app, customer)
    assert poll is not None
    assert 49 < (poll.due_at - now()).total_seconds() <= 50
    app.clock.advance(49)  # what was looked at is not due again
    await turn(app, message(app, customer))
    assert 100 <= looks(account) <= 100 + 17
    after = poll_of(app, customer)
    assert after is not None
    assert after.looked_until == after.pass_at > poll.pass_at


async def test_rows_of_the_version_before_are_read(app: EventfulApp) -> None:
    """Each had one for the response, which said when its job is woken, and none for its looks."""
    customer = app.customer()
    table, account = app.stored.table, app.accounts[customer]
    jobs = await waiting(app, customer, 3, seconds=60)
    for look in look_rows(app, customer):
        key = f"w_default~{creation_of(look)}"
        values = {**look.values, "state": "waiting", "candidates": "", "looked_at": 0}
        await table.insert(Row(customer, key, values))
        del table.rows[customer, look.key]
    for key in [key for partition, key in table.rows if partition == customer and key.startswith("w_default=")]:
        del table.rows[customer, key]
    poll = table.rows[customer, poll_key("default")]
    without = {name: value for name, value in poll.values.items() if name != "has_looks"}
    table.rows[customer, poll_key("default")] = replace(poll, values=without)

    await app.pass_time(10)
    assert len(look_rows(app, customer)) == 3
    name = next(iter(account.responses))
    app.held.add("batches")
    await app.provider.advance(60)
    body = json.dumps({"type": "response.completed", "data": {"id": name}}).encode()
    await app.worker.services.provider_events.receive(customer, "default", body)
    await app.deliver()
    assert len(app.results) == 1
    app.held.clear()
    await finish(app, jobs, within_s=60)
    app.check_books(customer, jobs)


async def test_a_look_that_stands_twice_is_made_once(app: EventfulApp) -> None:
    """A worker has died between writing the next one and deleting the last one."""
    customer = app.customer()
    await waiting(app, customer)
    (look,) = look_rows(app, customer)
    move(app, look, now() + timedelta(seconds=1))
    app.stored.table.rows[customer, look.key] = look
    app.stored.table._written[customer, look.key] = now()
    app.clock.advance(3)
    await turn(app, message(app, customer))
    assert looks(app.accounts[customer]) == len(look_rows(app, customer)) == 1


async def test_those_that_are_refused_for_ever_keep_nobody_waiting(app: EventfulApp) -> None:
    """More than are asked for at a time: each time, those that were not looked at come before them."""
    customer = app.customer()
    account = app.accounts[customer]
    jobs = await waiting(app, customer, 40, seconds=30)
    refused = [row.values for row in sorted(look_rows(app, customer), key=lambda row: row.key)[:20]]
    for each in refused:
        fault = replace(error(429, retry_after_s=20), path=each["response"])
        account.faults.route("responses.get", fault, None)
    await app.pass_time(400)
    assert {each["job_id"] for each in app.results} == {*jobs} - {each["job_id"] for each in refused}


async def test_a_turn_ends_in_time(app: EventfulApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the provider is slow, the next turn goes on."""
    customer = app.customer()
    await waiting(app, customer)
    clone(app, customer, 50)
    app.messages.clear()
    app.clock.advance(2.1)
    monkeypatch.setattr(look_requests, "TURN_S", 0)
    await turn(app, message(app, customer))
    poll = poll_of(app, customer)
    assert looks(app.accounts[customer]) == 0
    assert poll is not None
    assert (poll.due_at - now()).total_seconds() < 3


async def test_a_worker_that_stops_leaves_the_rest_to_another(app: EventfulApp) -> None:
    """Before the turn, the message is sent again; in it, what was not looked at is the next one's."""
    customer = app.customer()
    (job,) = await waiting(app, customer, seconds=20)
    body = message(app, customer)
    app.messages.clear()
    app.worker.services.drain.is_stopping = True
    await turn(app, body)
    assert app.stored.queues.sent["batches"] == [(body, 1)]
    app.begin(Process())
    await finish(app, [job], within_s=60)


async def test_a_later_versions_message_is_left_to_it(app: EventfulApp) -> None:
    """Whatever it says."""
    body = json.dumps({"version": VERSION + 1, "invented": True}).encode()
    await turn(app, body)
    assert app.stored.queues.sent["batches"] == [(body, NewerVersion.usual_delay_s)]


async def test_what_a_job_has_left_behind_is_deleted(app: EventfulApp) -> None:
    """The job has ended, or is gone, and its row was not deleted."""
    customer = app.customer()
    await waiting(app, customer, seconds=20)
    del app.stored.table.rows[customer, "j_job-0"]
    await app.pass_time(60)
    assert app.left_rows(customer) == []
    assert app.messages == []


async def test_an_erased_customer_is_not_looked_at(app: EventfulApp) -> None:
    """Its message and its entries end at one read."""
    customer = app.customer()
    await waiting(app, customer)
    for key in [key for key in app.stored.table.rows if key[0] == customer]:
        del app.stored.table.rows[key]
    await app.pass_time(900)
    assert looks(app.accounts[customer]) == 0
    assert app.messages == []
    assert [key for key in app.stored.table.rows if key[0] == POLLS] == []


LONG_FAULTS = [pytest.param(each, marks=pytest.mark.long) for each in (Fault.LOST, Fault.REFUSED, None)]


@pytest.mark.parametrize("fault", [Fault.TWICE, *LONG_FAULTS], ids=str)
@pytest.mark.usefixtures("short_storage_waits")
async def test_two_workers_at_once(app: EventfulApp, fault: Fault | None) -> None:
    """Each message comes to both, beside faults of the table: every job has its result, bought once."""
    app.delivers_twice = True
    customer = app.customer()
    jobs = await waiting(app, customer, 8, seconds=45)
    for _ in range(20):
        app.stored.table.faults.extend([None] * 3 + [fault])
        await app.pass_time(5)
    app.stored.table.faults.clear()
    await finish(app, jobs)
    await app.pass_time(900, step_s=60)
    app.check_books(customer, jobs)
    assert app.left_rows(customer) == []


@pytest.mark.parametrize("age_s", [0, 1.9, 2, 31, 100, 121, 130, 599, 4000, 90000, 7 * 86400])
def test_looks_get_rarer(age_s: float) -> None:
    """Each is later than the one before; after two minutes, at whole minutes."""
    created_at = now()
    look = next_look(created_at, created_at + timedelta(seconds=age_s))
    wait_s = (look - created_at).total_seconds() - age_s
    assert 0 < wait_s <= (30 if age_s < 90 else 660 + 60)
    assert age_s < 125 or (look.second, look.microsecond) == (0, 0)
    assert next_look(created_at, look) > look


def ages() -> Sequence[float]:
    """At which a response is looked at in its first hour."""
    created_at = after = now()
    looked_at = []
    while (after - created_at).total_seconds() < 3600:
        after = next_look(created_at, after)
        looked_at.append((after - created_at).total_seconds())
    return looked_at


def test_an_hour_has_few_looks() -> None:
    """Seven in two minutes, then one in four minutes or more."""
    assert sum(each <= 120 for each in ages()) == 7
    assert len(ages()) <= 22
