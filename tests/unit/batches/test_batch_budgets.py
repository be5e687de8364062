"""Budgets of jobs at the price of a batch: what a job waits with stays reserved, and settles once, whatever happens."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import cast

import pytest

from local.provider.faults import BatchFault
from shared.contract.price_book import decode_price_book
from shared.upstream.client import UpstreamClient
from tests.support.endpoint import Endpoint
from tests.support.patience import PatientApp, patient_app
from tests.support.patient_budgets import RestlessApp, monthly, put, total, used
from tests.support.sampled import Sampled
from tests.support.workers import open_worker

INPUT = {"prompt": "Hello?", "parameters": {"max_tokens": 100}}
PRICES = {
    "currency": "USD",
    "prices": [
        {"provider": "openai", "model": "gpt-6-luna*", "input": "2", "output": "8"},
        {"provider": "openai", "model": "gpt-6-luna*", "processing": "batch", "input": "1", "output": "4"},
    ],
}
TOKENS = monthly("1000000")


@pytest.fixture
async def at(client: UpstreamClient, monkeypatch: pytest.MonkeyPatch):
    """The patient app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def test_a_job_that_waits_keeps_its_reservation_and_settles_it_with_its_lines(at: PatientApp) -> None:
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    job = await at.send(customer, input=INPUT)
    await at.deliver()
    waiting = total(at.memory.table, customer, "main")
    await at.pass_time(300)
    later = total(at.memory.table, customer, "main")

    await at.finish([job])

    ended = total(at.memory.table, customer, "main")
    assert (0, waiting.reserved) == (waiting.spent, later.reserved)
    assert waiting.reserved > used(at.memory.table, customer) > 0
    assert (used(at.memory.table, customer), 0) == (ended.spent, ended.reserved)


async def test_a_message_that_comes_again_neither_doubles_nor_frees_what_is_reserved(at: PatientApp) -> None:
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    job = await at.send(customer, input=INPUT)
    body, _ = at.memory.queues.sent["jobs"][0]
    await at.deliver()
    reserved = total(at.memory.table, customer, "main").reserved
    for _ in range(3):
        await at.memory.queues.send("jobs", body)
        await at.deliver()
        assert reserved == total(at.memory.table, customer, "main").reserved

    await at.finish([job])

    ended = total(at.memory.table, customer, "main")
    assert (used(at.memory.table, customer), 0) == (ended.spent, ended.reserved)


async def test_others_wait_for_what_a_waiting_job_has_reserved(at: PatientApp) -> None:
    """A job whose budget is reserved by another one is requeued, and done once that has settled."""
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    jobs = [await at.send(customer, input=INPUT)]
    await at.deliver()
    estimate = total(at.memory.table, customer, "main").reserved
    await put(at, customer, main=monthly(f"{estimate + 30}"))
    jobs.append(await at.send(customer, input=INPUT))

    await at.finish(jobs)

    assert {"succeeded"} == {at.result(job)["status"] for job in jobs}
    assert 2 == len(at.accounts[customer].batches)
    assert total(at.memory.table, customer, "main").reserved == 0


async def test_a_job_that_waits_for_a_budgets_period_and_a_batch(at: PatientApp) -> None:
    """It ends at once: the deadline of a patient job always runs."""
    customer = at.customer()
    await put(at, customer, main=monthly("10"))
    late = await at.send(customer, input=INPUT, options={"on_budget": "wait"})
    await at.deliver()

    assert "budget_exceeded" == at.result(late)["error"]["code"]


async def test_a_job_that_is_cancelled_before_its_batch_is_sent_frees_what_it_reserved(at: PatientApp) -> None:
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    job = await at.send(customer, input=INPUT)
    await at.deliver()
    await at.cancel(customer, job)
    await at.deliver()

    ended = total(at.memory.table, customer, "main")
    assert "cancelled" == at.result(job)["error"]["code"]
    assert (0, 0) == (ended.spent, ended.reserved)


@pytest.mark.parametrize("unit", ["tokens", "USD", "EUR"])
async def test_a_job_that_is_cancelled_too_late_settles_what_is_recorded(at: PatientApp, unit: str) -> None:
    """Even in money; without prices in it, its estimate is spent."""
    books = at.worker.services.price_books
    await books.publish(decode_price_book(json.dumps(PRICES | {"rates": []}).encode()), replaces=None, by="ann")
    customer, of = at.customer(), monthly("1000000", unit, enforce="soft" if unit == "EUR" else "hard")
    await put(at, customer, main=of)
    at.accounts[customer].durations.in_progress_s = 1800
    job = await at.send(customer, "multi_chat", input={"prompts": ["1?"] * 120, "parameters": {"max_tokens": 100}})
    await at.pass_time(600)
    reserved = total(at.memory.table, customer, "main").reserved
    assert await at.cancel(customer, job) == "cancelled"
    await at.memory.queues.send("jobs", next(row["message"] for row in at.rows(customer, "l_") if row.get("message")))
    await at.deliver()
    assert reserved == total(at.memory.table, customer, "main").reserved
    assert [] == at.results

    await at.finish([job])

    ended, totals = total(at.memory.table, customer, "main"), at.accounts[customer].journal.totals()
    spent = {"tokens": totals.input_tokens + totals.output_tokens, "USD": totals.cost, "EUR": Decimal(0)}
    assert 120 == len(at.rows(customer, "u_"))
    assert (spent[unit], 0) == (ended.spent, ended.reserved)


async def test_a_connection_that_is_gone_ends_its_job_with_its_batch(at: PatientApp) -> None:
    """What was bought by then is recorded, if anybody can still read it; if not, it counts as estimated."""
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    at.accounts[customer].durations.in_progress_s = 1800
    job = await at.send(customer, input=INPUT, options={"deadline_s": 3600})
    await at.pass_time(600)
    reserved = total(at.memory.table, customer, "main").reserved
    at.memory.credentials.secrets.clear()
    at.worker = open_worker(cast(Endpoint, None), at.worker.services.client, memory=at.memory)

    await at.finish([job], within_s=2 * 3600)

    ended = total(at.memory.table, customer, "main")
    assert at.result(job)["status"] == "failed"
    assert [("unanswered", "openai")] == [(row["outcome"], row["provider"]) for row in at.rows(customer, "u_")]
    assert (reserved, 0) == (ended.spent, ended.reserved)


async def test_a_line_without_an_answer_counts_as_estimated(at: PatientApp) -> None:
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    at.accounts[customer].faults.batches.add(BatchFault(missing=1))
    jobs = [await at.send(customer, input=INPUT) for _ in range(2)]
    await at.deliver()
    reserved = total(at.memory.table, customer, "main").reserved

    await at.finish(jobs)

    ended = total(at.memory.table, customer, "main")
    assert (used(at.memory.table, customer) + reserved / 2, 0) == (ended.spent, ended.reserved)


async def test_a_budget_that_was_made_meanwhile_counts_what_is_bought_and_refuses_nothing(at: PatientApp) -> None:
    """Nor does one that was deleted keep anything."""
    customer = at.customer()
    await put(at, customer, main=TOKENS)
    job = await at.send(customer, input=INPUT)
    await at.deliver()
    await put(at, customer, other=monthly("10"))

    await at.finish([job])

    assert "succeeded" == at.result(job)["status"]
    assert 0 == total(at.memory.table, customer, "main").reserved
    ended = total(at.memory.table, customer, "other")
    assert (used(at.memory.table, customer), 0) == (ended.spent, ended.reserved)


SEEDS = (160173, *range(19))
"""The first one's job is cancelled by a worker that dies of it."""


async def test_what_is_spent_is_what_records_say_whatever_happens(client, sampled: Sampled) -> None:
    """In any order of waits, harvests, crashes, cancellations, and of messages that come again."""
    for seed in sampled(SEEDS, share=10):
        with pytest.MonkeyPatch.context() as monkeypatch:
            async with patient_app(client, monkeypatch) as app:
                restless = RestlessApp(app, random.Random(seed), monthly("20000"))
                await restless.live(25)
                ended = total(restless.table, restless.customer, "main")
                totals = app.accounts[restless.customer].journal.totals()
                assert {"done"} == {row["state"] for row in app.rows(restless.customer, "j_")}
                assert (used(restless.table, restless.customer), 0) == (ended.spent, ended.reserved)
                assert totals.input_tokens + totals.output_tokens == ended.spent
                assert {1} == {len(each) for each in restless.statuses.values()}
