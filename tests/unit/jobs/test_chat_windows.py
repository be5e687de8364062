"""Chats that are made in the provider's windows of hours, for less: as responses, with a chat's output."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local.provider.faults import CallFault, ResponseFault, RouteFault
from tests.support.patient_budgets import monthly, put, total
from tests.support.response_jobs import EventfulApp, eventful_app, finish
from tests.support.worker_crashes import Process

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
        ({"endpoint": "https://r.openai.azure.com/openai/deployments/d"}, "whose `endpoint` ends in /openai/v1"),
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
    """A later attempt, which has not sent it."""
    customer = app.customer()
    refusal = RouteFault("status", 400, "unsupported_parameter", "Unsupported parameter: 'temperature'.")
    app.accounts[customer].faults.route("responses.create", refusal)
    job = await send(app, customer, input={"prompt": "Hello?", "parameters": {"temperature": 0.5}})
    await finish(app, [job])

    assert ["chat/completions became responses", "temperature was left out"] == app.result(job)["output"]["adapted"]
    assert 2 <= app.result(job)["attempts"]


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
