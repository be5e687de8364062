"""
A run's hold on its job: its lease is kept, what it has lost is spent on no more, and every call leaves its record.

The ledger's table is one in memory, whose faults meet the very change that is meant; everything else is real.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from shared.actions import chat, multi_chat
from shared.clock import now
from shared.errors import AlreadyRunning, LeaseLost, StorageUnavailable
from shared.jobs import attempt as attempts
from shared.jobs import ledger as ledgers
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.storage.base import Row
from tests.support.blocking_endpoint import Held
from tests.support.endpoint import Answer, completion, error, reply, reset, truncated
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Customer, World
from tests.support.workers import Worker, worker_of

KINDS = {
    "chat": {},
    "chat with blob": {"output": {"blob": True}},
    "multi_chat": {"action": "multi_chat", "input": {"prompts": ["Hello?"]}},
}
ASKED = "the hash of another worker's request"


@pytest.fixture
def worker(world: World) -> Worker:
    """A worker."""
    return worker_of(world)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a Storage that fails are as many as ever, and short."""
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", (0.001,) * len(attempts.STORAGE_WAITS_S))


class Time:
    """
    Stands for `asyncio` where holds sleep, and for the ledger's clock: time passes only while a hold sleeps, so how
    quick the machine is makes no difference.
    """

    def __init__(self) -> None:
        self.moment = now()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Lets it pass, and everybody see that it has."""
        self.moment += timedelta(seconds=seconds)
        await asyncio.sleep(0.005)

    async def passed(self, seconds: float) -> None:
        """Waits until so much more has passed."""
        end = self.moment + timedelta(seconds=seconds)
        while self.moment < end:  # noqa: ASYNC110  # it is what the holds say
            await asyncio.sleep(0)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time that passes only for holds."""
    time = Time()
    monkeypatch.setattr(attempts, "asyncio", time)
    monkeypatch.setattr(ledgers, "now", lambda: time.moment)
    return time


class Noticing(Ledger):
    """A ledger that tells when its lease was seen to be lost."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.noticed = asyncio.Event()

    async def renew(self, claim: Lease) -> Lease:
        """See `Ledger`."""
        try:
            return await super().renew(claim)
        except LeaseLost:
            self.noticed.set()
            raise


def first(deed: Callable[[], Awaitable[Any]], answer: Answer | None = None) -> Answer:
    """Does something before it answers."""

    async def do(request: web.Request) -> web.StreamResponse:
        await deed()
        return await (answer or completion())(request)

    return do


async def test_the_lease_is_kept_while_the_run_lasts(world: World, time: Time):
    """A run that takes longer than the lease keeps its job: whoever else claims it finds it busy, at any moment."""
    worker, customer, held = worker_of(world, lease_s=90), world.customer(), Held()
    customer.account.will_answer(held)
    run = asyncio.create_task(worker.run(customer, job_id="long"))
    await held.asked.wait()
    asked, began, found_busy = worker.row(customer, "long")["fingerprint"], time.moment, set()
    while time.moment - began < timedelta(seconds=270):
        with pytest.raises(AlreadyRunning):
            await worker.ledger.claim(customer.name, "long", fingerprint=asked, submitted_at=now())
        found_busy.add(time.moment)
    held.end.set()

    result = await run

    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert len(found_busy) >= 9
    assert [("answered", 1, 18)] == worker.outcomes(customer)


async def test_a_lease_is_not_renewed_beyond_the_run(world: World):
    """When the run is over nobody renews anything: the row stays as it was closed."""
    worker, customer = worker_of(world, lease_s=0.06), world.customer()

    await worker.run(customer, job_id="short")
    before = worker.table.rows[customer.name, "j_short"]
    await asyncio.sleep(0.1)

    assert before == worker.table.rows[customer.name, "j_short"]


async def test_a_renewal_that_fails_is_made_again(world: World, time: Time):
    """A Storage that does not keep one renewal loses no job: the next one is in time."""
    worker, customer, held = worker_of(world, lease_s=90), world.customer(), Held()
    worker.table.faults.extend([None, Fault.REFUSED, Fault.LOST])
    customer.account.will_answer(held)
    run = asyncio.create_task(worker.run(customer, job_id="long"))

    await held.asked.wait()
    await time.passed(150)  # both renewals that fail, and two more
    left = worker.row(customer, "long")["lease_until"] - time.moment
    held.end.set()
    result = await run

    assert not worker.table.faults
    assert left > timedelta(0)
    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)


@pytest.mark.parametrize("members", KINDS.values(), ids=KINDS)
async def test_what_a_lost_hold_was_answered_is_recorded_as_lost(world: World, worker: Worker, members: dict[str, Any]):
    """
    A worker whose job was taken over while its call was under way tells nothing, changes nothing, and writes one
    record for the call that was paid for.
    """
    customer = world.customer()
    customer.account.will_answer(first(lambda: worker.take_over(customer, "gone")))

    told = await worker.deliver(customer, job_id="gone", **members)

    row = worker.row(customer, "gone")
    assert (None, []) == (told, worker.requeued())
    assert ("running", 2) == (row["state"], row["attempt"])
    assert [("lost", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


@pytest.mark.parametrize("heir_first", [True, False])
@pytest.mark.parametrize("members", KINDS.values(), ids=KINDS)
async def test_a_run_that_was_taken_for_dead_and_lives_is_recorded_once(
    world: World, worker: Worker, members: dict[str, Any], heir_first: bool
):
    """
    Whether the run that takes a job over is done before the first one's answer comes, or after: the first one's call
    has one record, which says what it cost, and none that nobody knows of it.
    """
    customer, held, heirs = world.customer(), Held(), Held()
    customer.account.will_answer(held, heirs)
    first = asyncio.create_task(worker.deliver(customer, job_id="gone", **members))
    await held.asked.wait()
    await worker.end_lease(customer, "gone")
    heir = asyncio.create_task(worker_of(world, table=worker.table).run(customer, job_id="gone", **members))
    await heirs.asked.wait()

    for end, run in [(heirs, heir), (held, first)] if heir_first else [(held, first), (heirs, heir)]:
        end.end.set()
        await run

    result = heir.result()
    assert first.result() is None
    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("lost", 1, 18)] == worker.outcomes(customer)


async def test_a_run_that_was_taken_for_dead_and_bought_nothing_leaves_no_record(world: World, worker: Worker):
    """A run that lost its job to another, and whose call was refused, takes back that it may have been paid for."""
    customer, held = world.customer(), Held()

    async def refused(request: web.Request) -> web.StreamResponse:
        held.asked.set()
        await held.end.wait()
        return await error(400)(request)

    customer.account.will_answer(refused)
    first = asyncio.create_task(worker.deliver(customer, job_id="gone"))
    await held.asked.wait()
    await worker.end_lease(customer, "gone")
    await worker_of(world, table=worker.table).run(customer, job_id="gone")
    between = worker.outcomes(customer)

    held.end.set()
    await first

    assert [("answered", 1, 18), ("unanswered", 0, 0)] == between
    assert [("answered", 1, 18)] == worker.outcomes(customer)


async def test_who_has_lost_the_hold_makes_no_further_call(world: World):
    """
    Of many calls of a run none is begun once it is known that another worker has the job: the first answer that
    can't be remembered says so, while the next call may be under way. What was answered is recorded.
    """
    worker, customer = worker_of(world), world.customer(max_concurrency=1)
    customer.account.will_answer(first(lambda: worker.take_over(customer, "many")))

    told = await worker.deliver(
        customer, job_id="many", action="multi_chat", input={"prompts": ["One?", "Two?", "Three?"]}
    )

    calls = len(customer.account.received)
    assert told is None
    assert calls in {1, 2}
    assert [("lost", 1, 18)] * calls == worker.outcomes(customer)


async def test_who_has_lost_the_hold_begins_no_other_call(world: World):
    """What the keeping of the lease finds out stops the calls that wait for their turn, though none has failed."""
    ledger = Noticing(table := MemoryTable(), lease_s=0.06)
    worker, customer = worker_of(world, table=table, ledger=ledger), world.customer(max_concurrency=1)

    async def take_over() -> None:
        await worker.take_over(customer, "waits")
        await ledger.noticed.wait()

    customer.account.will_answer(first(take_over, error(400)))

    told = await worker.deliver(customer, job_id="waits", action="multi_chat", input={"prompts": ["One?", "Two?"]})

    assert told is None
    assert 1 == len(customer.account.received)


async def test_who_has_lost_the_hold_does_not_try_again(world: World):
    """A call that failed is not tried again once another worker has the job."""
    ledger = Noticing(table := MemoryTable(), lease_s=0.06)
    worker, customer = worker_of(world, table=table, ledger=ledger), world.customer()

    async def take_over() -> None:
        await worker.take_over(customer, "tried")
        await ledger.noticed.wait()

    customer.account.will_answer(first(take_over, error(500)))

    told = await worker.deliver(customer, job_id="tried", options={"retry_delay_ms": 1})

    assert told is None
    assert 1 == len(customer.account.received)


@pytest.mark.usefixtures("hurried")
async def test_what_is_lost_is_recorded_though_storage_fails_meanwhile(world: World, worker: Worker):
    """A read that fails while the lost calls are recorded is made again; none of them is forgotten."""
    customer = world.customer()

    async def take_over() -> None:
        await worker.take_over(customer, "gone")
        reads = worker.table.read

        async def fail_once(partition: str, key: str) -> Row | None:
            if key.startswith("u_"):
                worker.table.read = reads  # type: ignore[method-assign]
                raise StorageUnavailable("The table is down.")
            return await reads(partition, key)

        worker.table.read = fail_once  # type: ignore[method-assign]

    customer.account.will_answer(first(take_over))

    await worker.deliver(customer, job_id="gone", **KINDS["multi_chat"])

    assert [("lost", 1, 18)] == worker.outcomes(customer)


@pytest.mark.parametrize(
    ("cut", "timeout_s"),
    [(reset, 120), (truncated, 120), (completion(after_s=30), 1.5)],
    ids=["reset", "truncated", "slow"],
)
@pytest.mark.parametrize("members", KINDS.values(), ids=KINDS)
async def test_calls_that_are_cut_short_are_recorded_once_each(
    world: World, worker: Worker, cut: Answer, timeout_s: float, members: dict[str, Any]
):
    """A call without a whole answer may be paid for: each try leaves one record, without calls or tokens."""
    customer = world.customer()
    customer.account.will_answer(cut, cut)
    options = {"timeout_s": timeout_s, "retry_delay_ms": 1}

    result = await worker.run(customer, options=options, **members)

    assert ("succeeded", 1) == (result["status"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("unanswered", 0, 0), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_calls_that_are_cut_short_are_recorded_when_the_job_is_put_back(world: World, worker: Worker):
    """The record is written with the job's release, and not again by the run that follows."""
    customer = world.customer()
    customer.account.will_answer(reset)
    options = {"retry_delay_ms": 60_000, "exponential_backoff": False}

    assert await worker.deliver(customer, job_id="cut", options=options) is None
    between = worker.outcomes(customer)
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert [("unanswered", 0, 0)] == between
    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_calls_that_never_went_out_are_not_recorded(world: World, worker: Worker):
    """Where nobody listens, nothing can have been paid for."""
    customer = world.customer(endpoint="http://127.0.0.1:1/openai/v1")

    result = await worker.run(customer, options={"max_retries": 2, "retry_delay_ms": 1})

    assert "provider_unavailable" == result["error"]["code"]
    assert [] == worker.outcomes(customer)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_refusals_are_not_recorded(world: World, worker: Worker, status: int):
    """An endpoint that says that it did not serve a call is not paid for it."""
    customer = world.customer()
    customer.account.will_answer(*[error(status)] * 4)

    result = await worker.run(customer, options={"max_retries": 1, "retry_delay_ms": 1})

    assert "failed" == result["status"]
    assert [] == worker.outcomes(customer)


async def test_a_raw_call_that_costs_nothing_leaves_no_record(world: World, worker: Worker):
    """What only reads is not paid for: neither answered nor cut short does it leave a record of a loss."""
    customer = world.customer()
    customer.account.will_answer(truncated, reply({"data": []}))

    result = await worker.run(
        customer, action="raw", input={"path": "models", "method": "GET"}, options={"retry_delay_ms": 1}
    )

    assert "succeeded" == result["status"]
    assert [] == [outcome for outcome in worker.outcomes(customer) if outcome[0] == "unanswered"]


@pytest.mark.parametrize("kind", ["chat", "multi_chat"])
async def test_a_crash_of_ours_after_a_paid_answer_is_recorded_as_lost(
    world: World, worker: Worker, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """What the provider counted stands in a record and in the failed result, though nobody could read the answer."""
    customer = world.customer()

    def crash(*_: Any) -> None:
        raise ValueError("A fault of ours.")

    for module in (chat, multi_chat):
        monkeypatch.setattr(module, "parse_chat", crash)

    result = await worker.run(customer, **KINDS[kind])

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert (1, 11, 7) == tuple(result["usage"][name] for name in ("calls", "input_tokens", "output_tokens"))
    assert [("lost", 1, 18)] == worker.outcomes(customer)


async def test_a_death_leaves_one_record(world: World, worker: Worker):
    """For each run whose worker died the run that takes over writes one record, of what may have been paid for."""
    customer, body = world.customer(), b""
    for _ in range(2):
        body = await _die(worker, customer)

    result = await worker.run(customer, body)

    assert ("succeeded", 3, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("unanswered", 0, 0), ("unanswered", 0, 0)] == worker.outcomes(customer)
    assert 3 == len(customer.account.received)


async def test_a_death_is_recorded_though_the_run_after_it_comes_to_nothing(world: World, worker: Worker):
    """A run that takes over and is put back has written the record of the death; the next one writes none."""
    customer = world.customer()
    body = await _die(worker, customer)
    customer.account.will_answer(error(429, retry_after="600"))

    assert await worker.deliver(customer, body) is None
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 3) == (result["status"], result["attempts"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_death_after_the_answer_was_remembered_leaves_no_record(world: World):
    """A job whose answer was remembered when its worker died goes on from there: nothing is bought, nothing unclear."""
    blobs = _Stuck()
    worker = worker_of(world, outputs=Outputs(world.services.settings, blobs))
    customer = world.customer()
    run = asyncio.create_task(worker.deliver(customer, job_id="kept", output={"blob": True}))
    await blobs.stuck.wait()
    await _cancelled(run)
    await worker.end_lease(customer, "kept")
    blobs.free = True

    result = await worker.run(customer, job_id="kept", output={"blob": True})

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert "Hello." == result["output"]["text"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


class _Stuck(MemoryBlobs):
    """Blobs whose results can't be written until it is `free`."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck, self.free = asyncio.Event(), False

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """Waits for ever."""
        if name.endswith("result.json") and not self.free:
            self.stuck.set()
            await asyncio.Event().wait()
        await super().write(container, name, data, content_type)


async def _die(worker: Worker, customer: Customer) -> bytes:
    """Leaves what a worker leaves that died while its call was under way; gives the job's message."""
    held, body = Held(), json.dumps(customer.job(job_id="deadly")).encode()
    customer.account.will_answer(held)
    run = asyncio.create_task(worker.deliver(customer, body))
    await held.asked.wait()
    await _cancelled(run)
    await worker.end_lease(customer, "deadly")
    return body


async def _cancelled(run: asyncio.Task[Any]) -> None:
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST, Fault.TWICE])
@pytest.mark.parametrize("members", KINDS.values(), ids=KINDS)
async def test_a_storage_that_is_down_for_a_moment_is_waited_for(
    world: World, worker: Worker, fault: Fault, members: dict[str, Any]
):
    """Whichever change of a run fails once or twice is made again: the job ends in its first run, bought once."""
    customer = world.customer()
    for change in (1, 2):
        worker.table.faults.clear()
        worker.table.faults.extend([*[None] * change, fault, fault])
        before = len(customer.account.received)

        result = await worker.run(customer, job_id=f"job-{change}", **members)

        assert ("succeeded", 1, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
        assert before + 1 == len(customer.account.received)
        assert [] == worker.requeued()
    assert [("answered", 1, 18)] * 2 == worker.outcomes(customer)


@pytest.mark.usefixtures("hurried")
async def test_a_storage_that_stays_down_is_given_up(world: World, worker: Worker):
    """A run's patience ends: the job goes back, and is asked again by the run that takes it over."""
    customer = world.customer()
    worker.table.faults.extend([None, *[Fault.REFUSED] * (len(attempts.STORAGE_WAITS_S) + 1)])

    assert await worker.deliver(customer, job_id="down") is None
    ((body, delay_s),) = worker.requeued()
    await worker.end_lease(customer, "down")
    result = await worker.run(customer, body)

    assert 60 <= delay_s <= 66
    assert ("succeeded", 2) == (result["status"], result["attempts"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


@pytest.mark.parametrize(
    "members", [KINDS["chat with blob"], KINDS["multi_chat"]], ids=["chat with blob", "multi_chat"]
)
async def test_a_step_that_was_stored_unseen_does_not_lose_the_job(
    world: World, monkeypatch: pytest.MonkeyPatch, members: dict[str, Any]
):
    """
    A step is stored, but no answer comes for as long as the run has patience; then Storage is back, and the
    lease is renewed before the job is given up. The job goes back into the queue, and ends.
    """
    due = asyncio.Event()

    class Slow(Time):
        """Time in which the lease is due to be renewed only while the step waits to be stored."""

        async def sleep(self, seconds: float) -> None:
            """See `Time`."""
            if seconds == worker.ledger.lease_s / 3:
                await due.wait()
                due.clear()
            else:
                due.set()
                await asyncio.sleep(0.005)

    monkeypatch.setattr(attempts, "asyncio", Slow())
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", (1, 1, 1))
    worker, customer = worker_of(world), world.customer()
    worker.table.faults.extend([None, Fault.LOST, Fault.REFUSED, Fault.REFUSED, Fault.REFUSED])

    assert await worker.deliver(customer, job_id="unseen", **members) is None
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


@pytest.mark.usefixtures("without_storage_waits")
async def test_an_answer_that_is_remembered_late_is_not_called_lost(world: World, worker: Worker):
    """An answer that could not be remembered at once, but is when the job is given up, was bought once: one record."""
    customer = world.customer()
    worker.table.faults.extend([None, Fault.REFUSED])

    assert await worker.deliver(customer, job_id="late", output={"blob": True}) is None
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_blob_that_can_not_be_written_costs_no_second_call(world: World):
    """A job whose result can't be saved goes back with its answer remembered; the next run only saves it."""
    blobs = _Refusing()
    worker = worker_of(world, outputs=Outputs(world.services.settings, blobs))
    customer = world.customer()
    blobs.refusing = True

    assert await worker.deliver(customer, job_id="unkept", output={"blob": True}) is None
    blobs.refusing = False
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


class _Refusing(MemoryBlobs):
    """Blobs that keep no result while they are `refusing`."""

    refusing = False

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `stores.Blobs`."""
        if self.refusing and name.endswith("result.json"):
            raise StorageUnavailable("The blob is refused.")
        await super().write(container, name, data, content_type)


async def test_an_answer_that_can_not_be_read_is_recorded(world: World, worker: Worker):
    """An answer of 200 that is not read to its end, here because it is packed twice, may be paid for."""
    customer = world.customer()
    packed = gzip.compress(gzip.compress(b"{}"))
    customer.account.will_answer(reply(packed, headers={"content-encoding": "gzip, gzip"}))

    result = await worker.run(customer, options={"max_retries": 0})

    assert "provider_unavailable" == result["error"]["code"]
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)
