"""Jobs that wait: called off, past their deadline, given up; and what is told of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.errors import StorageUnavailable
from shared.jobs.envelope import decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.lease import Lease
from tests.support.blocking_endpoint import Held
from tests.support.endpoint import completion, error
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Customer, World, delivery
from tests.support.workers import Worker, worker_of

PROMPTS = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}}


@pytest.fixture
def worker(world: World) -> Worker:
    """A worker."""
    return worker_of(world)


async def test_a_job_that_waits_can_be_called_off(world: World, worker: Worker):
    """
    A job that was put back is cancelled; when its message comes, it ends so, with what it had bought until then,
    and buys nothing more. Told again, it is the same.
    """
    customer = world.customer(max_concurrency=1)
    customer.account.will_answer(completion(), error(429, retry_after="600"))
    assert await worker.deliver(customer, job_id="off", **PROMPTS) is None
    ((body, _),) = worker.requeued()
    before = len(customer.account.received)

    states = [await worker.services.updates.cancel(customer.name, "off") for _ in range(2)]
    result = await worker.run(customer, body)
    again = await worker.run(customer, body)

    assert ["cancelled", "cancelled"] == states
    assert ("failed", "cancelled", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert "The job was cancelled before it was done." == result["error"]["message"]
    assert (1, 11, 7) == tuple(result["usage"][name] for name in ("calls", "input_tokens", "output_tokens"))
    assert result == again
    assert before == len(customer.account.received)
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert "done" == await worker.services.updates.cancel(customer.name, "off")


async def test_a_job_that_is_not_there_can_not_be_called_off(world: World, worker: Worker):
    """A job that nobody knows, and another customer's, is None."""
    customer, other = world.customer(), world.customer()
    await worker.run(other, job_id="theirs")

    assert await worker.services.updates.cancel(customer.name, "nothing") is None
    assert await worker.services.updates.cancel(customer.name, "theirs") is None


async def test_a_job_that_runs_is_not_called_off(world: World, worker: Worker):
    """It is too late for a job that has begun: it ends as it would."""
    customer, held = world.customer(), Held()
    customer.account.will_answer(held)
    run = asyncio.create_task(worker.run(customer, job_id="runs"))
    await held.asked.wait()

    state = await worker.services.updates.cancel(customer.name, "runs")
    held.end.set()

    assert "running" == state
    assert "succeeded" == (await run)["status"]
    assert "done" == await worker.services.updates.cancel(customer.name, "runs")


async def test_a_cancelled_job_stays_cancelled_though_its_worker_dies(world: World, worker: Worker):
    """A worker that dies while it ends a cancelled job leaves one that the next one ends alike."""
    customer = world.customer()
    body = await _requeue_waiting(worker, customer)
    await worker.services.updates.cancel(customer.name, "off")
    await worker.ledger.claim(customer.name, "off", fingerprint=_asked(body), submitted_at=now())
    await worker.end_lease(customer, "off")

    result = await worker.run(customer, body)

    assert ("cancelled", 3) == (result["error"]["code"], result["attempts"])
    assert 1 == len(customer.account.received)


async def test_a_cancelled_job_that_is_buried_is_cancelled(world: World, worker: Worker):
    """Whichever queue its message comes from."""
    customer = world.customer()
    body = await _requeue_waiting(worker, customer)
    await worker.services.updates.cancel(customer.name, "off")

    told = await worker.services.worker.dead_letter(delivery(body))

    assert told is not None
    assert "cancelled" == json.loads(told)["error"]["code"]


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_cancelled_job_waits_for_storage(world: World, worker: Worker):
    """A Storage that does not keep the end of a cancelled job does not bring it back to life."""
    customer = world.customer()
    body = await _requeue_waiting(worker, customer)
    await worker.services.updates.cancel(customer.name, "off")
    worker.table.faults.extend([None, None, Fault.REFUSED])

    assert await worker.deliver(customer, body) is None
    ((body, _),) = worker.requeued()
    await worker.end_lease(customer, "off")
    result = await worker.run(customer, body)

    assert "cancelled" == result["error"]["code"]
    assert 1 == len(customer.account.received)


async def test_a_deadline_counts_from_the_first_submission(world: World, worker: Worker):
    """A message that goes back many times keeps the time it first came, and the job ends when that is too long ago."""
    customer, first = world.customer(), now() - timedelta(seconds=500)
    customer.account.will_answer(*[error(429, retry_after="70")] * 9)
    body = json.dumps(customer.job(job_id="patient", options={"deadline_s": 600})).encode()
    assert await worker.deliver(customer, body, submitted_at=first) is None

    ((body, _),) = worker.requeued()
    row = worker.table.rows[customer.name, "j_patient"]
    assert first == row.values["submitted_at"]
    await worker.table.merge(replace(row, values={"submitted_at": first - timedelta(seconds=40)}))
    result = await worker.run(customer, body)

    assert rfc3339(first - timedelta(seconds=40)) == result["submitted_at"]
    assert ("rate_limited", 2) == (result["error"]["code"], result["attempts"])
    assert 2 == len(customer.account.received)


async def test_a_deadline_counts_though_the_job_never_got_a_claim(world: World, worker: Worker):
    """A job that was put back before anybody could claim it has the time of its first message too."""
    customer, first = world.customer(), now() - timedelta(seconds=500)
    worker.table.down = True
    body = json.dumps(customer.job(job_id="unclaimed", options={"deadline_s": 600})).encode()
    for _ in range(3):
        assert await worker.deliver(customer, body, submitted_at=first) is None
        ((body, _),) = worker.requeued()
        assert {"submitted_at": rfc3339(first)} == json.loads(body)["_envelope"]
    worker.table.down = False

    result = await worker.run(customer, _moved(body, seconds=101))

    assert ("timeout", 1) == (result["error"]["code"], result["attempts"])
    assert rfc3339(first - timedelta(seconds=101)) == result["submitted_at"]
    assert [] == customer.account.received


async def test_a_job_requeue_waiting_is_submitted_when_it_first_was(world: World, worker: Worker):
    """A message of now whose job was submitted an hour ago is of an hour ago, for whoever claims it first."""
    customer, first = world.customer(), now() - timedelta(hours=1)
    body = json.dumps(customer.job(job_id="old") | {"_envelope": {"submitted_at": rfc3339(first)}}).encode()

    result = await worker.run(customer, body)

    assert ("succeeded", rfc3339(first)) == (result["status"], result["submitted_at"])


async def test_nobody_can_lengthen_a_deadline(world: World, worker: Worker):
    """A caller that writes a time of its own, in the future, has the deadline that all have."""
    customer, later = world.customer(), now() + timedelta(days=3)
    job = customer.job(options={"deadline_s": 60}) | {"_envelope": {"submitted_at": rfc3339(later)}}

    result = await worker.run(customer, json.dumps(job).encode(), submitted_at=now() - timedelta(seconds=61))

    assert "timeout" == result["error"]["code"]
    assert result["submitted_at"] < rfc3339(now())
    assert [] == customer.account.received


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-20T13:12:00",
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00Z",  # Azurite takes it; Azure's tables begin in 1601
        "yesterday",
        7,
        None,
        {},
    ],
)
async def test_a_time_that_makes_no_sense_harms_nobody(world: World, written: Any):
    """Whatever a caller writes where only we write, its job ends with a result that is its own: on Azurite."""
    customer = world.customer()
    job = customer.job() | {"_envelope": {"submitted_at": written}}

    result = await customer.run(json.dumps(job).encode())

    assert result["status"] == "succeeded" or result["error"]["code"] in {"invalid_job", "timeout"}


@pytest.mark.parametrize("written", [{}, [], "x", 1])
async def test_a_word_of_ours_that_is_none_is_refused(world: World, worker: Worker, written: Any):
    """What stands for `_envelope` and is none is no job."""
    customer = world.customer()

    result = await worker.run(customer, json.dumps(customer.job() | {"_envelope": written}).encode())

    assert "invalid_job" == result["error"]["code"]


async def test_a_buried_job_tells_the_endpoints_refusal(world: World, worker: Worker):
    """A job from the poison queue ends with the code and the words of what its last run came to."""
    customer = world.customer()
    customer.account.will_answer(error(429, message="Slow down.", retry_after="600"))
    assert await worker.deliver(customer, job_id="poison") is None
    ((body, _),) = worker.requeued()
    await _submitted_earlier(worker, customer, "poison", timedelta(days=2))

    told = await worker.services.worker.dead_letter(delivery(body))

    assert told is not None
    result = json.loads(told)
    assert ("failed", "rate_limited", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert "given up by the queue" in result["error"]["message"]
    assert "Slow down." in result["error"]["message"]


async def test_a_buried_job_tells_that_its_worker_died(world: World, worker: Worker):
    """Where nothing else is known, the death itself is the reason, and ours."""
    customer = world.customer()
    body = json.dumps(customer.job(job_id="deadly")).encode()
    await worker.ledger.claim(customer.name, "deadly", fingerprint=_asked(body), submitted_at=now())
    await worker.end_lease(customer, "deadly")

    told = await worker.services.worker.dead_letter(delivery(body))

    assert told is not None
    error = json.loads(told)["error"]
    assert "internal" == error["code"]
    assert "The worker that ran it died." in error["message"]
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_buried_job_that_nobody_claimed_is_answered(world: World, worker: Worker):
    """A message that reached no claim before the host gave it up ends with a result, too."""
    customer = world.customer()

    told = await worker.services.worker.dead_letter(delivery(json.dumps(customer.job(job_id="unknown")).encode()))

    assert told is not None
    result = json.loads(told)
    assert ("internal", 1) == (result["error"]["code"], result["attempts"])
    assert [] == customer.account.received + worker.usage(customer)


async def _dead(worker: Worker, customer: Customer, **members: Any) -> bytes:
    """A message without an id, whose job `orig-1` was running when its worker died."""
    body = json.dumps(customer.job(**members)).encode()
    await worker.ledger.claim(customer.name, "orig-1", fingerprint=_asked(body), submitted_at=now())
    await worker.end_lease(customer, "orig-1")
    return body


async def test_the_callback_of_a_buried_job_bears_its_own_id(world: World, worker: Worker):
    """The host gives a message in the poison queue a new id: what is told is told of the job that it was."""
    body = await _dead(worker, world.customer(), output={"callback": "https://example.com/hook"})

    told = await worker.services.worker.dead_letter(delivery(body, "poison-9"))

    ((message, _),) = worker.queues.sent[world.environment["CALLBACKS_QUEUE"]]
    assert ["orig-1", "orig-1"] == [json.loads(one)["job_id"] for one in (told or b"{}", message)]


@pytest.mark.parametrize("known", [True, False])
async def test_a_buried_job_has_one_result(world: World, worker: Worker, known: bool):
    """Where its result can't be told at once, that result is told later, and no other one is made."""
    customer, queue = world.customer(), world.environment["ALLOWED_RESULT_QUEUES"]
    members = {"output": {"queue": queue}}
    body = await _dead(worker, customer, **members) if known else json.dumps(customer.job(**members)).encode()
    worker.queues.missing = frozenset({queue})

    assert await worker.services.worker.dead_letter(delivery(body, "poison-9")) is None
    ((again, _),) = worker.queues.sent.pop(worker.services.settings.poison_queue)
    worker.queues.missing = frozenset()
    assert await worker.services.worker.dead_letter(delivery(again, "poison-10")) is None

    ((told, _),) = worker.queues.sent[queue]
    assert ("orig-1" if known else "poison-9") == json.loads(told)["job_id"]
    assert 1 == sum(key.startswith("j_") for partition, key in worker.table.rows if partition == customer.name)


async def test_a_poison_message_past_its_deadline_waits_for_no_other(world: World, worker: Worker):
    """A job that asks for the same and runs just now holds nobody up for ever."""
    customer = world.customer()
    body = json.dumps(customer.job(options={"deadline_s": 5})).encode()
    await worker.ledger.claim(customer.name, "other", fingerprint=_asked(body), submitted_at=now())

    told = await worker.services.worker.dead_letter(
        replace(delivery(body, "poison-9"), submitted_at=now() - timedelta(days=2))
    )

    assert told is not None
    assert "poison-9" == json.loads(told)["job_id"]


async def test_a_queue_that_refuses_for_a_while_ends_no_waiting_job(world: World, worker: Worker):
    """
    A job that its endpoint asked to wait while nothing could be sent to the queue: the host gives its message up
    after five tries. Once the queue takes messages again, it waits on, and is run.
    """
    customer = world.customer()
    body = json.dumps(customer.job(job_id="healthy")).encode()
    customer.account.will_answer(*[error(429, retry_after="3600")] * 5)
    worker.queues.down = True
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await worker.services.worker.process(delivery(body))
    with pytest.raises(StorageUnavailable):
        await worker.services.worker.dead_letter(delivery(body))
    worker.queues.down = False

    assert await worker.services.worker.dead_letter(delivery(body)) is None
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert "succeeded" == result["status"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)


async def test_a_job_is_not_buried_for_ever(world: World, worker: Worker):
    """One that always comes back from there is given up the sixth time, and at its deadline."""
    customer, told = world.customer(), []
    for job_id, burials in (("again", 5), ("late", 0)):
        customer.account.will_answer(error(429, message="Slow down.", retry_after="3600"))
        assert await worker.deliver(customer, job_id=job_id) is None
        ((body, _),) = worker.requeued()
        for _ in range(burials):
            assert await worker.services.worker.dead_letter(delivery(body)) is None
            ((body, _),) = worker.requeued()
        if not burials:
            await _submitted_earlier(worker, customer, job_id, timedelta(days=2))
        told.append(json.loads(await worker.services.worker.dead_letter(delivery(body)) or b"{}"))

    assert [("again", "rate_limited"), ("late", "rate_limited")] == [
        (result["job_id"], result["error"]["code"]) for result in told
    ]
    assert 2 == len(customer.account.received)


async def test_deaths_do_not_pile_up_in_the_reason(world: World, worker: Worker):
    """However often its worker died, the result says it once, and before it what the endpoint had said."""
    customer = world.customer()
    body = await _requeue_waiting(worker, customer)
    for _ in range(3):
        await worker.ledger.claim(customer.name, "off", fingerprint=_asked(body), submitted_at=now())
        await worker.end_lease(customer, "off")

    told = await worker.services.worker.dead_letter(delivery(body))

    assert told is not None
    message = json.loads(told)["error"]["message"]
    assert 1 == message.count("The worker that ran it died.")
    assert "Slow down." in message


async def test_five_runs_that_came_to_nothing_are_enough(world: World, worker: Worker):
    """A job whose workers died five times is given up with the last known reason, and buys nothing more."""
    customer = world.customer()
    body = await _requeue_waiting(worker, customer)
    for _ in range(5):
        claim = await worker.ledger.claim(customer.name, "off", fingerprint=_asked(body), submitted_at=now())
        assert isinstance(claim, Lease)
        await worker.end_lease(customer, "off")

    result = await worker.run(customer, body)

    assert ("failed", 7) == (result["status"], result["attempts"])
    assert "given up after 5 failed attempts" in result["error"]["message"]
    assert "Slow down." in result["error"]["message"]
    assert 1 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * 5 == worker.outcomes(customer)


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_storage_that_keeps_nothing_is_told_as_the_reason(world: World, worker: Worker):
    """A job that Storage has failed five times ends with Storage's words, and what it had bought is counted."""
    customer = world.customer()
    body = json.dumps(customer.job(job_id="unkept", **PROMPTS)).encode()
    for run in range(5):
        worker.table.faults.extend([None] * (1 if run == 0 else 2) + [Fault.REFUSED] * 2)
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()
        worker.table.faults.clear()
        if "running" == worker.row(customer, "unkept")["state"]:
            await worker.end_lease(customer, "unkept")
    before = len(customer.account.received)

    result = await worker.run(customer, body)

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert "given up" in result["error"]["message"]
    assert before == len(customer.account.received)


async def test_waits_use_up_no_failure(world: World, worker: Worker):
    """A job that is put back by its endpoint any number of times is not given up for that."""
    customer = world.customer()
    customer.account.will_answer(*[error(429, retry_after="600")] * 8)
    body = json.dumps(customer.job(job_id="patient")).encode()
    for _ in range(8):
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()

    result = await worker.run(customer, body)

    assert ("succeeded", 9) == (result["status"], result["attempts"])


async def _submitted_earlier(worker: Worker, customer: Customer, job_id: str, ago: timedelta) -> None:
    row = worker.table.rows[customer.name, f"j_{job_id}"]
    await worker.table.merge(replace(row, values={"submitted_at": row.values["submitted_at"] - ago}))


async def _requeue_waiting(worker: Worker, customer: Customer) -> bytes:
    """The message of the job `off`, whose endpoint has asked for a long wait."""
    customer.account.will_answer(error(429, message="Slow down.", retry_after="600"))
    assert await worker.deliver(customer, job_id="off") is None
    ((body, _),) = worker.requeued()
    return body


def _asked(body: bytes) -> str:
    return fingerprint(decode_queued_job(body, default_id=""))


def _moved(body: bytes, *, seconds: float) -> bytes:
    """A message that was put back, as if it had first come so many seconds earlier."""
    job = json.loads(body)
    first = datetime.fromisoformat(job["_envelope"]["submitted_at"])
    job["_envelope"]["submitted_at"] = rfc3339(first - timedelta(seconds=seconds))
    return json.dumps(job).encode()


async def test_a_result_for_a_queue_that_nobody_made_ends_on_the_usual_one(world: World):
    """
    Until ten minutes beyond the job's deadline it goes back, for as long as anything that is out of reach; then the
    result is told where all are: nothing circles for ever.
    """
    worker, customer = worker_of(world), world.customer()
    queue = world.environment["ALLOWED_RESULT_QUEUES"]
    worker.queues.missing = frozenset({queue})
    members = {"job_id": "special", "output": {"queue": queue}, "options": {"deadline_s": 3600}}

    assert await worker.deliver(customer, **members) is None
    ((body, delay_s),) = worker.requeued()
    later = [
        json.dumps(json.loads(body) | {"_envelope": {"submitted_at": rfc3339(now() - timedelta(minutes=minutes))}})
        for minutes in (65, 75)
    ]
    assert await worker.deliver(customer, later[0].encode()) is None
    assert 1 == len(worker.requeued())
    told = await worker.deliver(customer, later[1].encode())

    assert delay_s >= 60
    assert ("succeeded", "special") == (told and told["status"], told and told["job_id"])
    assert (1, []) == (len(customer.account.received), worker.requeued())


async def test_an_outage_is_not_hammered_after_the_deadline(world: World):
    """A job past its deadline that can't be closed goes back for as long as any other."""
    table = MemoryTable()
    worker, customer = worker_of(world, table=table), world.customer()
    table.down = True

    told = await worker.deliver(customer, options={"deadline_s": 60}, submitted_at=now() - timedelta(hours=1))

    ((_, delay_s),) = worker.requeued()
    assert told is None
    assert delay_s >= 60


async def test_a_fault_while_telling_tells_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch):
    """A job that has its result is not refused besides: the host delivers it again."""
    worker, customer = worker_of(world), world.customer()

    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("A fault of ours.")

    monkeypatch.setattr(worker.queues, "send", crash)

    with pytest.raises(RuntimeError):
        await worker.deliver(customer, job_id="told", output={"callback": "https://example.com/hook"})

    assert "done" == worker.row(customer, "told")["state"]
