"""Jobs of `respond`, from the queue to their results, with an endpoint that makes responses in the background."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.faults import LOST, ResponseFault, error
from shared.billing.customer_records import CustomerRecords
from shared.clock import now
from shared.contract.budget import Budget
from shared.jobs.response_rows import MAX_AGE, MAX_CANDIDATES, ResponseRows, creation_row
from shared.secret import Secret
from shared.storage.base import MAX_HIDDEN_S
from tests.support.patient_budgets import monthly, total, used
from tests.support.response_jobs import EventfulApp, eventful_app, finish, metered_key, send_response
from tests.support.worker_crashes import Process


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


def takes(account: Account, seconds: float, status: str = "completed") -> None:
    """Have the next response take so long."""
    account.faults.responses.add(ResponseFault(status, queued_s=1, in_progress_s=seconds))


def outcomes(app: EventfulApp, customer: str) -> list[str]:
    """The outcomes of the usage records."""
    return sorted(row["outcome"] for row in app.rows(customer, "u_"))


async def test_a_response_is_made_in_the_background(app: EventfulApp) -> None:
    """The job creates it, waits without a worker, and ends with it. It is on record once, at the standard price."""
    customer = app.customer()
    account = app.accounts[customer]
    job = await send_response(app, customer, input={"input": "Say hello.", "instructions": "Be brief."})
    await app.deliver()

    (created,) = account.responses.values()
    assert {"background": True, "store": True, "input": "Say hello.", "instructions": "Be brief."}.items() <= (
        created.request.items()
    )
    assert 40 == len(created.request["metadata"]["customer_job"])
    assert "waiting" == app.rows(customer, "j_")[0]["state"]
    assert [] == app.results

    await finish(app, [job])
    result = app.result(job)
    assert ("succeeded", "completed", "Echo: Say hello.") == (
        result["status"],
        result["output"]["status"],
        result["output"]["text"],
    )
    assert created.id == result["output"]["id"]
    assert (1, "standard") == (result["usage"]["calls"], result["usage"]["processing"])
    (usage,) = app.rows(customer, "u_")
    assert ("answered", 1, "standard") == (usage["outcome"], usage["calls"], usage["processing"])
    assert [] == app.left_rows(customer)
    app.check_books(customer, [job])


async def test_waits_grow_and_a_long_one_is_no_message(app: EventfulApp) -> None:
    """No job has a message; that of their connection is hidden for two minutes at most."""
    customer = app.customer()
    takes(app.accounts[customer], 3600)
    job = await send_response(app, customer)
    await app.deliver()
    looks = []
    while not app.results:
        assert {each.queue for each in app.messages} <= {"batches"}
        assert all(each.visible_at - app.clock() <= MAX_HIDDEN_S for each in app.messages)
        before = len(app.accounts[customer].calls("responses.get"))
        await app.pass_time(4, step_s=4)
        if len(app.accounts[customer].calls("responses.get")) > before:
            looks.append(app.clock())
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert max(gaps) <= 660 + 60
    assert len(looks) < 30
    assert ("succeeded", True) == (app.result(job)["status"], app.result(job)["attempts"] <= 6)


async def test_an_event_ends_a_long_wait(app: EventfulApp) -> None:
    """A job in the schedule looks at its response seconds after the provider's event, which comes twice; once."""
    app.listen()
    customer = app.customer()
    takes(app.accounts[customer], 700)
    job = await send_response(app, customer)
    await app.deliver()
    await finish(app, [job])
    (ended,) = app.accounts[customer].responses.values()
    assert app.clock() - (ended.created_at + 701) < 10
    assert 1 == len(app.results)


async def test_an_event_ends_a_short_wait(app: EventfulApp) -> None:
    """Between two looks, too."""
    app.listen()
    customer = app.customer()
    takes(app.accounts[customer], 65)
    job = await send_response(app, customer)
    await app.deliver()
    await finish(app, [job], step_s=1)
    (ended,) = app.accounts[customer].responses.values()
    assert app.clock() - (ended.created_at + 66) < 3


async def test_a_cancellation_ends_a_short_wait(app: EventfulApp) -> None:
    """At once, and not with the next look."""
    customer = app.customer()
    takes(app.accounts[customer], 600)
    await send_response(app, customer)
    await app.deliver()
    await app.pass_time(70, step_s=2)
    assert "cancelled" == await app.cancel(customer, "job-1")
    await app.deliver()
    assert "cancelled" == app.result("job-1")["error"]["code"]


@pytest.mark.parametrize(
    "deadline_s", [60, 119, pytest.param(301, marks=pytest.mark.long), pytest.param(1000, marks=pytest.mark.long)]
)
async def test_a_deadline_is_kept_though_the_timer_is_late(app: EventfulApp, deadline_s: int) -> None:
    """The job is woken by a message, not by the timer's next run."""
    customer = app.customer()
    takes(app.accounts[customer], 3000)
    job = await send_response(app, customer, options={"deadline_s": deadline_s})
    sent_at = app.clock()
    await app.deliver()
    schedule, last_run = app.worker.services.schedule, app.clock()
    while not app.results:
        app.clock.advance(1)
        if app.clock() - last_run >= 59:
            last_run = app.clock()
            await schedule.send_due(now())
        await app.provider.settle()
        await app.deliver()
    assert "timeout" == app.result(job)["error"]["code"]
    assert deadline_s - 22 <= app.clock() - sent_at <= deadline_s - 4


async def test_many_wait_for_one_connection(app: EventfulApp) -> None:
    """Each gets its own."""
    customer = app.customer()
    jobs = [await send_response(app, customer, job_id=f"job-{number}") for number in range(12)]
    await app.deliver()
    await finish(app, jobs)
    assert {f"Echo: Say {job}." for job in jobs} == {app.result(job)["output"]["text"] for job in jobs}
    app.check_books(customer, jobs)


async def test_a_model_without_background_answers_at_once(app: EventfulApp) -> None:
    """It is refused once, then remembered; the result says that it was left out."""
    customer = app.customer()
    account = app.accounts[customer]
    account.no_background = frozenset({"gpt-6-luna"})
    jobs = [await send_response(app, customer, job_id=f"job-{number}") for number in range(2)]
    await app.deliver()
    assert {"succeeded"} == {app.result(job)["status"] for job in jobs}
    assert ["background was left out"] == app.result(jobs[0])["output"]["adapted"]
    before = len(account.calls("responses.create"))

    other = await send_response(app, customer, job_id="later")
    await app.deliver()
    assert before + 1 == len(account.calls("responses.create"))
    assert ["background was left out"] == app.result(other)["output"]["adapted"]
    assert ["answered"] * 3 == outcomes(app, customer)
    assert {} == account.journal.bought_twice()


async def test_a_strict_job_is_not_adapted(app: EventfulApp) -> None:
    """It fails as the provider says, and nothing was bought."""
    customer = app.customer()
    app.accounts[customer].no_background = frozenset({"gpt-6-luna"})
    job = await send_response(app, customer, options={"strict": True})
    await app.deliver()
    assert "request_rejected" == app.result(job)["error"]["code"]
    assert [] == outcomes(app, customer)


@pytest.mark.parametrize("parameters", [{"background": False}, {"store": False}], ids=str)
async def test_a_job_may_ask_for_an_answer_at_once(app: EventfulApp, parameters: dict[str, Any]) -> None:
    """Then nothing is stored for later, and one attempt is enough."""
    customer = app.customer()
    job = await send_response(app, customer, input={"input": "Say it.", "parameters": parameters})
    await app.deliver()
    assert ("succeeded", 1) == (app.result(job)["status"], app.result(job)["attempts"])
    assert ["answered"] == outcomes(app, customer)
    assert [] == app.left_rows(customer)


async def test_a_call_at_once_whose_worker_dies_is_on_record(client, monkeypatch) -> None:
    """It is made again, as with a chat job."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        customer = app.customer()
        await send_response(app, customer, input={"input": "Say it.", "parameters": {"background": False}})
        await app.deliver()
        number = next(n for n, name in enumerate(app.process.operations, 1) if name.startswith("POST"))
    async with eventful_app(client, monkeypatch, Process(number, after=True)) as app:
        customer = app.customer()
        job = await send_response(app, customer, input={"input": "Say it.", "parameters": {"background": False}})
        await app.deliver()
        await finish(app, [job])
        assert "succeeded" == app.result(job)["status"]
        assert ["answered", "unanswered"] == outcomes(app, customer)


async def test_a_cancelled_job_cancels_its_response(app: EventfulApp) -> None:
    """It is cancelled at the provider, too, and what may have been paid is on record."""
    customer = app.customer()
    takes(app.accounts[customer], 3000)
    job = await send_response(app, customer)
    await app.deliver()
    await app.pass_time(200)
    assert "cancelled" == await app.cancel(customer, job)
    await app.pass_time(5)

    (response,) = app.accounts[customer].responses.values()
    assert "cancelled" == response.status
    assert ("failed", "cancelled") == (app.result(job)["status"], app.result(job)["error"]["code"])
    assert ["unanswered"] == outcomes(app, customer)


async def test_a_job_cancelled_too_late_for_its_response_pays_for_it(app: EventfulApp) -> None:
    """The answer is dropped, and its usage on record."""
    customer = app.customer()
    job = await send_response(app, customer)
    await app.deliver()
    await app.provider.advance(1.6)
    assert "cancelled" == await app.cancel(customer, job)
    await finish(app, [job])

    result = app.result(job)
    assert ("cancelled", 1, None) == (result["error"]["code"], result["usage"]["calls"], result.get("output"))
    assert ["answered"] == outcomes(app, customer)
    assert [] == app.accounts[customer].calls("responses.cancel")


async def test_the_deadline_cancels_what_is_at_the_provider(app: EventfulApp) -> None:
    """It ends with `timeout` before the deadline has passed."""
    customer = app.customer()
    takes(app.accounts[customer], 3000)
    job = await send_response(app, customer, options={"deadline_s": 300})
    sent_at = app.clock()
    await app.deliver()
    await finish(app, [job], step_s=1)

    (response,) = app.accounts[customer].responses.values()
    assert "cancelled" == response.status
    assert "timeout" == app.result(job)["error"]["code"]
    assert 270 < app.clock() - sent_at <= 302
    assert ["unanswered"] == outcomes(app, customer)


async def test_what_has_ended_is_used_even_after_the_deadline(app: EventfulApp) -> None:
    """The job's message comes late, and the response has ended in time."""
    customer = app.customer()
    job = await send_response(app, customer, options={"deadline_s": 60})
    await app.deliver()
    app.held.add("jobs")
    await app.pass_time(120)
    app.held.clear()
    await app.pass_time(5)
    assert "succeeded" == app.result(job)["status"]
    assert ["answered"] == outcomes(app, customer)


async def test_a_response_cancelled_at_the_provider_ends_its_job(app: EventfulApp) -> None:
    """By somebody else."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 3000)
    job = await send_response(app, customer)
    await app.deliver()
    (response,) = account.responses.values()
    response.body["status"] = "cancelled"
    await finish(app, [job])
    assert "cancelled" == app.result(job)["error"]["code"]
    assert "provider" in app.result(job)["error"]["message"]
    assert ["unanswered"] == outcomes(app, customer)


async def test_a_suspended_customer_gets_what_is_at_the_provider(app: EventfulApp) -> None:
    """Nothing new is created."""
    customer = app.customer()
    job = await send_response(app, customer)
    await app.deliver()
    change = CustomerRecords(app.stored.table).change
    await change(customer, lambda record: record.with_state("suspended"), by="ann", subject="state")
    app.begin(Process())  # it has nothing in memory
    await finish(app, [job])
    other = await send_response(app, customer, job_id="other")
    await app.pass_time(20)
    assert "succeeded" == app.result(job)["status"]
    assert "customer_suspended" == app.result(other)["error"]["code"]
    assert 1 == len(app.accounts[customer].responses)


async def test_a_rotated_key_reads_what_the_old_one_created(app: EventfulApp) -> None:
    """The account is the same."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 100)
    job = await send_response(app, customer)
    await app.deliver()
    old, account.key = account.key, "key-rotated"
    app.provider.accounts = {"key-rotated": account}
    await app.pass_time(60)
    assert [] == app.results
    app.connect(customer, account)
    await finish(app, [job])
    assert old != account.key
    assert "succeeded" == app.result(job)["status"]
    app.check_books(customer, [job])


async def test_another_account_is_not_asked(app: EventfulApp) -> None:
    """A connection that leads elsewhere now may come back; if not, the job ends at its deadline, on record."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 100)
    jobs = [
        await send_response(app, customer, job_id=name, options={"deadline_s": seconds})
        for name, seconds in {"short": 400, "long": 4000}.items()
    ]
    await app.deliver()
    app.connect(customer, account, project="another")
    app.worker.services.connections.forget(customer, "default")
    await finish(app, jobs[:1])
    assert [] == account.calls("responses.get")
    assert "connection_invalid" == app.result("short")["error"]["code"]
    app.connect(customer, account)
    app.worker.services.connections.forget(customer, "default")
    await finish(app, jobs)
    assert "succeeded" == app.result("long")["status"]
    assert ["answered", "unanswered"] == outcomes(app, customer)


async def test_the_operators_account_is_not_asked(app: EventfulApp) -> None:
    """It serves the customer whose connection is deleted, at the same endpoint: the job waits for that to come back."""
    customer = app.customer()
    account, operators = app.accounts[customer], app.provider.account()
    takes(account, 100)
    job = await send_response(app, customer)
    await app.deliver()
    assert account.url == operators.url
    static = {"endpoint": operators.url, "api_key": operators.key, "provider": "openai", "default_model": "gpt-5.5"}
    connections = app.worker.services.connections
    connections._settings = replace(
        connections._settings, static_connection=Secret(json.dumps(static)), allow_static_connection="*"
    )
    del app.stored.credentials.secrets[customer, "default"]
    connections.forget(customer, "default")
    await app.pass_time(1000)
    assert "static" == (await connections.resolve(customer, "default")).source
    assert [] == app.results
    assert [] == operators.calls("responses.get")

    app.connect(customer, account)
    connections.forget(customer, "default")
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]
    assert ["answered"] == outcomes(app, customer)


async def test_a_response_that_is_gone_ends_its_job(app: EventfulApp) -> None:
    """Once the provider has had time to find it."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 3000)
    job = await send_response(app, customer)
    await app.deliver()
    account.responses.clear()
    await finish(app, [job])
    assert "provider_unavailable" == app.result(job)["error"]["code"]
    assert ["unanswered"] == outcomes(app, customer)


async def test_a_creation_that_gets_no_answer_is_adopted_by_its_event(app: EventfulApp) -> None:
    """Nothing is bought twice, though other events name responses that are not the job's."""
    app.listen()
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", LOST)
    job = await send_response(app, customer)
    await app.deliver()
    events = app.worker.services.provider_events
    for number in range(3):
        body = json.dumps({"type": "response.completed", "data": {"id": f"resp_{number}"}}).encode()
        await events.receive(customer, "default", body)
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]
    assert {} == account.journal.bought_twice()
    assert ["answered"] == outcomes(app, customer)
    named = [each.target for each in account.calls("responses.get")]
    assert len(named) == len(set(named)) + 1  # it is read once more, as its own


async def test_an_event_may_come_after_the_time_in_which_its_creation_was_to_be_answered(app: EventfulApp) -> None:
    """The window begins then."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", LOST)
    job = await send_response(app, customer, options={"timeout_s": 400, "deadline_s": 7200})
    await app.deliver()
    await app.pass_time(450, step_s=15)
    body = json.dumps({"type": "response.completed", "data": {"id": next(iter(account.responses))}}).encode()
    await app.worker.services.provider_events.receive(customer, "default", body)
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]
    assert {} == account.journal.bought_twice()
    assert ["answered"] == outcomes(app, customer)


async def test_what_an_event_names_is_adopted_though_it_can_not_be_read_at_first(app: EventfulApp) -> None:
    """An error says nothing about whose it is."""
    app.listen()
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", LOST)
    account.faults.route("responses.get", error(503), 3)
    account.faults.route("responses.get", error(401))
    job = await send_response(app, customer)
    await app.deliver()
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]
    assert {} == account.journal.bought_twice()
    assert ["answered"] == outcomes(app, customer)


@pytest.mark.parametrize("code", ["content_filter", "context_length_exceeded"])
async def test_a_refusal_that_providers_charge_ends_the_job(app: EventfulApp, code: str) -> None:
    """As the provider says, and at once: no response exists. It may have been billed."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", error(400, code), None)
    job = await send_response(app, customer)
    await app.deliver()
    expected = "content_filtered" if code == "content_filter" else "request_rejected"
    assert expected == app.result(job)["error"]["code"]
    assert 1 == len(account.calls("responses.create"))
    assert ["unanswered"] == outcomes(app, customer)
    assert [] == app.left_rows(customer)


@pytest.mark.parametrize("status", [502, *(pytest.param(status, marks=pytest.mark.long) for status in (408, 504))])
async def test_a_gateways_error_does_not_say_that_no_response_exists(app: EventfulApp, status: int) -> None:
    """It is waited for, and then created again, on record."""
    customer = app.customer()
    app.accounts[customer].faults.route("responses.create", error(status))
    job = await send_response(app, customer)
    await app.deliver()
    assert [] == app.results
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]
    assert ["answered", "unanswered"] == outcomes(app, customer)


async def test_a_response_of_another_job_is_not_adopted(app: EventfulApp) -> None:
    """Its metadata says whose it is."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 0)
    account.faults.route("responses.create", LOST)
    lost = await send_response(app, customer, job_id="lost")
    await app.deliver()
    other = account.responses.popitem()[1]
    other.request["metadata"]["customer_job"] = other.body["metadata"]["customer_job"] = "0" * 40
    account.responses[other.id] = other
    body = json.dumps({"type": "response.completed", "data": {"id": other.id}}).encode()
    await app.worker.services.provider_events.receive(customer, "default", body)
    await finish(app, [lost])
    assert other.id != app.result(lost)["output"]["id"]
    assert ["answered", "unanswered"] == outcomes(app, customer)


async def test_few_unknown_responses_are_looked_at(app: EventfulApp) -> None:
    """At most ten a window, each once, and none if no creation waits for its answer."""
    customer = app.customer()
    account = app.accounts[customer]
    events = app.worker.services.provider_events
    names = [json.dumps({"type": "response.completed", "data": {"id": f"resp_{n}"}}).encode() for n in range(30)]
    for body in names:
        await events.receive(customer, "default", body)
    assert [] == app.left_rows(customer)
    account.faults.route("responses.create", LOST)
    job = await send_response(app, customer)
    await app.deliver()
    for body in [*names, *names]:
        events._due_at.pop((customer, "default", json.loads(body)["data"]["id"]))
        await events.receive(customer, "default", body)
    await finish(app, [job])
    unknown = [each for each in account.calls("responses.get") if each.status == 404]
    assert MAX_CANDIDATES == len(unknown)


async def test_creations_without_an_answer_end_the_job_in_the_end(app: EventfulApp) -> None:
    """As often as `max_retries` allows, and once more at least."""
    customer = app.customer()
    app.accounts[customer].faults.route("responses.create", LOST, None)
    job = await send_response(app, customer, options={"max_retries": 0})
    await app.deliver()
    await finish(app, [job])
    assert "provider_unavailable" == app.result(job)["error"]["code"]
    assert 2 == len(app.accounts[customer].responses)
    assert ["unanswered"] * 2 == outcomes(app, customer)


async def test_a_key_that_is_refused_ends_a_job_that_has_bought_nothing(app: EventfulApp) -> None:
    """At once, as any job."""
    customer = app.customer()
    app.accounts[customer].faults.route("responses.create", error(401), None)
    job = await send_response(app, customer)
    await app.deliver()
    assert "credential_rejected" == app.result(job)["error"]["code"]
    assert [] == outcomes(app, customer)


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_budget_is_held_while_the_response_is_made(app: EventfulApp, status: str) -> None:
    """It is settled with what the usage records count, or with the estimate of what has none."""
    customer = app.customer()
    budgets = {"main": monthly("1000000")}
    change = CustomerRecords(app.stored.table).change
    await change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")
    takes(app.accounts[customer], 200, status)
    job = await send_response(app, customer)
    await app.deliver()
    spent, reserved = total(app.stored.table, customer, "main")
    assert (0, True) == (spent, reserved > 1000)
    (created,) = app.accounts[customer].responses.values()
    assert created.request["max_output_tokens"] > 1000
    await finish(app, [job])
    spent, left = total(app.stored.table, customer, "main")
    assert 0 == left
    assert spent == (used(app.stored.table, customer) if status == "completed" else reserved)


async def test_a_budget_is_held_though_an_attempt_comes_to_nothing(app: EventfulApp) -> None:
    """The vault does not answer, and the response is still at its provider."""
    customer = app.customer()
    budgets = {"main": monthly("1000000")}
    change = CustomerRecords(app.stored.table).change
    await change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")
    takes(app.accounts[customer], 20)
    job = await send_response(app, customer)
    await app.deliver()
    held = total(app.stored.table, customer, "main")
    await app.provider.advance(60)
    services = app.worker.services
    services.connections.forget(customer, "default")
    app.stored.credentials.down = True
    assert await services.schedule.wake(customer, job)
    await app.deliver()
    assert held == total(app.stored.table, customer, "main")
    app.stored.credentials.down = False
    app.begin(Process())  # it has nothing in memory
    await finish(app, [job])
    assert (used(app.stored.table, customer), 0) == total(app.stored.table, customer, "main")


async def test_a_budget_without_room_refuses(app: EventfulApp) -> None:
    """Before anything is created."""
    customer = app.customer()
    change = CustomerRecords(app.stored.table).change
    budgets = {"main": Budget(limit=Decimal(10), unit="tokens", period="month")}
    await change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")
    job = await send_response(app, customer)
    await app.deliver()
    assert "budget_exceeded" == app.result(job)["error"]["code"]
    assert {} == app.accounts[customer].responses


async def test_a_worker_that_lost_its_lease_records_nothing_of_what_is_read_again(app: EventfulApp) -> None:
    """Two workers get each message: the response is on record once, as answered."""
    app.delivers_twice = True
    customer = app.customer()
    jobs = [await send_response(app, customer, job_id=f"job-{number}") for number in range(5)]
    await app.deliver()
    await finish(app, jobs)
    await app.pass_time(200)
    assert ["answered"] * 5 == outcomes(app, customer)
    assert {} == app.accounts[customer].journal.bought_twice()
    markers = {key for _, key in app.stored.table.rows if key.startswith("m_")}
    assert {metered_key(app.result(job)["output"]["id"]) for job in jobs} == markers


async def test_what_is_left_of_waits_is_swept(app: EventfulApp) -> None:
    """Providers keep responses for 30 days."""
    customer, rows = app.customer(), ResponseRows(app.stored.table)
    await app.stored.table.insert(creation_row(customer, "default", "c" * 40, "job"))
    assert "" == await rows.remove(customer, "")
    assert 1 == len(app.left_rows(customer))
    app.clock.advance(MAX_AGE.total_seconds() + 1)
    await rows.remove(customer, "")
    assert [] == app.left_rows(customer)
    assert now() - timedelta(days=30) > now() - MAX_AGE


async def test_the_next_connection_is_used_until_a_response_exists(app: EventfulApp) -> None:
    """A connection that refuses to create it is skipped; one that has created it is kept, whatever becomes of it."""
    customer = app.customer()
    first = app.accounts[customer]
    second = app.provider.account()
    app.connect(customer, second, "other")
    first.faults.route("responses.create", error(401), None)
    skipped = await send_response(app, customer, job_id="skipped", connection=["default", "other"])
    await app.deliver()
    await finish(app, [skipped])
    assert ("succeeded", "other") == (app.result(skipped)["status"], app.result(skipped)["connection"]["name"])
    assert ["default"] == [each["name"] for each in app.result(skipped)["connection"]["skipped"]]

    first.faults.clear()
    first.faults.responses.add(ResponseFault("failed"))
    app.begin(Process())
    kept = await send_response(app, customer, job_id="kept", connection=["default", "other"])
    await app.deliver()
    await finish(app, [kept])
    assert ("failed", "default") == (app.result(kept)["status"], app.result(kept)["connection"]["name"])
    assert (1, 1) == (len(first.responses), len(second.responses))
    assert ["answered", "unanswered"] == outcomes(app, customer)
    assert [] == app.left_rows(customer)
