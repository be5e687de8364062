"""Jobs that name several connections, when workers die and Storage fails: each call is on record where it was made."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from tests.support.customers import Customer
from tests.support.endpoint import Account, Answer, completion, error, reply, reset
from tests.support.fakes import Fault
from tests.support.several_connections import BOTH, NO_QUOTA, connect_second, served
from tests.support.workers import Worker


async def die(worker: Worker, customer: Customer, body: bytes, account: Account) -> None:
    """Have the worker die while this account answers its call."""
    called = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        called.set()
        await asyncio.sleep(60)
        raise AssertionError

    account.will_answer(hang)
    run = asyncio.create_task(worker.deliver(customer, body))
    await called.wait()
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    await worker.expire_lease(customer, "job")


def recorded(worker: Worker, customer: Customer) -> list[tuple[str, str]]:
    """Return the connection and the outcome of each usage record."""
    return sorted((row["connection"], row["outcome"]) for row in worker.usage(customer))


async def test_a_call_with_which_a_worker_died_is_the_connection_s_that_was_called(worker: Worker):
    """The job goes on with that one: the one before has said that it can't serve, and is not asked again."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.answers[:] = [NO_QUOTA] * 2
    body = customer.body(job_id="job", connection=BOTH)
    await die(worker, customer, body, second)

    result = await worker.another().run(customer, body)

    assert ("succeeded", "second", [("default", "quota_exhausted")]) == served(result)
    assert (1, 2) == (len(customer.account.received), len(second.received))
    assert [("second", "answered"), ("second", "unanswered")] == recorded(worker, customer)


async def test_a_call_on_a_connection_that_is_deleted_then_stays_its_own(worker: Worker):
    """The attempt that records it can't resolve the connection any more, and skips it; the next has all retries."""
    customer = worker.customer()
    connect_second(worker, customer).will_answer(error(503))
    body = customer.body(job_id="job", connection=BOTH, options={"max_retries": 1, "retry_delay_ms": 0})
    await die(worker, customer, body, customer.account)
    del worker.memory.credentials.secrets[customer.name, "default"]

    later = worker.another()
    assert await later.deliver(customer, body) is None
    ((body, _),) = later.requeued()
    result = await later.run(customer, body)

    assert ("succeeded", "second", [("default", "connection_not_found")]) == served(result)
    assert [("default", "unanswered"), ("second", "answered")] == recorded(worker, customer)


@pytest.mark.usefixtures("short_storage_waits")
async def test_storage_that_keeps_no_answer_is_no_reason_for_another_connection(worker: Worker):
    """The job waits for it, and goes on where it was."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    worker.table.faults.extend([None, *[Fault.REFUSED] * 6])  # the claim, and all tries of the step
    job = {"action": "multi_chat", "input": {"prompts": ["1"]}}

    assert await worker.deliver(customer, job_id="job", connection=BOTH, **job) is None
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("succeeded", "default", []) == served(result)
    assert [] == second.received


@pytest.mark.usefixtures("short_storage_waits")
async def test_nothing_is_bought_before_storage_knows_where(worker: Worker):
    """If the job's row can't say that a connection is skipped, the next one is not called yet."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.will_answer(NO_QUOTA)
    faults = worker.table.faults
    faults.extend([None, *[Fault.REFUSED] * 6])  # the claim, and all tries of the note

    assert await worker.deliver(customer, job_id="job", connection=BOTH) is None
    assert [] == second.received
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("succeeded", "second", [("default", "quota_exhausted")]) == served(result)
    assert (1, 1) == (len(customer.account.received), len(second.received))


async def test_the_next_connection_has_all_retries(worker: Worker):
    """What the first one has used up is its own, also if it is disabled in the end."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.will_answer(error(503))
    slowly = {"max_retries": 1, "retry_delay_ms": 20_000, "exponential_backoff": False}
    assert await worker.deliver(customer, job_id="job", connection=BOTH, options=slowly) is None
    ((body, _),) = worker.requeued()
    del worker.memory.credentials.secrets[customer.name, "default"]
    later = worker.another()
    assert await later.deliver(customer, body) is None
    ((body, _),) = later.requeued()

    second.will_answer(error(503))
    assert await later.deliver(customer, body) is None

    ((body, _),) = later.requeued()
    assert ("succeeded", "second") == served(await later.run(customer, body))[:2]


async def test_the_next_connection_has_all_retries_after_calls_that_may_be_billed(worker: Worker):
    """They are the first one's, on record there."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.answers[:] = [reset] * 2
    options = {"max_retries": 1, "retry_delay_ms": 1}
    assert await worker.deliver(customer, job_id="job", connection=BOTH, options=options) is None
    ((body, _),) = worker.requeued()

    second.will_answer(error(503))
    result = await worker.run(customer, body)

    assert ("succeeded", "second", [("default", "provider_unavailable")]) == served(result)
    assert (2, 2) == (len(customer.account.received), len(second.received))


async def test_each_part_that_failed_is_the_next_connection_s(worker: Worker):
    """Whatever the other parts have met: one that every connection refuses is not the reason."""
    customer = worker.customer(max_concurrency=1)
    second = connect_second(worker, customer)
    customer.account.answers[:] = [error(400, message="Wrong."), NO_QUOTA]
    second.will_answer(error(400, message="Wrong."))
    prompts = {"action": "multi_chat", "input": {"prompts": ["1", "2"]}}

    result = await worker.run(customer, **prompts, connection=BOTH)

    assert ("partial", "second", [("default", "quota_exhausted")]) == served(result)
    assert ["request_rejected", None] == [answer.get("error", {}).get("code") for answer in result["output"]["answers"]]


async def test_a_part_that_fails_alone_is_the_next_connection_s(worker: Worker):
    """The first one has answered the others."""
    customer = worker.customer(max_concurrency=1)
    second = connect_second(worker, customer)
    customer.account.answers[:] = [completion("One."), error(503), completion("Three.")]
    second.will_answer(completion("Two."))
    prompts = {"action": "multi_chat", "input": {"prompts": ["1", "2", "3"]}}

    result = await worker.run(customer, **prompts, connection=BOTH, options={"max_retries": 0})

    assert ("succeeded", "second", [("default", "provider_unavailable")]) == served(result)
    assert ["One.", "Two.", "Three."] == [answer["text"] for answer in result["output"]["answers"]]
    assert (3, 1) == (len(customer.account.received), len(second.received))


async def test_an_answer_that_is_no_use_was_bought_where_it_came_from(worker: Worker):
    """The job ends with it, and names that connection: no other one was called."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    page: Answer = reply(b"<html>Maintenance.</html>")
    customer.account.answers[:] = [page] * 3
    jobs: list[dict[str, Any]] = [
        {},
        {"action": "speak", "input": {"text": "Hello.", "voice": "alloy"}},
        {"action": "multi_chat", "input": {"prompts": ["1"]}},
    ]

    for job in jobs:
        result = await worker.run(customer, **job, connection=BOTH)

        assert ("failed", "default", []) == served(result)
        assert "provider_unavailable" == result["error"]["code"]
    assert [] == second.received


async def test_none_could_serve(worker: Worker):
    """The result says why each one could not, also if the last one is missing."""
    customer = worker.customer()
    customer.account.will_answer(NO_QUOTA)

    result = await worker.run(customer, connection=BOTH)

    assert ("failed", "second", [("default", "quota_exhausted")]) == served(result)
    assert "connection_not_found" == result["error"]["code"]


async def test_a_connection_is_not_skipped_if_there_is_no_time_for_another(worker: Worker):
    """The result names the one that was called."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.will_answer(NO_QUOTA)

    result = await worker.run(customer, connection=BOTH, options={"deadline_s": 0.9})

    assert ("failed", "default", []) == served(result)
    assert ("quota_exhausted", []) == (result["error"]["code"], second.received)
