"""Jobs of `respond` that are made in the provider's windows of hours, for less."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.faults import CallFault, ResponseFault, error
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.statements import Statements
from shared.clock import now
from shared.contract.price_book import decode_price_book
from tests.support.patient_budgets import monthly, put, total
from tests.support.response_jobs import EventfulApp, eventful_app, finish
from tests.support.worker_crashes import Process

HOUR = 3600.0
SLOW_S = 80_000.0
PLACE = Decimal("0.000001")
"""The last that a statement's lines have."""
PRICES = {"standard": "2", "batch": "1", "background_2h": "1.4", "background_8h": "1.2"}


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


async def send(app: EventfulApp, customer: str, job_id: str = "job-1", *, hours: float = 25, **members: Any) -> str:
    """Send a job that has so many hours; its `options` say how it is bought, in a window if they don't."""
    options = {"processing": "background", "deadline_s": hours * HOUR, **members.pop("options", {})}
    members.setdefault("input", {"input": f"Say {job_id}."})
    return await app.send(customer, "respond", job_id=job_id, options=options, **members)


def windows(account: Account) -> list[str | None]:
    """The windows that were asked for, of each response that was created."""
    requests = [each.request for each in account.responses.values()]
    return [each.get("background_options", {}).get("completion_window") for each in requests]


def bought(app: EventfulApp, customer: str) -> list[tuple[str, str]]:
    """How the customer's calls ended, and how they were made."""
    return sorted((row["outcome"], row.get("processing", "")) for row in app.rows(customer, "u_"))


def takes(account: Account, seconds: float, status: str = "completed") -> None:
    """Have the next response take so long."""
    account.faults.responses.add(ResponseFault(status, in_progress_s=seconds))  # type: ignore[arg-type]


async def with_prices(app: EventfulApp) -> None:
    """Publish a price book with the local provider's prices."""
    prices = [
        {"provider": "openai", "model": "*", "processing": name, "input": price, "output": str(4 * Decimal(price))}
        for name, price in PRICES.items()
    ]
    book = decode_price_book(json.dumps({"currency": "USD", "prices": prices}).encode())
    await app.worker.services.price_books.publish(book, replaces=None, by="ann")


@pytest.mark.parametrize(("hours", "window"), [(25, "8h"), (8.25, "8h"), (8.24, "2h"), (2.5, "2h"), (1, "2h")], ids=str)
async def test_the_cheapest_window_that_the_deadline_leaves(app: EventfulApp, hours: float, window: str) -> None:
    """Eight hours with a margin, else two; the request is stored, and the record says which it was."""
    customer = app.customer()
    account = app.accounts[customer]
    job = await send(app, customer, hours=hours)
    await finish(app, [job])

    (response,) = account.responses.values()
    assert {"background": True, "store": True, "background_options": {"completion_window": window}}.items() <= (
        response.request.items()
    )
    result = app.result(job)
    assert ("succeeded", f"background_{window}") == (result["status"], result["usage"]["processing"])
    assert [("answered", f"background_{window}")] == bought(app, customer)
    assert 1 == len(account.journal.billed(f"background_{window}"))
    app.check_books(customer, [job])


async def test_what_a_statement_says_was_saved(app: EventfulApp) -> None:
    """The amounts are the provider's, and `saved` what the list price would have been more."""
    await with_prices(app)
    customer = app.customer()
    jobs = [
        await send(app, customer, "long", hours=25, input={"input": "Say it at length. " * 100}),
        await send(app, customer, "short", hours=3, input={"input": "Say it shortly. " * 100}),
    ]
    await finish(app, jobs)

    services, today = app.worker.services, now().date()
    pricing = await CustomerPricing(services.price_books, services.customer_records).read(customer)
    statement = await Statements(app.stored.table).read(customer, today, today, pricing=pricing)
    lines = {line.processing: line for line in statement.lines if line.kind is None}
    assert {"background_8h", "background_2h"} == lines.keys()
    for processing, line in lines.items():
        costs = sum((each.cost for each in app.accounts[customer].journal.billed(processing)), Decimal(0))
        share = Decimal(PRICES[processing]) / Decimal(PRICES["standard"])
        expected = {"amount": costs, "saved": costs / share - costs}
        assert expected == {name: pytest.approx(Decimal(getattr(line, name)), abs=PLACE) for name in expected}
        assert not line.unpriced


@pytest.mark.parametrize(("hours", "price"), [(25, "1.2"), (3, "1.4")], ids=str)
async def test_a_budget_reserves_at_the_price_of_the_window(app: EventfulApp, hours: float, price: str) -> None:
    """It settles at what it was."""
    await with_prices(app)
    customer = app.customer()
    await put(app, customer, main=monthly("100", "USD"))
    texts = {"input": "Say it.", "parameters": {"max_output_tokens": 1_000_000}}
    job = await send(app, customer, hours=hours, input=texts)
    await app.deliver()
    reserved = total(app.stored.table, customer, "main").reserved
    assert 4 * Decimal(price) < reserved < 4 * Decimal(price) + Decimal("0.001")
    await finish(app, [job])
    (entry,) = app.accounts[customer].journal.billed()
    spent, reserved = total(app.stored.table, customer, "main")
    assert (entry.cost, 0) == (spent, reserved)


async def test_a_budget_in_money_needs_the_price_of_the_window(app: EventfulApp) -> None:
    """The list price is not that of a window."""
    book = {"currency": "USD", "prices": [{"provider": "openai", "model": "*", "input": "2", "output": "8"}]}
    await app.worker.services.price_books.publish(decode_price_book(json.dumps(book).encode()), replaces=None, by="ann")
    customer = app.customer()
    await put(app, customer, main=monthly("100", "USD"))
    job = await send(app, customer)
    await app.deliver()
    assert "has no price for background_8h" in app.result(job)["error"]["message"]
    assert [] == app.accounts[customer].calls("responses.create")


async def test_what_is_not_done_by_the_deadline_ends_with_timeout(app: EventfulApp) -> None:
    """It is cancelled at the provider."""
    customer = app.customer()
    takes(app.accounts[customer], SLOW_S)
    job = await send(app, customer, hours=1)
    sent_at = app.clock()
    await finish(app, [job], within_s=HOUR + 60)
    (response,) = app.accounts[customer].responses.values()
    assert "cancelled" == response.status
    assert "timeout" == app.result(job)["error"]["code"]
    assert HOUR - 60 < app.clock() - sent_at <= HOUR
    assert [("unanswered", "")] == bought(app, customer)


@pytest.mark.parametrize("options", [{}, {"retry_on_all_errors": True, "retry_delay_ms": 0}], ids=str)
async def test_a_window_that_is_refused_is_left_for_the_next(app: EventfulApp, options: dict[str, Any]) -> None:
    """It is remembered, and asked for once, whatever the job says of retries."""
    customer = app.customer()
    account = app.accounts[customer]
    account.no_windows = frozenset({"8h"})
    jobs = [await send(app, customer, "first", options=options)]
    await app.deliver()
    before = len(account.calls("responses.create"))
    jobs.append(await send(app, customer, "second", options=options))
    await finish(app, jobs)
    assert (2, 3, ["2h", "2h"]) == (before, len(account.calls("responses.create")), windows(account))
    assert [("answered", "background_2h")] * 2 == bought(app, customer)
    assert [] == app.left_rows(customer)


@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("refuses", ["windows", "background"])
async def test_a_model_without_windows_is_refused(app: EventfulApp, refuses: str, *, strict: bool) -> None:
    """By the name of the option; the list price is not paid instead."""
    customer = app.customer()
    account = app.accounts[customer]
    if refuses == "windows":
        account.no_windows = frozenset({"2h", "8h"})
    else:
        account.no_background = frozenset({"gpt-6-luna"})
    jobs = [await send(app, customer, name, options={"strict": strict}) for name in ("first", "second")]
    await app.deliver()
    jobs.append(await send(app, customer, "third"))
    await app.deliver()
    for job in jobs:
        problem = app.result(job)["error"]
        assert "invalid_job" == problem["code"]
        assert "`options.processing` can't be background: the model gpt-6-luna" in problem["message"]
    assert [] == bought(app, customer)
    assert {} == account.responses
    assert [] == app.left_rows(customer)


async def test_a_model_that_is_known_to_make_nothing_in_the_background(app: EventfulApp) -> None:
    """A job at the list price has shown it."""
    customer = app.customer()
    account = app.accounts[customer]
    account.no_background = frozenset({"gpt-6-luna"})
    await finish(app, [await send(app, customer, "first", options={"processing": "standard"})])
    before = len(account.calls("responses.create"))
    job = await send(app, customer, "second")
    await app.deliver()
    assert "makes nothing in the background for less" in app.result(job)["error"]["message"]
    assert before == len(account.calls("responses.create"))


@pytest.mark.parametrize("parameters", [{"background": False}, {"store": False}], ids=str)
async def test_what_must_not_wait_has_no_window(app: EventfulApp, parameters: dict[str, Any]) -> None:
    """It is refused; as the cheapest, it is bought without one."""
    customer = app.customer()
    account = app.accounts[customer]
    account.durations.in_progress_s = SLOW_S
    texts = {"input": "Say it.", "parameters": parameters}
    job = await send(app, customer, input=texts)
    await app.deliver()
    assert "`input.parameters` has `background` or `store` false" in app.result(job)["error"]["message"]
    assert [] == account.received

    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    job = await send(app, customer, "cheap", hours=12, options={"processing": "cheapest"}, input=texts)
    await app.deliver()
    assert "succeeded" == app.result(job)["status"]
    assert [("answered", "standard")] == bought(app, customer)


async def identity(app: EventfulApp, customer: str) -> tuple[str, ...]:
    """What identifies the customer's connection."""
    return (await app.worker.services.connections.resolve(customer, "default")).identity


@pytest.mark.parametrize(
    ("hours", "window", "processing"),
    [(9, "8h", "background_8h"), (8.5, "2h", "background_2h"), (2.6, "2h", "background_2h"), (2.5, None, "standard")],
    ids=str,
)
async def test_the_cheapest_is_a_window_if_no_batch_is_in_time(
    app: EventfulApp, hours: float, window: str | None, processing: str
) -> None:
    """The connection has shown how slow its batches are."""
    customer = app.customer()
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    job = await send(app, customer, hours=hours, options={"processing": "cheapest"})
    await finish(app, [job])
    assert [window] == windows(app.accounts[customer])
    assert [("answered", processing)] == bought(app, customer)
    assert processing == app.result(job)["usage"]["processing"]


@pytest.mark.parametrize("refuses", ["windows", "background"])
async def test_the_cheapest_of_a_model_without_windows(app: EventfulApp, refuses: str) -> None:
    """The next best is bought, and what was refused remembered."""
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    if refuses == "windows":
        account.no_windows = frozenset({"2h", "8h"})
    else:
        account.no_background = frozenset({"gpt-6-luna"})
    jobs = [await send(app, customer, "first", hours=12, options={"processing": "cheapest"})]
    await app.deliver()
    before = len(account.calls("responses.create"))
    jobs.append(await send(app, customer, "second", hours=12, options={"processing": "cheapest"}))
    await finish(app, jobs)
    assert before + 1 == len(account.calls("responses.create"))
    assert [("answered", "standard")] * 2 == bought(app, customer)
    assert {} == account.journal.bought_twice()


async def test_a_window_that_comes_too_late_is_bought_at_the_list_price(app: EventfulApp) -> None:
    """It is cancelled 35 minutes before the deadline, which may be billed; and the next job knows."""
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(account, SLOW_S)
    job = await send(app, customer, hours=3, options={"processing": "cheapest"})
    sent_at = app.clock()
    await finish(app, [job], within_s=3 * HOUR, step_s=30)
    assert 3 * HOUR - 2100 <= app.clock() - sent_at < 3 * HOUR - 1500
    assert ["cancelled", "completed"] == [each.status for each in account.responses.values()]
    assert ["2h", None] == windows(account)
    result = app.result(job)
    assert ("succeeded", 1, "standard") == (result["status"], result["usage"]["calls"], result["usage"]["processing"])
    assert [("answered", "standard"), ("unanswered", "")] == bought(app, customer)
    assert {} == account.journal.bought_twice()

    await finish(app, [await send(app, customer, "next", hours=2.6, options={"processing": "cheapest"})])
    assert ["2h", None, None] == windows(account)


@pytest.mark.long
async def test_what_a_window_that_comes_too_late_has_used_is_lost(app: EventfulApp) -> None:
    """If the provider says how much it was."""
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(account, SLOW_S)
    job = await send(app, customer, hours=3, options={"processing": "cheapest"})
    await app.deliver()
    (made,) = account.responses.values()
    made.body["usage"] = {"input_tokens": 9, "output_tokens": 70, "total_tokens": 79}
    await finish(app, [job], within_s=3 * HOUR, step_s=30)

    assert [("answered", "standard"), ("lost", "background_2h")] == bought(app, customer)
    assert [70] == [row["output_tokens"] for row in app.rows(customer, "u_") if row["outcome"] == "lost"]


@pytest.mark.long
async def test_a_window_that_comes_too_late_for_an_input_that_is_gone(app: EventfulApp) -> None:
    """Nothing can be bought instead; what is gone is the job's error."""
    customer = app.customer()
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(app.accounts[customer], SLOW_S)
    name = f"{customer}/input.json"
    await app.stored.blobs.write("inputs", name, b'{"input": "Say it."}', "application/json")
    job = await send(app, customer, hours=3, options={"processing": "cheapest"}, input={"input_blob": f"inputs/{name}"})
    await app.pass_time(400)
    app.stored.blobs.blobs.clear()
    await finish(app, [job], within_s=3 * HOUR, step_s=30)
    assert "invalid_job" == app.result(job)["error"]["code"]
    assert "input_blob" in app.result(job)["error"]["message"]
    assert [("unanswered", "")] == bought(app, customer)


async def test_a_window_that_has_just_ended_is_used(app: EventfulApp) -> None:
    """The last look finds it done."""
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(account, 3 * HOUR - 2100 - 5)
    job = await send(app, customer, hours=3, options={"processing": "cheapest"})
    await finish(app, [job], within_s=3 * HOUR, step_s=30)
    assert [("answered", "background_2h")] == bought(app, customer)


@pytest.mark.parametrize("status", [pytest.param("get", marks=pytest.mark.long), "cancel"])
async def test_a_window_that_can_not_be_cancelled_is_tried_again(app: EventfulApp, status: str, monkeypatch) -> None:
    """Until ten minutes before the deadline; nothing is bought while it may still be made."""
    monkeypatch.setattr("shared.jobs.pending_response._LAST_WAIT_S", 0.001)
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(account, SLOW_S)
    job = await send(app, customer, hours=3, options={"processing": "cheapest"})
    sent_at = app.clock()
    await app.pass_time(3 * HOUR - 2400, step_s=60)
    account.faults.route(f"responses.{status}", error(503), None)
    before = len(account.calls(f"responses.{status}"))
    await app.pass_time(1500, step_s=30)
    tries = len(account.calls(f"responses.{status}")) - before
    assert (1, tries < 30) == (len(account.responses), True)
    await app.pass_time(3 * HOUR - 500 - (app.clock() - sent_at), step_s=20)
    assert 2 == len(account.responses)
    account.faults.clear()
    await finish(app, [job], within_s=400, step_s=30)
    assert ["2h", None] == windows(account)
    assert [("answered", "standard"), ("unanswered", "")] == bought(app, customer)


async def test_a_window_that_is_gone_at_the_provider(app: EventfulApp) -> None:
    """Another one is created, as long as there is time."""
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(account, SLOW_S)
    job = await send(app, customer, hours=12, options={"processing": "cheapest"})
    await app.pass_time(400)
    account.responses.clear()
    await finish(app, [job])
    assert [("answered", "background_8h"), ("unanswered", "")] == bought(app, customer)


async def test_another_refusal_is_the_jobs_error(app: EventfulApp) -> None:
    """It is not taken for one of the window."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", error(400, "invalid_request"))
    job = await send(app, customer)
    await app.deliver()
    assert "request_rejected" == app.result(job)["error"]["code"]
    assert 1 == len(account.calls("responses.create"))


async def test_a_cancelled_job_cancels_its_window(app: EventfulApp) -> None:
    """Nothing is bought instead."""
    customer = app.customer()
    account = app.accounts[customer]
    app.worker.services.capabilities.learn_batch_seconds(SLOW_S, *await identity(app, customer), "responses")
    takes(account, SLOW_S)
    job = await send(app, customer, hours=12, options={"processing": "cheapest"})
    await app.pass_time(400)
    assert "cancelled" == await app.cancel(customer, job)
    await finish(app, [job])
    assert ["cancelled"] == [each.status for each in account.responses.values()]
    assert "cancelled" == app.result(job)["error"]["code"]


async def test_a_filtered_response_of_a_window(app: EventfulApp) -> None:
    """It is read as any other, at its price."""
    customer = app.customer()
    app.accounts[customer].faults.calls.add(CallFault(200))
    job = await send(app, customer)
    await finish(app, [job])
    assert ("partial", "content_filtered") == (app.result(job)["status"], app.result(job)["error"]["code"])
    assert [("answered", "background_8h")] == bought(app, customer)
