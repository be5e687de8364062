"""Jobs of `respond` at patient prices, from the queue to their results."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.faults import BatchFault, CallFault
from shared.billing.customer_records import CustomerRecords
from tests.support.patient_budgets import monthly, put, total, used
from tests.support.response_jobs import EventfulApp, eventful_app, finish
from tests.support.worker_crashes import Process

SLOW_S = 80_000.0


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


async def send(app: EventfulApp, customer: str, job_id: str = "job-1", **members: Any) -> str:
    """Send a job; its `options` say how it is bought, in a batch if they don't."""
    members.setdefault("input", {"input": f"Say {job_id}."})
    return await app.send(customer, "respond", job_id=job_id, **members)


def lines_of(account: Account) -> list[dict[str, Any]]:
    """The lines of all batches."""
    files = [each.content for each in account.files.values() if each.purpose == "batch"]
    return [json.loads(line) for content in files for line in content.splitlines()]


def bought(app: EventfulApp, customer: str) -> list[tuple[str, str]]:
    """How the customer's calls ended, and how they were made."""
    return sorted((row["outcome"], row.get("processing", "")) for row in app.rows(customer, "u_"))


@pytest.mark.parametrize("style", ["openai", "azure"])
async def test_responses_are_lines_of_one_batch(app: EventfulApp, style: str) -> None:
    """Without `background`, which no line has. Each is on record once, at the price of a batch."""
    customer = app.customer(style=style)
    account = app.accounts[customer]
    files: list[dict[str, Any]] = []
    jobs = [
        await send(app, customer, name, input={"input": f"Say {name}.", "instructions": "Be brief."})
        for name in ("one", "two")
    ]
    while not app.results:
        await app.pass_time(60)
        files = lines_of(account) or files
    await finish(app, jobs)

    assert {"/v1/responses"} == {line["url"] for line in files}
    for line in files:
        assert {"instructions": "Be brief.", "model": "gpt-6-luna"}.items() <= line["body"].items()
        assert "background" not in line["body"]
    for job in jobs:
        result = app.result(job)
        assert ("succeeded", "completed") == (result["status"], result["output"]["status"])
        assert f"Say {job}." in result["output"]["text"]
        assert (1, "batch") == (result["usage"]["calls"], result["usage"]["processing"])
    assert [("answered", "batch")] * 2 == bought(app, customer)
    assert ([], 2) == (account.calls("responses.create"), len(account.journal.billed("batch")))
    app.check(customer, jobs)


async def test_azures_batches_have_a_deployment_of_their_own(app: EventfulApp) -> None:
    """It is the model of the line; what is bought at once afterwards has the connection's."""
    customer = app.customer(style="azure", batch_model="luna-batch")
    account = app.accounts[customer]
    account.durations.in_progress_s = SLOW_S
    job = await send(app, customer, options={"processing": "cheapest", "deadline_s": 7200})
    await app.pass_time(600)
    assert ["luna-batch"] == [batch.lines.model for batch in account.batches.values() if batch.lines]
    await finish(app, [job], within_s=7200, step_s=60)
    (response,) = account.responses.values()
    assert "gpt-6-luna" == response.request["model"]


@pytest.mark.parametrize(
    ("fault", "parameters", "status", "details"),
    [
        (None, {"max_output_tokens": 1}, "succeeded", {"reason": "max_output_tokens"}),
        (CallFault(200), {}, "partial", {"reason": "content_filter"}),
    ],
    ids=["incomplete", "filtered"],
)
async def test_an_answer_is_read_as_if_it_had_come_at_once(
    app: EventfulApp, fault: CallFault | None, parameters: dict[str, Any], status: str, details: dict[str, Any]
) -> None:
    """An incomplete one is an answer, and one that was filtered a part of one."""
    customer = app.customer()
    if fault is not None:
        app.accounts[customer].faults.calls.add(fault)
    job = await send(app, customer, input={"input": "Say it at length.", "parameters": parameters})
    await finish(app, [job])
    result = app.result(job)
    assert (status, details) == (result["status"], result["output"]["incomplete_details"])
    assert [("answered", "batch")] == bought(app, customer)


async def test_a_response_that_failed_in_its_line(app: EventfulApp, monkeypatch) -> None:
    """The line is a 200, and the response within has failed: so has the job."""
    body = {"object": "response", "id": "resp_1", "status": "failed", "output": [], "usage": None}
    error = {"code": "server_error", "message": "The model had an error."}
    monkeypatch.setattr("local.provider.batch_run._line", _line_of({**body, "error": error}))
    customer = app.customer()
    job = await send(app, customer)
    await finish(app, [job])
    result = app.result(job)
    assert ("failed", "provider_unavailable") == (result["status"], result["error"]["code"])
    assert "The model had an error." in result["error"]["message"]


def _line_of(body: dict[str, Any]) -> Any:
    line = {"custom_id": "00000", "error": None, "response": {"status_code": 200, "request_id": "r", "body": body}}
    return lambda *_: json.dumps(line).encode()


async def test_a_parameter_that_is_refused_is_left_out_of_the_next_line(app: EventfulApp) -> None:
    """As of any call; the result says so."""
    customer = app.customer()
    refusal = CallFault(
        400, "unsupported_parameter", "Unsupported parameter: 'temperature'.", if_parameter="temperature"
    )
    app.accounts[customer].faults.calls.add(refusal, None)
    job = await send(app, customer, input={"input": "Say it.", "parameters": {"temperature": 0.5}})
    await finish(app, [job])
    assert ["temperature was left out"] == app.result(job)["output"]["adapted"]
    assert [("answered", "batch")] == bought(app, customer)


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        ({"endpoint": "/models", "provider": "foundry", "api_version": "2024-10-21"}, "ends in /openai/v1"),
        (
            {"endpoint": "/openai/deployments/x", "provider": "azure_openai", "api_version": "2024-10-21"},
            "ends in /openai/v1",
        ),
        ({"endpoint": "", "provider": "anthropic"}, "can't be respond"),
    ],
    ids=["models", "deployments", "anthropic"],
)
@pytest.mark.parametrize("processing", ["batch", "background", "cheapest"])
async def test_an_api_without_responses_is_refused(
    app: EventfulApp, processing: str, secret: dict[str, str], sentence: str
) -> None:
    """Nothing is sent there."""
    customer = app.customer()
    account = app.accounts[customer]
    endpoint = account.root_url + secret["endpoint"]
    app.connect(customer, account, **secret | {"endpoint": endpoint})
    job = await send(app, customer, options={"processing": processing})
    await app.deliver()
    assert "invalid_job" == app.result(job)["error"]["code"]
    assert sentence in app.result(job)["error"]["message"]
    assert [] == account.received


async def test_the_cheapest_is_a_batch_if_that_is_in_time(app: EventfulApp) -> None:
    """Nothing else is created."""
    customer = app.customer()
    job = await send(app, customer, options={"processing": "cheapest"})
    await finish(app, [job])
    assert [("answered", "batch")] == bought(app, customer)
    assert [] == app.accounts[customer].calls("responses.create")


@pytest.mark.parametrize("parameters", [{}, pytest.param({"background": False}, marks=pytest.mark.long)], ids=str)
async def test_what_a_slow_batch_left_is_bought_at_the_list_price(app: EventfulApp, parameters: dict[str, Any]) -> None:
    """In the background, unless the job forbids that; in time, and once."""
    customer = app.customer()
    account = app.accounts[customer]
    account.durations.in_progress_s = SLOW_S
    options = {"processing": "cheapest", "deadline_s": 7200}
    job = await send(app, customer, options=options, input={"input": "Say it.", "parameters": parameters})
    sent_at = app.clock()
    await finish(app, [job], within_s=7200, step_s=60)
    assert app.clock() - sent_at < 7200
    result = app.result(job)
    assert ("succeeded", "Echo: Say it.", 1) == (result["status"], result["output"]["text"], result["usage"]["calls"])
    assert [("answered", "standard")] == bought(app, customer)
    assert [bool(each.request.get("background")) for each in account.responses.values()] == [not parameters]
    assert {} == account.journal.bought_twice()


async def test_a_line_that_may_be_billed_is_on_record_once(app: EventfulApp) -> None:
    """Its batch ended without it; the response that is then bought takes several attempts."""
    customer = app.customer()
    app.accounts[customer].faults.batches.add(BatchFault(missing=1))
    app.accounts[customer].faults.batches.add(BatchFault(in_progress_s=SLOW_S), None)
    job = await send(app, customer, options={"processing": "cheapest", "deadline_s": 7200})
    await finish(app, [job], within_s=7200, step_s=60)
    assert "succeeded" == app.result(job)["status"]
    assert [("answered", "standard"), ("unanswered", "")] == bought(app, customer)


async def test_a_suspended_customers_response_is_not_bought_at_once(app: EventfulApp) -> None:
    """What was in a batch is read; what no batch has done is left."""
    customer = app.customer()
    app.accounts[customer].durations.in_progress_s = SLOW_S
    job = await send(app, customer, options={"processing": "cheapest", "deadline_s": 7200})
    await app.pass_time(600)
    change = CustomerRecords(app.stored.table).change
    await change(customer, lambda record: record.with_state("suspended"), by="ann", subject="state")
    app.begin(Process())
    await finish(app, [job], within_s=7200, step_s=60)
    assert "customer_suspended" == app.result(job)["error"]["code"]
    assert [] == app.accounts[customer].calls("responses.create")


@pytest.mark.parametrize("processing", ["batch", "cheapest"])
async def test_a_budget_settles_at_what_it_was(app: EventfulApp, processing: str) -> None:
    """What was reserved for the batch is held while it is made."""
    customer = app.customer()
    await put(app, customer, main=monthly("1000000"))
    job = await send(app, customer, options={"processing": processing})
    await app.deliver()
    assert total(app.stored.table, customer, "main").reserved > 0
    await finish(app, [job])
    assert (used(app.stored.table, customer), 0) == total(app.stored.table, customer, "main")


async def test_a_cancelled_job_leaves_its_batch(app: EventfulApp) -> None:
    """As any other."""
    customer = app.customer()
    job = await send(app, customer)
    await app.deliver()
    assert "cancelled" == await app.cancel(customer, job)
    await finish(app, [job])
    assert "cancelled" == app.result(job)["error"]["code"]
    assert [] == bought(app, customer)
