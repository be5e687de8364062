"""Chats that are made in the provider's windows of hours, for less: as responses, with a chat's output."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.faults import LOST, CallFault, ResponseFault, RouteFault, error
from shared.actions.chat_in_background import read_chat_response
from shared.jobs import batch_context
from tests.support.cheapest_runs import without_flex
from tests.support.memory_context import response
from tests.support.patient_budgets import monthly, put, total
from tests.support.response_jobs import EventfulApp, eventful_app, finish
from tests.support.worker_crashes import Process
from tests.support.workers import Worker

HOUR = 3600.0


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


async def send(app: EventfulApp, customer: str, job_id: str = "job-1", *, hours: float = 25, **members: Any) -> str:
    """Send a chat that may take so many hours."""
    options = {"processing": "background", "deadline_s": hours * HOUR, **members.pop("options", {})}
    members.setdefault("input", {"prompt": f"Say {job_id}."})
    return await app.send(customer, "chat", job_id=job_id, options=options, **members)


@pytest.mark.parametrize(("hours", "window"), [(25, "8h"), (3, "2h")], ids=str)
async def test_a_chat_is_a_response_of_a_window(app: EventfulApp, hours: float, window: str) -> None:
    """Its output has the shape of any other chat, and its record that of a window; no worker waits for it."""
    customer = app.customer()
    account = app.accounts[customer]
    parameters = {"max_completion_tokens": 90, "temperature": 0.5, "seed": 1, "metadata": {"order": "7"}}
    job = await send(app, customer, hours=hours, input={"prompt": "Hello?", "parameters": parameters})
    await app.deliver()
    assert [] == app.results
    await finish(app, [job])

    (response,) = account.responses.values()
    assert {
        "model": "gpt-6-luna",
        "input": [{"role": "user", "content": "Hello?"}],
        "max_output_tokens": 90,
        "temperature": 0.5,
        "background": True,
        "store": True,
        "background_options": {"completion_window": window},
    }.items() <= response.request.items()
    assert {"order", "customer_job"} == response.request["metadata"].keys()
    result = app.result(job)
    output = result["output"]
    assert ("succeeded", "Echo: Hello?", "stop") == (result["status"], output["text"], output["finish_reason"])
    assert ["chat/completions became responses", "seed was left out"] == output["adapted"]
    assert ["Echo: Hello?"] == [choice["message"]["content"] for choice in output["choices"]]
    (row,) = app.rows(customer, "u_")
    assert ("chat", "answered", f"background_{window}", 1) == (
        row["action"],
        row["outcome"],
        row["processing"],
        row["calls"],
    )
    app.check_books(customer, [job])


async def test_how_a_chat_ends(app: EventfulApp) -> None:
    """Filtered, cut short, failed, cancelled: with the words of a chat, and each call on record."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.calls.add(CallFault(200, match="filtered"))
    for status in ("incomplete", "failed"):
        account.faults.responses.add(ResponseFault(status))  # type: ignore[arg-type]
    jobs = []
    for name in ("short", "broken", "filtered"):
        jobs.append(await send(app, customer, name))
        await app.deliver()
    await finish(app, jobs)

    short, broken, filtered = (app.result(job) for job in jobs)
    assert ("succeeded", "length") == (short["status"], short["output"]["finish_reason"])
    assert ("failed", "provider_unavailable", None) == (
        broken["status"],
        broken["error"]["code"],
        broken.get("output"),
    )
    assert ("failed", "content_filtered", "content_filter") == (
        filtered["status"],
        filtered["error"]["code"],
        filtered["output"]["finish_reason"],
    )
    assert ["answered", "answered", "unanswered"] == sorted(row["outcome"] for row in app.rows(customer, "u_"))


async def test_a_chat_that_is_cancelled_or_late_cancels_its_response(app: EventfulApp) -> None:
    """As one of `respond`."""
    customer = app.customer()
    account = app.accounts[customer]
    for _ in range(2):
        account.faults.responses.add(ResponseFault("completed", in_progress_s=80_000))
    late = await send(app, customer, "late", hours=1)
    cancelled = await send(app, customer, "cancelled")
    await app.pass_time(120)
    assert "cancelled" == await app.cancel(customer, cancelled)
    await finish(app, [late, cancelled], within_s=2 * HOUR, step_s=30)

    assert ["timeout", "cancelled"] == [app.result(job)["error"]["code"] for job in (late, cancelled)]
    assert {"cancelled"} == {response.status for response in account.responses.values()}
    assert ["unanswered"] * 2 == [row["outcome"] for row in app.rows(customer, "u_")]


@pytest.mark.parametrize(
    ("parameters", "options", "reason"),
    [
        ({"n": 2}, {}, "`input.parameters.n` can't be set if `options.processing` is background"),
        ({"stop": "END"}, {}, "`input.parameters.stop` can't be set if `options.processing` is background"),
        ({"audio": {"voice": "alloy"}}, {}, "`parameters.audio` can't be set"),
        ({"previous_response_id": "resp_1"}, {}, "`parameters.previous_response_id` can't be set"),
        ({"background_options": {}}, {}, "`parameters.background_options` can't be set"),
        ({"metadata": [1]}, {}, "`input.parameters.metadata` must be an object"),
        ({"metadata": {str(n): "" for n in range(16)}}, {}, "`input.parameters.metadata` may have 15 members"),
        ({"store": False}, {}, "`input.parameters.store` can't be false"),
        ({"store": False}, {}, "`input.parameters.store` can't be false if `options.processing` is background"),
        ({"seed": 1}, {"strict": True}, "`options.strict` is set, but in the background .*: seed was left out"),
    ],
    ids=str,
)
async def test_what_can_not_wait_is_refused(
    app: EventfulApp, parameters: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    """By name, before anything is created."""
    customer = app.customer()
    job = await send(app, customer, options=options, input={"prompt": "Hello?", "parameters": parameters})
    await app.deliver()

    error = app.result(job)["error"]
    assert "invalid_job" == error["code"]
    assert re.search(reason, error["message"])
    assert [] == app.accounts[customer].calls("responses.create")


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (
            {"endpoint": "https://r.openai.azure.com/openai/deployments/d"},
            "A chat with the processing background needs a connection whose `endpoint` ends in /openai/v1",
        ),
        ({"endpoint": "https://api.anthropic.com", "provider": "anthropic"}, "has no Responses API"),
    ],
)
async def test_a_connection_without_responses_is_refused(app: EventfulApp, secret: dict[str, Any], reason: str) -> None:
    """With its name."""
    customer = app.customer(style="azure", **secret)
    job = await send(app, customer)
    await app.deliver()

    error = app.result(job)["error"]
    assert "invalid_job" == error["code"]
    assert reason in error["message"]


async def test_a_model_without_windows_is_refused(app: EventfulApp) -> None:
    """The list price is not paid instead."""
    customer = app.customer()
    app.accounts[customer].no_windows = frozenset({"2h", "8h"})
    job = await send(app, customer)
    await app.deliver()

    assert "`options.processing` can't be background: the model gpt-6-luna" in app.result(job)["error"]["message"]
    assert [] == app.rows(customer, "u_")


async def test_sampling_that_the_model_refuses_is_reported_by_whoever_reads_the_answer(app: EventfulApp) -> None:
    """A later attempt, which has not sent it; of the next jobs, it is known from the start."""
    customer = app.customer()
    refusal = RouteFault("status", 400, "unsupported_parameter", "Unsupported parameter: 'temperature'.")
    app.accounts[customer].faults.route("responses.create", refusal)
    job = await send(app, customer, input={"prompt": "Hello?", "parameters": {"temperature": 0.5}})
    await finish(app, [job])

    assert ["chat/completions became responses", "temperature was left out"] == app.result(job)["output"]["adapted"]
    assert 2 <= app.result(job)["attempts"]

    later = await send(app, customer, "later", input={"prompt": "Hello?", "parameters": {"temperature": 0.5}})
    await finish(app, [later])
    assert app.result(job)["output"]["adapted"] == app.result(later)["output"]["adapted"]


@pytest.mark.parametrize(
    ("has_budget", "parameters", "sent"),
    [
        (True, {"max_completion_tokens": 50}, {"max_output_tokens": 50}),
        (False, {"max_completion_tokens": 5}, {"max_output_tokens": 16}),
        (False, {}, {}),
    ],
    ids=str,
)
async def test_the_jobs_own_limit_is_sent(
    app: EventfulApp, parameters: dict[str, int], sent: dict[str, int], *, has_budget: bool
) -> None:
    """It is raised to the least that the API takes. Without one, and without a budget, there is none."""
    customer = app.customer()
    if has_budget:
        await put(app, customer, main=monthly("100000", "tokens"))
    await send(app, customer, input={"prompt": "Hello?", "parameters": parameters})
    await app.deliver()
    (request,) = [response.request for response in app.accounts[customer].responses.values()]
    assert sent == {name: request[name] for name in ("max_output_tokens",) if name in request}


@pytest.mark.parametrize("strict", [False, True])
async def test_a_response_that_has_ended_at_once_is_the_answer(worker: Worker, *, strict: bool) -> None:
    """It may have been in a cache of a gateway. A strict chat that is sent as it is may wait, too."""
    result = await worker.run(worker.customer(), options={"processing": "background", "strict": strict})

    assert ("succeeded", "Fine.", 1) == (result["status"], result["output"]["text"], result["usage"]["calls"])


def test_what_is_no_response_is_an_error() -> None:
    """Its call may have been billed."""
    outcome = read_chat_response(response(b"<html>"))

    assert ("failed", None) == (outcome.status, outcome.output)
    assert "that is not " in str(outcome.error)
    assert ["unanswered"] == [call.outcome for call in outcome.calls]


async def test_a_budget_limits_the_answer(app: EventfulApp) -> None:
    """The limit that it needs is sent under the API's name; what was reserved is settled with the record."""
    customer = app.customer()
    await put(app, customer, main=monthly("100000", "tokens"))
    job = await send(app, customer)
    await app.deliver()
    (request,) = [response.request for response in app.accounts[customer].responses.values()]
    assert 16_384 == request["max_output_tokens"]
    assert total(app.stored.table, customer, "main").reserved > 16_384

    await finish(app, [job])
    spent, reserved = total(app.stored.table, customer, "main")
    (row,) = app.rows(customer, "u_")
    assert (row["input_tokens"] + row["output_tokens"], 0) == (spent, reserved)


@pytest.fixture
def _no_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is expected to be in time."""
    monkeypatch.setattr(batch_context, "MIN_BATCH_S", 1e9)


async def send_cheapest(app: EventfulApp, customer: str, job_id: str = "job-1", **members: Any) -> str:
    """Send a chat at the cheapest price."""
    return await send(app, customer, job_id, options={"processing": "cheapest", "retry_delay_ms": 1}, **members)


def bought(app: EventfulApp, customer: str) -> list[tuple[str, str, str]]:
    """How the customer's calls ended, how they were made, and at which tier."""
    return sorted(
        (row["outcome"], row.get("processing", ""), row.get("service_tier", "")) for row in app.rows(customer, "u_")
    )


@pytest.mark.parametrize(("hours", "window"), [(25, "8h"), (9, "8h"), (8.5, "2h"), (2.6, "2h"), (2.5, None)], ids=str)
@pytest.mark.usefixtures("_no_batches")
async def test_the_cheapest_is_a_window_if_neither_batch_nor_flex_is_to_be_had(
    app: EventfulApp, hours: float, window: str | None
) -> None:
    """Without flex, a window costs less than the list price; the output is a chat's."""
    customer = app.customer()
    account = app.accounts[customer]
    without_flex(account)
    job = await send_cheapest(app, customer, hours=hours)
    await finish(app, [job])

    windows = [each.request["background_options"]["completion_window"] for each in account.responses.values()]
    assert ([window] if window else []) == windows
    result = app.result(job)
    assert ("succeeded", "Echo: Say job-1.") == (result["status"], result["output"]["text"])
    processing = f"background_{window}" if window else "standard"
    assert processing == result["usage"]["processing"]
    assert [("answered", processing)] == [each[:2] for each in bought(app, customer)]
    assert {} == account.journal.bought_twice()


async def test_a_batch_or_flex_comes_before_a_window(app: EventfulApp, monkeypatch) -> None:
    """They cost half; a window more."""
    customer = app.customer()
    await finish(app, [await send_cheapest(app, customer, "batch")], step_s=60)
    monkeypatch.setattr(batch_context, "MIN_BATCH_S", 1e9)
    app.worker.services.capabilities.learn_batch_seconds(1e9, *await identity(app, customer), "chat/completions")
    app.accounts[customer].faults.flex_unavailable.add(60)
    for name in ("full", "flex"):
        await finish(app, [await send_cheapest(app, customer, name)])

    assert ["background_8h", "batch", "standard"] == sorted(each[1] for each in bought(app, customer))
    assert ["background_8h", "standard"] == [app.result(name)["usage"]["processing"] for name in ("full", "flex")]
    assert "flex" == app.result("flex")["usage"]["service_tier"]


async def identity(app: EventfulApp, customer: str) -> tuple[str, ...]:
    """What identifies the customer's connection."""
    return (await app.worker.services.connections.resolve(customer, "default")).identity


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({"n": 2}, {}),
        ({"stop": "END"}, {}),
        ({"seed": 1}, {}),
        ({"store": False}, {}),
        ({"max_tokens": 5}, {}),
        ({}, {"strict": True}),
    ],
    ids=str,
)
@pytest.mark.usefixtures("_no_batches")
async def test_the_cheapest_of_a_chat_that_can_be_no_response_as_it_is(
    app: EventfulApp, parameters: dict[str, Any], options: dict[str, Any]
) -> None:
    """It is bought as it is, at the list price."""
    customer = app.customer()
    without_flex(app.accounts[customer])
    options = {"processing": "cheapest", **options}
    job = await send(app, customer, options=options, input={"prompt": "Hello?", "parameters": parameters})
    await app.deliver()

    assert "succeeded" == app.result(job)["status"]
    assert {} == app.accounts[customer].responses
    assert ["standard"] == [each[1] for each in bought(app, customer)]


def _refusing(account: Account) -> None:
    refusal = "The model 'gpt-6-luna' is not supported with the Responses API."
    account.faults.route("responses.create", RouteFault("status", 400, "invalid_request_error", refusal), None)


def _without_windows(account: Account) -> None:
    account.no_windows = frozenset({"2h", "8h"})


def _without_background(account: Account) -> None:
    account.no_background = frozenset({"gpt-6-luna"})


@pytest.mark.parametrize("refuse", [_without_windows, _without_background, _refusing])
@pytest.mark.usefixtures("_no_batches")
async def test_the_cheapest_of_a_model_without_windows(app: EventfulApp, refuse: Callable[[Account], None]) -> None:
    """It is a chat at the list price, and what was refused is remembered."""
    customer = app.customer()
    account = app.accounts[customer]
    without_flex(account)
    refuse(account)
    await send_cheapest(app, customer, "first")
    await app.deliver()
    before = len(account.calls("responses.create"))
    await send_cheapest(app, customer, "second")
    await app.deliver()

    assert 0 < before == len(account.calls("responses.create"))
    assert ["succeeded"] * 2 == [app.result(name)["status"] for name in ("first", "second")]
    assert ["standard"] * 2 == [each[1] for each in bought(app, customer)]
    assert [] == app.left_rows(customer)


@pytest.mark.parametrize("fault", [error(500), error(429), LOST], ids=["500", "429", "lost"])
@pytest.mark.usefixtures("_no_batches")
async def test_the_cheapest_is_bought_even_if_no_window_can_be(app: EventfulApp, fault: RouteFault) -> None:
    """Its endpoint makes no responses just now, but chats."""
    customer = app.customer()
    account = app.accounts[customer]
    without_flex(account)
    account.faults.route("responses.create", fault, None)
    job = await send_cheapest(app, customer)
    await finish(app, [job], step_s=60)

    assert ("succeeded", "standard") == (app.result(job)["status"], app.result(job)["usage"]["processing"])
    assert 1 == sum(each[0] == "answered" for each in bought(app, customer))


@pytest.mark.usefixtures("_no_batches")
async def test_a_window_that_comes_too_late_is_bought_as_a_chat(app: EventfulApp) -> None:
    """It is cancelled 35 minutes before the deadline, which may be billed."""
    customer = app.customer()
    account = app.accounts[customer]
    without_flex(account)
    account.faults.responses.add(ResponseFault("completed", in_progress_s=80_000))
    job = await send_cheapest(app, customer, hours=3)
    sent_at = app.clock()
    await finish(app, [job], within_s=3 * HOUR, step_s=30)

    assert 3 * HOUR - 2100 <= app.clock() - sent_at < 3 * HOUR - 1500
    assert ["cancelled"] == [each.status for each in account.responses.values()]
    assert ["answered", "unanswered"] == [each[0] for each in bought(app, customer)]
    assert "Echo: Say job-1." == app.result(job)["output"]["text"]


@pytest.mark.usefixtures("_no_batches")
async def test_a_worker_that_dies_while_it_looks_at_the_cheapest_has_bought_nothing(app: EventfulApp) -> None:
    """Its response is on record, and nothing beside that."""
    for number in range(20, 24):
        customer = app.customer()
        without_flex(app.accounts[customer])
        app.accounts[customer].faults.responses.add(ResponseFault("completed", in_progress_s=60))
        job = await send_cheapest(app, customer, f"job-{number}")
        await app.deliver()
        app.begin(Process(number, after=True))
        await finish(app, [job])
        assert [("answered", "background_8h")] == [each[:2] for each in bought(app, customer)]
    assert 4 == app.crashes
