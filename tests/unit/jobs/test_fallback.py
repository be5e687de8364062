"""Jobs that name several connections: which one serves, which were skipped, and whose account is billed."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from shared.contract.budget import Budget
from shared.contract.job import decode_job
from shared.errors import InvalidJob
from shared.secret import Secret
from shared.upstream.circuit_breaker import FAILURES
from tests.support.endpoint import Answer, completion, error, reset
from tests.support.patient_budgets import total, used
from tests.support.rows import every_row
from tests.support.several_connections import BOTH, NO_MODEL, NO_QUOTA, connect_second, served
from tests.support.workers import SETTINGS, OpenWorker, Worker


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error(401), "credential_rejected"),
        (error(403, message="Your resource has been temporarily blocked."), "account_blocked"),
        (NO_MODEL, "model_not_found"),
        (NO_QUOTA, "quota_exhausted"),
        (error(503), "provider_unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_next_connection_serves(worker: Worker, answer: Answer, code: str):
    """At once, if the first one has refused. Nothing of that is on its account."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.answers[:] = [answer] * 4

    result = await worker.run(customer, connection=BOTH, options={"max_retries": 0})

    assert ("succeeded", "second", [("default", code)]) == served(result)
    assert (1, 1) == (result["attempts"], len(second.received))
    assert [("second", "answered", 1)] == [(r["connection"], r["outcome"], r["calls"]) for r in worker.usage(customer)]


async def test_a_connection_for_another_model_is_skipped(worker: Worker):
    """Its endpoint names the deployment that it has, so that is known before any call."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    worker.connect(customer, endpoint=f"{customer.account.base}/openai/deployments/gpt-4o", api_version="2024-10-21")

    result = await worker.run(customer, model="gpt-5.5", connection=BOTH)

    assert ("succeeded", "second", [("default", "model_not_found")]) == served(result)
    assert ([], 1) == (customer.account.received, len(second.received))
    alone = await worker.run(customer, model="gpt-5.5")
    assert "invalid_job" == alone["error"]["code"]


async def test_the_operators_connection_is_skipped_for_other_models(open_worker: OpenWorker):
    """It serves what it would serve anyway."""
    settings = replace(SETTINGS, allow_static_connection="*", static_models=("gpt-4o-mini",))
    worker = open_worker()
    customer = worker.customer(connection=None)
    worker = worker.another(settings=replace(settings, static_connection=Secret(customer.secret())))
    second = connect_second(worker, customer)

    result = await worker.run(customer, model="gpt-4o", connection=BOTH)

    assert ("succeeded", "second", [("default", "model_not_found")]) == served(result)
    assert ([], 1) == (customer.account.received, len(second.received))


async def test_a_connection_that_is_missing_or_disabled_is_skipped(worker: Worker):
    """A job that can be served has no need of each one."""
    customer = worker.customer(connection=None)
    connect_second(worker, customer)

    result = await worker.run(customer, connection=["first", "default", "second"])

    skipped = [("first", "connection_not_found"), ("default", "connection_not_found")]
    assert ("succeeded", "second", skipped) == served(result)


@pytest.mark.parametrize(("errors", "status"), [(1, "succeeded"), (2, "failed")])
async def test_what_may_be_billed_is_on_record_where_it_was_called(worker: Worker, errors: int, status: str):
    """A call without an answer is the first connection's, which is not called again by the next attempt."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.answers[:] = [reset] * 4

    options = {"max_retries": 1, "retry_delay_ms": 0}
    second.will_answer(*[error(503)] * errors)  # it has all of its retries

    assert await worker.deliver(customer, job_id="job", connection=BOTH, options=options) is None
    ((body, delay_s),) = worker.requeued()
    assert "provider_unavailable" == worker.row(customer, "job")["reason_code"]
    called = len(customer.account.received)
    result = await worker.run(customer, body)

    assert (status, "second", [("default", "provider_unavailable")]) == served(result)
    assert (called, 2) == (len(customer.account.received), len(second.received))
    records = sorted((row["connection"], row["outcome"]) for row in worker.usage(customer))
    assert [("default", "unanswered")] * called + [("second", "answered")] * (2 - errors) == records
    assert 1 <= delay_s < 2


async def test_a_job_that_ends_before_it_is_served_names_the_connection_whose_turn_it_was(worker: Worker):
    """Nothing is known of that one yet."""
    customer = worker.customer()
    customer.account.answers[:] = [reset] * 4
    names = ["default", "second", "third"]
    assert await worker.deliver(customer, job_id="job", connection=names, options={"max_retries": 0}) is None
    ((body, _),) = worker.requeued()
    await worker.services.customer_records.change(
        customer.name, lambda record: record.with_state("suspended"), by="ann", subject="state"
    )

    result = await worker.another().run(customer, body)

    assert "customer_suspended" == result["error"]["code"]
    assert {
        "name": "second",
        "source": "key_vault",
        "provider": "unknown",
        "billed_to": "customer",
        "skipped": [{"name": "default", "code": "provider_unavailable"}],
    } == result["connection"]


@pytest.mark.parametrize(("deadline_s", "waits"), [(7200, True), (60, False)])
async def test_a_throttled_connection_is_waited_for_if_there_is_time(worker: Worker, deadline_s: int, waits: bool):
    """The next one is for what the first can't do before the job's deadline."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.will_answer(error(429, retry_after="3600"))

    result = await worker.deliver(customer, connection=BOTH, options={"deadline_s": deadline_s})

    assert (waits, int(not waits)) == (result is None, len(second.received))
    if result is not None:
        assert ("succeeded", "second", [("default", "rate_limited")]) == served(result)


async def test_a_connection_whose_breaker_is_open_is_not_called(worker: Worker):
    """It is out of service, whatever time the job has."""
    customer = worker.customer()
    connect_second(worker, customer)
    customer.account.answers[:] = [error(503)] * FAILURES
    for _ in range(FAILURES):
        await worker.run(customer, options={"max_retries": 0})

    result = await worker.run(customer, connection=BOTH)

    assert ("succeeded", "second", [("default", "provider_unavailable")]) == served(result)
    assert len(customer.account.received) == FAILURES


async def test_the_last_connection_s_error_is_the_job_s(worker: Worker):
    """The others are named with theirs."""
    customer = worker.customer()
    connect_second(worker, customer).will_answer(NO_MODEL)
    customer.account.will_answer(NO_QUOTA)

    result = await worker.run(customer, connection=BOTH)

    assert ("failed", "second", [("default", "quota_exhausted")]) == served(result)
    assert "model_not_found" == result["error"]["code"]


async def test_what_every_connection_would_refuse_is_not_tried_again(worker: Worker):
    """A request that is wrong is wrong everywhere."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.will_answer(error(400, message="Invalid value."))

    result = await worker.run(customer, connection=BOTH)

    assert ("failed", "default", []) == served(result)
    assert [] == second.received


async def test_a_call_that_takes_too_long_is_not_made_elsewhere(worker: Worker):
    """Not even if there is no time left to wait for another try."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    customer.account.answers[:] = [completion(after_s=5)] * 2
    options = {"timeout_s": 0.05, "max_retries": 2, "retry_delay_ms": 20_000, "deadline_s": 10}

    result = await worker.run(customer, connection=BOTH, options=options)

    assert ("failed", "default", []) == served(result)
    assert ("timeout", []) == (result["error"]["code"], second.received)


async def test_a_connection_that_can_not_be_reached_in_time_is_skipped(worker: Worker):
    """Its network drops what is sent to it, and the call's time is over before the connection's."""
    customer = worker.customer()
    connect_second(worker, customer)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(3):  # whoever comes then gets no answer
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(full.getsockname())
        worker.connect(customer, endpoint=f"http://127.0.0.1:{full.getsockname()[1]}/openai/v1")

        result = await worker.run(customer, connection=BOTH, options={"timeout_s": 0.2, "max_retries": 0})

    assert ("succeeded", "second", [("default", "timeout")]) == served(result)
    assert [("second", "answered")] == [(row["connection"], row["outcome"]) for row in worker.usage(customer)]


async def test_the_next_connection_does_the_rest(worker: Worker):
    """What the first one has answered is not bought again, and is on record there."""
    customer = worker.customer(max_concurrency=1)
    second = connect_second(worker, customer)
    customer.account.answers[:] = [completion("One."), NO_QUOTA]

    result = await worker.run(customer, action="multi_chat", input={"prompts": ["1", "2", "3"]}, connection=BOTH)

    assert ("succeeded", "second", [("default", "quota_exhausted")]) == served(result)
    assert (3, 2) == (result["usage"]["calls"], len(second.received))
    records = [(row["connection"], row["outcome"]) for row in worker.usage(customer)]
    assert [("default", "answered"), *[("second", "answered")] * 2] == sorted(records)


async def test_budgets_settle_what_each_connection_has_used(worker: Worker):
    """What was reserved for the first one is free again before the next one reserves."""
    customer = worker.customer()
    connect_second(worker, customer)
    budget = Budget(limit=Decimal(1_000_000), unit="tokens", period="month")
    await worker.services.customer_records.change(
        customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )
    customer.account.will_answer(NO_QUOTA)

    assert await worker.deliver(customer, job_id="job", connection=BOTH) is None
    assert (0, 0) == total(worker.memory.table, customer.name, "main")
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("succeeded", "second", [("default", "quota_exhausted")]) == served(result)
    assert (used(worker.memory.table, customer.name), 0) == total(worker.memory.table, customer.name, "main")


async def test_a_budget_that_is_used_up_is_no_reason_for_another_connection(worker: Worker):
    """Whoever has set it for one connection has not asked for the same on another."""
    customer = worker.customer()
    second = connect_second(worker, customer)
    budget = Budget(limit=Decimal(1), unit="tokens", period="month", connection="default")
    await worker.services.customer_records.change(
        customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )

    result = await worker.run(customer, connection=BOTH)

    assert ("failed", "default", []) == served(result)
    assert ("budget_exceeded", [], []) == (result["error"]["code"], customer.account.received, second.received)


@every_row("names", [[], ["a", "a"], ["a", "b", "c", "d", "e"], ["A"], [1], {}], ids=str)
def test_a_list_that_is_wrong_is_refused_at_the_door(names: Any):
    """The error names the member."""
    body = {"customer": "contoso", "action": "chat", "input": {"prompt": "Hi"}, "connection": names}
    with pytest.raises(InvalidJob, match="connection"):
        decode_job(json.dumps(body).encode(), default_id="job")
