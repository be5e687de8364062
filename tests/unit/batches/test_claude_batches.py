"""Jobs in batches at Anthropic's own API: what is sent, what comes back, and what it costs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.provider.faults import BatchFault, CallFault
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.statements import Statements
from shared.clock import now
from shared.contract.price_book import decode_price_book
from shared.upstream.client import UpstreamClient
from tests.support.claude_types import check_request
from tests.support.patience import PatientApp, patient_app
from tests.support.patient_budgets import monthly, put, total

HOUR = 3600.0
LIST_PRICE = {"provider": "anthropic", "model": "claude-sonnet-4-5*", "input": "2", "output": "8"}
PRICES = [LIST_PRICE, LIST_PRICE | {"processing": "batch", "input": "1", "output": "4"}]


@pytest.fixture
async def at(client: UpstreamClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PatientApp]:
    """The patient app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def test_a_job_has_the_output_that_it_has_at_the_list_price(at: PatientApp) -> None:
    """But for the response's id; the usage says that it came out of a batch."""
    customer = at.customer(style="anthropic")
    work: dict[str, Any] = {"prompt": "Say it.", "system": "Be brief.", "parameters": {"max_tokens": 100, "seed": 1}}
    jobs = [await at.send(customer, input=work, options={"processing": each}) for each in ("batch", "standard")]
    await at.finish(jobs)
    patient, direct = map(at.result, jobs)
    assert (patient["status"], patient["output"]["text"]) == ("succeeded", "Echo: Say it.")
    for each in (patient, direct):
        assert each["output"].pop("id").startswith("msg_")
    assert patient["output"] == direct["output"]
    usages = [{**each["usage"], "processing": None, "service_tier": None} for each in (patient, direct)]
    assert usages[0] == usages[1]
    assert (patient["usage"]["processing"], patient["usage"]["service_tier"]) == ("batch", "batch")


@pytest.mark.parametrize("fault", [None, BatchFault(expire_share=0.5), BatchFault(duplicates=2, shuffle=True)])
async def test_a_statement_has_what_the_journal_has(at: PatientApp, fault: BatchFault | None) -> None:
    """To the last decimal, and half of the list price is saved. Each line is what the SDK's types take."""
    book = decode_price_book(json.dumps({"currency": "USD", "prices": PRICES}).encode())
    await at.worker.services.price_books.publish(book, replaces=None, by="ann")
    customer = at.customer(style="anthropic")
    account = at.accounts[customer]
    if fault is not None:
        account.faults.batches.add(fault)
    jobs = [await at.send(customer) for _ in range(5)]
    jobs.append(await at.send(customer, "multi_chat", input={"prompts": [f"Count to {each}." for each in range(9)]}))
    text = "\n\n".join(f"Paragraph {number}. " + "Words follow words in it. " * 40 for number in range(90))
    jobs.append(await at.send(customer, "summarize", input={"text": text}))
    await at.deliver()
    for row in at.rows(customer, "l_"):
        check_request(json.loads(row["body"]))

    await at.finish(jobs)

    assert {"succeeded"} == {at.result(job)["status"] for job in jobs}
    services, day = at.worker.services, now().date()
    pricing = await CustomerPricing(services.price_books, services.customer_records).read(customer)
    statement = await Statements(services.table).read(customer, day - timedelta(days=1), day, pricing=pricing)
    lines = [line for line in statement.lines if line.kind is None]
    assert {"batch"} == {line.processing for line in lines}
    total, saved = (sum(Decimal(getattr(each, name)) for each in lines) for name in ("amount", "saved"))
    assert account.journal.totals().cost == total == saved
    assert account.journal.bought_twice() == {}
    billed = sorted(each.request_id for each in account.journal.billed())
    assert billed == sorted(row["request_id"] for row in at.rows(customer, "u_"))


@pytest.mark.parametrize("refused", [False, True])
async def test_a_budget_reserves_half_of_the_list_price(at: PatientApp, refused: bool) -> None:
    """And spends what the journal says; without a price for a batch, it refuses the job."""
    prices = PRICES[:1] if refused else PRICES
    book = decode_price_book(json.dumps({"currency": "USD", "prices": prices}).encode())
    await at.worker.services.price_books.publish(book, replaces=None, by="ann")
    reserved = {}
    for processing in ("batch", "cheapest"):
        customer = at.customer(style="anthropic")
        await put(at, customer, main=monthly("1000", unit="USD"))
        work = {"prompt": "Hello?", "parameters": {"max_tokens": 100}}
        job = await at.send(customer, input=work, options={"processing": processing})
        await at.deliver()
        reserved[processing] = total(at.memory.table, customer, "main").reserved
        await at.finish([job])
        if refused and processing == "batch":
            assert at.result(job)["error"]["code"] == "budget_exceeded"
            continue
        assert at.result(job)["status"] == "succeeded"
        if not refused:
            assert total(at.memory.table, customer, "main") == (at.accounts[customer].journal.totals().cost, 0)
    assert reserved["cheapest"] > 0
    assert reserved["batch"] == (0 if refused else reserved["cheapest"] / 2)


async def test_a_line_s_refusal_is_one_by_the_error_table_and_is_not_billed(at: PatientApp) -> None:
    """Neither as one that may have been: what errored in a batch is not, even if a call would be."""
    customer = at.customer(style="anthropic")
    account = at.accounts[customer]
    too_long = "prompt is too long: 300000 tokens > 200000 maximum"
    faults = {"long": CallFault(400, message=too_long), "late": CallFault(504), "credit": CallFault(402)}
    jobs = {}
    for name, fault in faults.items():
        account.faults.calls.add(CallFault(fault.status, message=fault.message, match=name), times=None)
        jobs[name] = await at.send(customer, input={"prompt": name}, options={"max_retries": 0})
    await at.finish([*jobs.values()])
    codes = {name: at.result(job)["error"]["code"] for name, job in jobs.items()}
    assert codes == {"long": "request_rejected", "late": "provider_unavailable", "credit": "quota_exhausted"}
    assert too_long in at.result(jobs["long"])["error"]["message"]
    assert at.rows(customer, "u_") == []


async def test_a_line_that_may_be_repeated_is(at: PatientApp) -> None:
    """In another batch, once; a model's own limit is learned from its refusal, as from a call's."""
    customer = at.customer(style="anthropic")
    account = at.accounts[customer]
    account.faults.calls.add(CallFault(529, message="Overloaded", match="busy"))
    limit = "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-sonnet-4-5"
    account.faults.calls.add(CallFault(400, message=limit, match="unlimited"))
    jobs = [await at.send(customer, input={"prompt": each}) for each in ("busy", "unlimited")]
    await at.finish(jobs)
    assert [at.result(job)["status"] for job in jobs] == ["succeeded"] * 2
    assert len(account.batches) == 2
    assert len(account.journal.billed()) == 2


@pytest.mark.parametrize("ended", ["expired", "cancelled"])
async def test_what_was_not_done_in_time_is_not_billed(at: PatientApp, ended: str) -> None:
    """A job that has no time for another batch fails; the answers of the others are used."""
    customer = at.customer(style="anthropic")
    account = at.accounts[customer]
    account.durations.in_progress_s = 2 * HOUR
    if ended == "expired":
        account.durations.window_s = HOUR
    jobs = [await at.send(customer, options={"deadline_s": 2 * HOUR}) for _ in range(10)]
    await at.finish(jobs)
    statuses = [at.result(job)["status"] for job in jobs]
    (batch,) = list(account.batches.values())[:1]
    assert batch.status == ended
    answered = statuses.count("succeeded")
    assert 0 < answered < 10
    failed = [at.result(job)["error"]["code"] for job in jobs if at.result(job)["status"] == "failed"]
    assert set(failed) <= {"timeout"}
    assert len(at.rows(customer, "u_")) == len(account.journal.billed()) == answered


async def test_the_cheapest_is_bought_at_the_list_price_in_time(at: PatientApp) -> None:
    """Claude has no flex."""
    customer = at.customer(style="anthropic")
    account = at.accounts[customer]
    account.durations.in_progress_s = 100 * HOUR
    options = {"processing": "cheapest", "deadline_s": 2 * HOUR}
    jobs = [await at.send(customer, options=options) for _ in range(4)]
    started_at = at.clock()
    await at.finish(jobs)
    assert at.clock() - started_at < 2 * HOUR
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}
    assert account.journal.bought_twice() == {}
    assert {each.processing for each in account.journal.billed()} >= {"standard"}


async def test_claude_in_foundry_is_refused(at: PatientApp) -> None:
    """With a sentence; the cheapest is the list price there."""
    customer = at.customer(style="anthropic", endpoint="https://contoso.services.ai.azure.com/anthropic")
    job = await at.send(customer)
    await at.deliver()
    error = at.result(job)["error"]
    assert error["code"] == "invalid_job"
    assert "leads to Claude in Foundry, which has no batches" in error["message"]
