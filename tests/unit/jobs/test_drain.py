"""What a worker does with its jobs when it stops: none is lost, and what was paid for is not bought again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import pytest

from shared import services as services_module
from shared.clock import now, rfc3339
from shared.jobs.drain import Drain, WorkerStopping
from shared.services import services
from shared.telemetry.base import Telemetry
from shared.upstream import circuit_breaker
from shared.upstream.circuit_breaker import Breakers
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.endpoint import completion, error, reply
from tests.support.loopback import serve
from tests.support.workers import OpenWorker, Worker

PROMPTS = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}}


def start(worker: Worker, customer: Customer, **members: Any) -> asyncio.Task[dict[str, Any] | None]:
    """Deliver a message in a task of its own, as the Functions worker does."""

    async def invocation() -> dict[str, Any] | None:
        worker.services.drain.join()
        return await worker.deliver(customer, **members)

    return asyncio.create_task(invocation())


async def blocked(worker: Worker, customer: Customer, **members: Any) -> tuple[BlockingEndpoint, asyncio.Task[Any]]:
    """Return a job whose call is under way, and the endpoint that releases it."""
    endpoint = BlockingEndpoint()
    customer.account.will_answer(endpoint)
    job = start(worker, customer, **members)
    await endpoint.called.wait()
    return endpoint, job


def next_message(worker: Worker) -> bytes:
    """Return the one message that the worker has requeued, which waits for a moment at most."""
    ((body, delay_s),) = worker.requeued()
    assert delay_s < 1.2
    return body


async def test_a_call_under_way_ends_and_its_answer_counts(worker: Worker):
    """The job ends with its result, and the stop waits for that."""
    customer = worker.customer()
    endpoint, job = await blocked(worker, customer)
    stop = asyncio.create_task(worker.services.drain.stop())
    await asyncio.sleep(0)

    endpoint.release.set()
    await stop

    result = job.result()
    assert result is not None
    assert ("succeeded", [("answered", 1, 18)]) == (result["status"], worker.outcomes(customer))
    assert [] == worker.requeued()


async def test_a_call_that_takes_longer_than_the_grace_is_cut_off_and_on_record(
    open_worker: OpenWorker, monkeypatch: pytest.MonkeyPatch
):
    """
    Its job is released and requeued, and no failed attempt: it has no retry, and the next worker makes the call. The
    first one is on record as unanswered, and says nothing about the endpoint.
    """
    monkeypatch.setattr(circuit_breaker, "FAILURES", 1)
    opened: list[str] = []
    breakers = Breakers(on_change=lambda *_: opened.append("opened"))
    worker = open_worker(drain=Drain(calls_s=0), breakers=breakers)
    customer = worker.customer()
    _, job = await blocked(worker, customer, job_id="long", options={"max_retries": 0})

    await worker.services.drain.stop()

    assert job.result() is None
    row = worker.row(customer, "long")
    assert ("waiting", 0) == (row["state"], row["failed_attempts"])
    assert "The worker stopped during a call, which may have been billed." == row["reason"]
    assert ([("unanswered", 0, 0)], []) == (worker.outcomes(customer), opened)

    result = await worker.another().run(customer, next_message(worker))

    assert ("succeeded", 2) == (result["status"], result["attempts"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_job_that_waits_for_its_turn_is_handed_over_at_once(worker: Worker):
    """It makes no call, although another one of its connection is still under way."""
    customer = worker.customer(max_concurrency=1)
    endpoint, first = await blocked(worker, customer, job_id="first")
    second = start(worker, customer, job_id="second")
    limit = worker.services.limiter.of(customer.name, "default").calls
    while not limit._waiters:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0)

    stop = asyncio.create_task(worker.services.drain.stop())

    assert await second is None
    assert not first.done()
    endpoint.release.set()
    await stop
    assert 1 == len(customer.account.received)
    result = await worker.another().run(customer, next_message(worker))
    assert ("second", "succeeded", 2) == (result["job_id"], result["status"], result["attempts"])
    assert [("answered", 1, 18)] * 2 == worker.outcomes(customer)


async def test_a_call_that_was_not_sent_yet_is_handed_over_at_once(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """It waits for a socket; it is not sent after the stop has begun, and so leaves no record."""
    monkeypatch.setattr(worker.services.client._sockets, "total", 1)
    other, customer = worker.customer(), worker.customer()
    endpoint, first = await blocked(worker, other)
    second = start(worker, customer, job_id="second")
    while not worker.services.client._sockets._waiting:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0)

    stop = asyncio.create_task(worker.services.drain.stop())

    assert await second is None
    assert not first.done()
    endpoint.release.set()
    await stop
    assert ([], []) == (customer.account.received, worker.outcomes(customer))
    assert "The worker stops." == worker.row(customer, "second")["reason"]
    next_message(worker)


async def test_no_byte_is_sent_after_the_stop():
    """Whatever a try has waited for: the stop may come while that ends."""
    drain = Drain()
    async with drain.call() as call:
        with call.one_try():
            drain.is_stopping = True
            with pytest.raises(WorkerStopping):
                call.begin()


async def test_an_image_that_is_being_fetched_is_fetched_by_the_next_worker(worker: Worker):
    """Its call is stored and on record: a host that hangs is not waited for, and nothing is paid for again."""
    customer, picture = worker.customer(), BlockingEndpoint(reply(b"a picture"))
    async with serve(picture.__call__) as url:
        customer.account.will_answer(reply({"data": [{"url": url}]}))
        job = start(worker, customer, job_id="image", action="image", input={"prompt": "A cat"})
        await picture.called.wait()

        await worker.services.drain.stop()

        assert job.result() is None
        row = worker.row(customer, "image")
        assert ("waiting", 0) == (row["state"], row["failed_attempts"])
        picture.release.set()
        result = await worker.another().run(customer, next_message(worker))
    assert ("succeeded", 1) == (result["status"], len(customer.account.received))
    assert ["answered"] == [outcome for outcome, *_ in worker.outcomes(customer)]


@pytest.mark.parametrize("is_waiting", [True, False], ids=["before the stop", "after the stop"])
async def test_a_failed_try_is_not_repeated(worker: Worker, *, is_waiting: bool):
    """
    Whether it failed before or after the stop: another worker makes the next one, after what is left of the wait, and
    as the retry that it is.
    """
    customer = worker.customer()
    refusal = error(503)
    if is_waiting:
        customer.account.will_answer(refusal)
        job = start(worker, customer, options={"retry_delay_ms": 9_000, "max_retries": 1})
        calls = worker.services.drain._calls
        while not customer.account.received or any(call.is_sent for call in calls):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await worker.services.drain.stop()
    else:
        endpoint = BlockingEndpoint(refusal)
        customer.account.will_answer(endpoint)
        job = start(worker, customer, options={"retry_delay_ms": 9_000, "max_retries": 1})
        await endpoint.called.wait()
        stop = asyncio.create_task(worker.services.drain.stop())
        await asyncio.sleep(0)
        endpoint.release.set()
        await stop

    assert job.result() is None
    assert (1, []) == (len(customer.account.received), worker.outcomes(customer))
    ((body, delay_s),) = worker.requeued()
    assert 6 < delay_s < 10  # less a jitter of a quarter
    customer.account.will_answer(error(503))
    result = await worker.another().run(customer, body)
    assert ("failed", "provider_unavailable", 2) == (
        result["status"],
        result["error"]["code"],
        len(customer.account.received),
    )


async def test_a_refusal_during_the_stop_ends_the_job(worker: Worker):
    """It may have been charged, and would be no other on another worker."""
    customer = worker.customer()
    endpoint = BlockingEndpoint(error(400, "content_filter"))
    customer.account.will_answer(endpoint)
    job = start(worker, customer)
    await endpoint.called.wait()
    stop = asyncio.create_task(worker.services.drain.stop())
    await asyncio.sleep(0)

    endpoint.release.set()
    await stop

    result = job.result()
    assert result is not None
    assert ("failed", []) == (result["status"], worker.requeued())


async def test_a_job_of_many_calls_stops_between_them(worker: Worker):
    """The answers that it has are stored, and the next worker makes only the calls that are missing."""
    customer = worker.customer(max_concurrency=1)
    endpoint, job = await blocked(worker, customer, **PROMPTS)
    stop = asyncio.create_task(worker.services.drain.stop())
    await asyncio.sleep(0)

    endpoint.release.set()
    await stop

    assert job.result() is None
    assert 1 == len(customer.account.received)
    result = await worker.another().run(customer, next_message(worker))
    assert ("succeeded", 3) == (result["status"], result["usage"]["calls"])
    assert 3 == len(customer.account.received)
    assert [("answered", 1, 18)] * 3 == worker.outcomes(customer)


async def test_of_many_calls_that_are_cut_off_each_is_on_record(open_worker: OpenWorker):
    """The job's answered call is not among them."""
    worker = open_worker(drain=Drain(calls_s=0))
    customer = worker.customer(max_concurrency=3)
    first, second = BlockingEndpoint(), BlockingEndpoint()
    customer.account.will_answer(completion(), first, second)
    job = start(worker, customer, job_id="three", **PROMPTS)
    await first.called.wait()
    await second.called.wait()
    while not any(key.startswith("s_three") for _, key in worker.table.rows):  # noqa: ASYNC110  # a table has no event
        await asyncio.sleep(0)

    await worker.services.drain.stop()

    assert job.result() is None
    expected = [("answered", 1, 18), ("unanswered", 0, 0), ("unanswered", 0, 0)]
    assert expected == worker.outcomes(customer)


async def test_a_message_that_comes_after_the_stop_is_sent_again(worker: Worker):
    """Its job is not claimed, and keeps the time of its submission."""
    customer, submitted_at = worker.customer(), now()
    await worker.services.drain.stop()

    assert await start(worker, customer, job_id="late", submitted_at=submitted_at) is None

    body = next_message(worker)
    assert rfc3339(submitted_at) == json.loads(body)["_envelope"]["submitted_at"]
    assert (customer.name, "j_late") not in worker.table.rows
    assert 1 == (await worker.another().run(customer, body))["attempts"]


async def test_the_stop_ends_after_its_grace_whatever_still_runs():
    """What is not a call is not interrupted, and not waited for any longer; a second stop is the same."""
    drain, ended = Drain(calls_s=0, grace_s=0), asyncio.Event()

    async def invocation() -> None:
        drain.join()
        await ended.wait()

    running = asyncio.create_task(invocation())
    await asyncio.sleep(0)

    await drain.stop()
    await drain.stop()

    assert not running.done()
    with pytest.raises(WorkerStopping):
        drain.check()
    ended.set()
    await running


async def test_the_timeouts_of_others_stay_timeouts():
    """Only the stop makes a job wait for another worker."""
    with pytest.raises(TimeoutError):
        async with Drain().call():
            raise TimeoutError
    running = asyncio.Event()

    async def cancelled() -> None:
        async with Drain().call() as call:
            with call.one_try():
                running.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(cancelled())
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_telemetry_has_is_sent_before_the_end(open_worker: OpenWorker):
    """A worker that is stopped loses no span and no metric."""
    closed = list[str]()

    class Recording(Telemetry):
        def close(self) -> None:
            closed.append("closed")

    await open_worker(telemetry=Recording()).services.stop()

    assert ["closed"] == closed


async def test_the_first_invocation_has_the_signal_handled(monkeypatch: pytest.MonkeyPatch):
    """Once a process; the stop waits for each task that has got the services."""
    monkeypatch.setattr(services_module, "_services", None)
    before = signal.getsignal(signal.SIGTERM)
    environment = {"JobStorage": "UseDevelopmentStorage=true"}

    async def invocation() -> bool:
        opened = services(environment)
        return asyncio.current_task() in opened.drain._invocations

    try:
        first = await asyncio.create_task(invocation())
        handler = signal.getsignal(signal.SIGTERM)
        second = await asyncio.create_task(invocation())
        after = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    opened = services(environment)
    await opened.close()
    assert (True, True) == (first, second)
    assert handler is after is not before
    assert {asyncio.current_task()} == opened.drain._invocations


PROGRAM = """
import asyncio, os, signal, sys, threading
from shared.jobs.drain import on_sigterm

async def stop():
    os.kill(os.getpid(), signal.SIGTERM)  # a second signal
    await asyncio.sleep(0)
    print("stopped", flush=True)

async def main():
    {prepare}
    on_sigterm(stop)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0 if {ignored} else 60)

asyncio.run(main())
"""
CLOSED = """
import asyncio, os, signal
from shared.jobs.drain import on_sigterm

async def main():
    on_sigterm(asyncio.Event().wait)

asyncio.run(main())
os.kill(os.getpid(), signal.SIGTERM)
"""
HANDLER = "signal.signal(signal.SIGTERM, lambda *_: (print('before', flush=True), os._exit(3)))"
IGNORED = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.parametrize(
    ("program", "printed", "code"),
    [
        pytest.param(PROGRAM.format(prepare=HANDLER, ignored=False), "stopped\nbefore\n", 3, id="a handler"),
        *(
            pytest.param(*row, id=name, marks=pytest.mark.long)
            for name, *row in (
                ("default", PROGRAM.format(prepare="pass", ignored=False), "stopped\n", -signal.SIGTERM),
                ("ignored", PROGRAM.format(prepare=IGNORED, ignored=True), "", 0),
                ("no loop", CLOSED, "", -signal.SIGTERM),
            )
        ),
    ],
)
async def test_sigterm_takes_its_course_after_the_stop(program: str, printed: str, code: int):
    """What the signal did before is done once, after the stop; where it is ignored, nothing stops."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)

    output, _ = await child.communicate()

    assert (printed, code) == (output.decode(), child.returncode)
