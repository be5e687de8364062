"""A message that the host delivers although a stopped worker has sent another one is dropped, and no job is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest

from shared.clock import now, rfc3339
from shared.errors import RateLimited, RetryLater, StorageUnavailable, UpstreamRetryLater
from shared.jobs.drain import Drain
from shared.jobs.envelope import decode_queued_job
from shared.jobs.lease import SUPERSEDED_FOR
from shared.jobs.message import Delivery
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.endpoint import error
from tests.support.worker_crashes import Part, Process
from tests.support.workers import Memory, OpenWorker, Worker, delivery

JOB = "job"


@dataclass
class Case:
    """A job on workers that stop while its call is under way. The host keeps the messages that they had, hidden."""

    open_worker: OpenWorker
    memory: Memory
    worker: Worker
    customer: Customer
    hidden: list[Delivery] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)

    def first(self, **members: Any) -> Delivery:
        """Return the sender's message."""
        return delivery(self.customer.body(job_id=JOB, **members), "m-0", now().replace(microsecond=0))

    async def stop_with(self, message: Delivery, process: Process | None = None) -> None:
        """Have a worker stop while it waits for the job's call."""
        process = process or stopping()
        memory = Memory(*(cast(Any, Part(n, getattr(self.memory, n), process)) for n in ("table", "blobs", "queues")))
        memory.credentials = self.memory.credentials
        services = self.open_worker(memory=memory, drain=process.drain).services
        endpoint = BlockingEndpoint()
        self.customer.account.will_answer(endpoint)

        async def invocation() -> bytes | None:
            services.drain.join()
            return await services.worker.process(message)

        job = asyncio.create_task(invocation())
        called = asyncio.create_task(endpoint.called.wait())
        await asyncio.wait({job, called}, return_when=asyncio.FIRST_COMPLETED)
        await services.drain.stop()
        called.cancel()
        await asyncio.gather(job, called, return_exceptions=True)
        endpoint.release.set()
        self.customer.account.will_answer()
        self.hidden.append(message)

    async def deliver(self, message: Delivery) -> bytes | None:
        """Deliver a message to a worker that goes on; return what it publishes."""
        result_body = await self.worker.services.worker.process(message)
        if result_body is not None:
            self.published.append(result_body)
        return result_body

    def sent(self) -> list[Delivery]:
        """Take the messages that are in the queue."""
        return [delivery(body) for body, _ in self.worker.requeued()]

    async def deliver_all(self, pick: Callable[[Sequence[Delivery]], list[Delivery]]) -> None:
        """Deliver all messages, those side by side that `pick` returns, until there are none. Leases expire between."""
        pending, self.hidden = [*self.hidden, *self.sent()], []
        while pending:
            if self.row.get("state") == "running":
                await self.worker.expire_lease(self.customer, JOB)
            due = pick(pending)
            pending = [each for each in pending if each not in due]
            await asyncio.gather(*map(self.deliver, due))
            pending += self.sent()

    @property
    def row(self) -> dict[str, Any]:
        """The values of the job's row, if it has one."""
        key = self.customer.name, f"j_{JOB}"
        return self.worker.row(self.customer, JOB) if key in self.memory.table.rows else {}

    def check(self, *, refused: int = 0) -> None:
        """Fail if the job has no result, or more than one, or if a call that was not refused is not on record."""
        assert 1 == len(set(self.published))
        assert ("done", "succeeded") == (self.row["state"], json.loads(self.published[0])["status"])
        outcomes = [outcome for outcome, *_ in self.worker.outcomes(self.customer)]
        assert 1 == outcomes.count("answered")
        assert len(self.customer.account.received) <= len(outcomes) + refused


def stopping(**members: Any) -> Process:
    """Return a process whose stop cuts calls off at once."""
    return Process(drain=Drain(calls_s=0), **members)


@pytest.fixture
def case(open_worker: OpenWorker) -> Case:
    """A job."""
    memory = Memory()
    worker = open_worker(memory=memory)
    return Case(open_worker, memory, worker, worker.customer())


def oldest(messages: Sequence[Delivery]) -> list[Delivery]:
    """The hidden message first."""
    return list(messages[:1])


def newest(messages: Sequence[Delivery]) -> list[Delivery]:
    """The hidden message last."""
    return list(messages[-1:])


ORDERS = [oldest, newest, list]


@pytest.mark.parametrize(
    ("members", "operations"),
    [({}, 2), ({"_envelope": {"submitted_at": rfc3339(now())}}, 1)],
    ids=["a sender's, which is inserted in vain", "one of the app's, which is looked up"],
)
async def test_hidden_message_costs_one_read_and_publishes_nothing(
    case: Case, caplog: pytest.LogCaptureFixture, members: dict[str, Any], operations: int
):
    """Whenever it comes: while the next one is hidden, while the job runs, while that waits, and once it is done."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    await case.worker.run(case.customer, job_id="other")  # what the worker reads of the customer is in memory
    case.customer.account.received.clear()
    await case.stop_with(case.first(**members))
    (hidden,), (second,) = case.hidden, case.sent()
    table, looks = case.memory.table, list[tuple[str, bytes | None, int, int]]()

    async def look() -> None:
        before, calls, seen = table.operations, len(case.customer.account.received), case.row
        published = await case.deliver(hidden)
        assert (seen, []) == (case.row, case.worker.requeued())
        assert calls == len(case.customer.account.received)
        looks.append((seen["state"], published, table.operations - before, seen["generation"]))

    await look()
    endpoint = BlockingEndpoint(error(429, retry_after="3600"))
    case.customer.account.will_answer(endpoint)
    running = asyncio.create_task(case.deliver(second))
    await endpoint.called.wait()
    await look()
    endpoint.release.set()
    assert await running is None
    await look()
    assert await case.deliver(delivery(case.worker.wakeup(case.customer, JOB))) is not None
    await look()

    states = ["waiting", "running", "waiting", "done"]
    assert [(state, None, operations, 1) for state in states] == looks
    dropped = f"message_superseded customer={case.customer.name} job_id={JOB}"
    assert 4 == [record.getMessage() for record in caplog.records].count(dropped)
    assert 1 == len(case.published)


@pytest.mark.parametrize("pick", ORDERS)
async def test_stop_publishes_once_in_whatever_order_messages_come(
    case: Case, pick: Callable[[Sequence[Delivery]], list[Delivery]]
):
    """Even if no worker was there until the host has let go of the first one."""
    await case.stop_with(case.first())

    await case.deliver_all(pick)

    assert 1 == len(case.published)
    case.check()


@pytest.mark.parametrize("pick", [oldest, *(pytest.param(pick, marks=pytest.mark.long) for pick in (newest, list))])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(1, 5))
async def test_no_job_is_lost_wherever_its_worker_dies(
    case: Case, pick: Callable[[Sequence[Delivery]], list[Delivery]], dies_at: int, *, after: bool
):
    """Before or after any write of the stop: its messages, in any order, end it once, with every call on record."""
    process = stopping(dies_at=dies_at, after=after)
    await case.stop_with(case.first(), process)
    assert process.died.is_set() == (dies_at <= 3), process.operations
    assert ["table.merge_and_insert j", "queues.send jobs", "table.merge_and_insert j"][:dies_at] == process.operations

    await case.deliver_all(pick)

    case.check()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 20))])
async def test_many_stops_and_all_hidden_messages_publish_once(case: Case, seed: int):
    """One stop after the other, at which the hidden messages of those before come back at any time."""
    chance = random.Random(seed)
    message, back = case.first(), list[Delivery]()
    for _ in range(6):
        await case.stop_with(message)
        back += case.hidden
        case.hidden = []
        (message,) = case.sent()
        for hidden in chance.sample(back, chance.randint(0, len(back))):
            assert await case.deliver(hidden) is None
            assert [] == case.sent()
    rest = [*back, message]
    chance.shuffle(rest)
    for each in rest:
        await case.deliver(each)

    assert 6 == case.row["generation"]
    assert 1 == len(case.published)
    case.check()


async def test_message_that_met_the_stop_before_its_job_began(case: Case):
    """Its job has no row. The next message is of the next generation all the same, with which it is claimed."""
    first = case.first()
    stopped = case.worker.another()
    await stopped.services.drain.stop()
    assert await stopped.services.worker.process(first) is None
    assert {} == case.row
    (second,) = case.sent()

    assert await case.deliver(second) is not None
    assert await case.deliver(first) is None

    assert 1 == case.row["generation"]
    case.check()


async def test_requeue_that_is_no_stop_keeps_the_generation(case: Case):
    """The host deletes the message before it, as a rule; if not, both are as good."""
    await case.stop_with(case.first())
    (second,) = case.sent()
    case.customer.account.will_answer(error(429, retry_after="60"))
    assert await case.deliver(second) is None
    (third,) = case.sent()

    assert [1, 1] == [json.loads(each.body)["_envelope"]["generation"] for each in (second, third)]
    assert 1 == case.row["generation"]
    assert await case.deliver(second) is not None
    assert await case.deliver(third) is not None
    case.check(refused=1)


async def test_job_that_its_sender_sends_again_gets_its_result_again(case: Case):
    """It is no hidden message, although it has no generation, either."""
    await case.stop_with(case.first())
    (second,) = case.sent()
    await case.deliver(second)

    again = await case.deliver(replace(case.first(), message_id="m-1", submitted_at=now() + timedelta(seconds=2)))

    assert case.published == [again, again]


async def test_job_that_is_sent_again_after_its_messages_got_lost_goes_on(case: Case):
    """Also if it is throttled, or stopped, on its way."""
    await case.stop_with(case.first())
    case.sent()
    again = replace(case.first(), message_id="m-1", submitted_at=now() + timedelta(seconds=2))

    await case.stop_with(again)
    (last,) = case.sent()
    await case.deliver(last)

    assert 1 == len(case.published)
    case.check()


async def test_earlier_message_continues_a_job_that_has_stood_still_for_long(case: Case):
    """After a failover, the queue may be older than the table: it is all that is left of the job."""
    await case.stop_with(case.first())
    case.sent()
    (hidden,) = case.hidden
    assert await case.deliver(hidden) is None
    await case.worker.change_row(case.customer, JOB, lease_until=now() - SUPERSEDED_FOR)

    assert await case.deliver(hidden) is not None

    case.check()
    assert await case.deliver(hidden) is not None  # whoever claimed with it publishes with it, if it comes again


async def test_batch_wakes_its_job_with_whatever_message_it_has(case: Case):
    """A stop may have sent others since its lines were written. Once the job is done, it is dropped."""
    await case.stop_with(case.first())
    (hidden,), (second,) = case.hidden, case.sent()
    await case.worker.change_row(case.customer, JOB, lines="b:0:1")

    assert await case.deliver(hidden) is not None

    await case.worker.change_row(case.customer, JOB, generation=1)
    assert await case.deliver(hidden) is None
    assert await case.deliver(second) is not None


async def test_message_of_the_poison_queue_continues_its_job(case: Case):
    """Whatever its generation: nothing else may be left of the job."""
    await case.stop_with(case.first())
    case.sent()

    assert await case.worker.services.worker.dead_letter(replace(case.hidden[0], message_id="m-2")) is None
    (resumed,) = case.sent()
    assert await case.deliver(resumed) is not None

    case.check()


async def test_cancelled_job_that_is_submitted_again_ends(case: Case):
    """Its message has the generation of its row."""
    await case.stop_with(case.first())
    case.sent()
    await case.worker.services.updates.cancel(case.customer.name, JOB)
    job = decode_queued_job(case.first().body, default_id="")

    await case.worker.services.submissions.submit(job)
    (message,) = case.sent()

    result = await case.deliver(message)
    assert result is not None
    assert "cancelled" == json.loads(result)["error"]["code"]


async def test_queue_that_fails_at_the_stop_costs_no_job(case: Case):
    """The job is released as of the same generation, and its message comes again from the host."""
    case.memory.queues.down = True
    await case.stop_with(case.first())
    case.memory.queues.down = False
    assert ("waiting", 0, []) == (case.row["state"], case.row["generation"], case.sent())

    await case.deliver_all(oldest)

    assert 1 == len(case.published)
    case.check()


async def test_jobs_that_wait_for_the_same_reason_are_requeued_each():
    """One that has been requeued does not speak for another one, whose message could not be sent."""
    drain, reason, sent = Drain(), UpstreamRetryLater(RateLimited("Slow down."), 7, retries=2), list[RetryLater]()
    drain.is_stopping = True

    async def send(each: RetryLater) -> None:
        sent.append(each)

    async def fail(_: RetryLater) -> None:
        raise StorageUnavailable("The queue is down.")

    first, second = await drain.hand_over(reason, send), await drain.hand_over(reason, fail)

    assert (True, False, [reason]) == (first.is_requeued, second.is_requeued, sent)
    assert isinstance(first, UpstreamRetryLater)
    assert ("Slow down.", reason.reason, 7, 2) == (str(first), first.reason, first.delay_s, first.retries)


async def test_long_wait_at_the_stop_is_kept_in_the_schedule(case: Case):
    """It is no message, so the job is released first: an answer of the endpoint that names an hour."""
    endpoint = BlockingEndpoint(error(429, retry_after="3600"))
    case.customer.account.will_answer(endpoint)
    stopped = case.worker.another()
    job = asyncio.create_task(stopped.services.worker.process(case.first()))
    await endpoint.called.wait()
    stop = asyncio.create_task(stopped.services.drain.stop())
    await asyncio.sleep(0)
    endpoint.release.set()

    assert await job is None
    await stop
    assert [] == case.sent()
    assert await case.deliver(delivery(case.worker.wakeup(case.customer, JOB))) is not None
    case.check(refused=1)


@pytest.mark.parametrize("delay_s", [119, 120, 121])
async def test_wait_near_the_limit_of_hidden_messages_is_not_lost(case: Case, delay_s: int):
    """With its jitter it would be more than a message can be hidden, and the schedule takes no job that runs."""
    endpoint = BlockingEndpoint(error(429, retry_after=str(delay_s)))
    case.customer.account.will_answer(endpoint)
    stopped = case.worker.another()
    job = asyncio.create_task(stopped.services.worker.process(case.first()))
    await endpoint.called.wait()
    stop = asyncio.create_task(stopped.services.drain.stop())
    await asyncio.sleep(0)
    endpoint.release.set()
    assert await job is None
    await stop

    messages = case.sent() or [delivery(case.worker.wakeup(case.customer, JOB))]

    assert await case.deliver(messages[0]) is not None
    case.check(refused=1)


async def test_next_message_waits_shortly_for_the_release(case: Case):
    """It is sent before that, and may be quicker; another one of the same generation waits longer."""
    first = case.first()
    await case.worker.claim(case.customer, JOB, first.body)
    later = json.loads(first.body) | {"_envelope": {"submitted_at": rfc3339(now()), "generation": 1}}

    await case.deliver(delivery(json.dumps(later).encode()))
    await case.deliver(replace(first, message_id="m-1"))

    ((_, early_s), (_, late_s)) = case.worker.requeued()
    assert (True, True) == (early_s <= 2.2, late_s >= 15)
    assert ("running", 0) == (case.row["state"], case.row["generation"])


@pytest.mark.parametrize("generation", [10**9, 10**9 + 1, 10**30])
async def test_generation_that_somebody_made_up_is_bounded(case: Case, generation: int):
    """What a sender writes there reaches no column that can't hold it, and its job ends like any other."""
    envelope = {"submitted_at": rfc3339(now()), "generation": generation}
    await case.stop_with(case.first(_envelope=envelope))
    (second,) = case.sent()

    assert await case.deliver(second) is not None

    assert 10**9 == case.row["generation"]
    case.check()


async def test_row_and_message_without_a_generation_are_of_the_first(case: Case):
    """An earlier version of the app has written them."""
    first = case.first()
    await case.worker.crash(case.customer, JOB, first.body)
    key = case.customer.name, f"j_{JOB}"
    row = case.memory.table.rows[key]
    case.memory.table.rows[key] = replace(
        row, values={name: value for name, value in row.values.items() if name != "generation"}
    )

    assert await case.deliver(first) is not None

    assert 0 == case.row["generation"]
