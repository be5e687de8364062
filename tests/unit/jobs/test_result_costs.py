"""A result's `usage.cost` is what the statement has for the job."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.customer_pricing import CustomerPricing
from shared.billing.customer_records import RECORD_KEY
from shared.billing.statements import Statements
from shared.clock import now
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import decode_price_book
from shared.event_names import PRICES_UNREAD
from shared.storage.base import Row
from tests.support.closable import put_profile
from tests.support.customers import Customer
from tests.support.endpoint import completion, error, reply
from tests.support.job_kinds import JOB_KINDS
from tests.support.workers import Worker

PRICES: dict[str, Any] = {
    "currency": "USD",
    "prices": [{"provider": "azure_openai", "model": "*", "input": "2", "output": "8", "image": "0.04"}],
    "models": [{"deployment": "gpt-4o", "model": "gpt-4o"}],
    "markups": [{"percent": "50", "per_job": "0.001"}],
    "rates": [{"from": "USD", "to": "JPY", "rate": "150"}],
}
PROMPTS = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}}


async def publish(worker: Worker, prices: Mapping[str, Any] = PRICES) -> None:
    """Publish a price book."""
    books = worker.services.price_books
    await books.publish(decode_price_book(json.dumps(prices).encode()), replaces=await books.current(), by="ann")


async def lose_book(worker: Worker) -> None:
    """Delete the price book's blob: other workers can't read it."""
    container = worker.services.settings.statements_container
    (name,) = [blob.name for blob in (await worker.memory.blobs.page(container, "prices/")).blobs]
    await worker.memory.blobs.delete(container, name)


async def on_statement(worker: Worker, customer: Customer) -> tuple[Decimal, str | None]:
    """Return the amount of the customer's statement before the total is rounded, and its currency."""
    pricing = await CustomerPricing(worker.services.price_books, worker.services.customer_records).read(customer.name)
    today = now().date()
    statement = await Statements(worker.table).read(customer.name, today, today, pricing=pricing)
    lines = [line for line in statement.lines if line.kind is None and line.amount is not None]
    return sum((Decimal(line.amount or 0) for line in lines), Decimal(0)), statement.totals.answered.currency


@pytest.mark.parametrize("kind", JOB_KINDS)
async def test_a_job_costs_what_its_statement_says(worker: Worker, kind: str):
    """With the markup, and the fee of the job."""
    await publish(worker)
    customer = worker.customer()

    cost = (await worker.run(customer, **JOB_KINDS[kind]))["usage"]["cost"]

    assert (await on_statement(worker, customer)) == (Decimal(cost["amount"]), cost["currency"])
    assert Decimal(cost["amount"]) > Decimal("0.001")


async def test_steps_of_earlier_attempts_cost_what_they_did(worker: Worker):
    """Their cost is stored with them, so that the last attempt need not know which model answered."""
    await publish(worker)
    customer = worker.customer()
    busy = error(429, message="Slow down.", retry_after="60")
    customer.account.will_answer(completion(), busy, busy)

    assert await worker.deliver(customer, job_id="x", **PROMPTS) is None
    ((body, _),) = worker.requeued()
    result = await worker.another().run(customer, body)

    assert ("succeeded", 2, 3) == (result["status"], result["attempts"], result["usage"]["calls"])
    amount, _ = await on_statement(worker, customer)
    assert amount == Decimal(result["usage"]["cost"]["amount"])


async def test_what_earlier_attempts_cost_is_no_cost_of_the_job_without_prices(worker: Worker):
    """The fee is not known then, so there is no cost, also if the last attempt is answered nothing."""
    await publish(worker)
    customer = worker.customer()
    busy = error(429, message="Slow down.", retry_after="60")
    customer.account.will_answer(completion(), busy, busy, *2 * [error(400)])

    assert await worker.deliver(customer, job_id="x", **PROMPTS) is None
    ((body, _),) = worker.requeued()
    await lose_book(worker)
    result = await worker.another().run(customer, body)

    assert ("partial", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert "cost" not in result["usage"]


STORED = {"id": "x1", "usage": {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}}
FETCHED = {
    "response": (STORED | {"object": "response", "status": "completed", "model": "gpt-4o"}, "0.000138"),
    "batch": (STORED | {"object": "batch", "status": "completed", "model": "gpt-4o"}, "0.000069"),
}


@pytest.mark.parametrize(("stored", "amount"), FETCHED.values(), ids=FETCHED)
async def test_what_a_fetched_response_has_consumed_costs_once(worker: Worker, stored: Mapping[str, Any], amount: str):
    """Fetching is no call and has no fee; a batch has its own price. What was on record before costs nothing more."""
    batches = {"provider": "azure_openai", "model": "*", "processing": "batch", "input": "1", "output": "4"}
    await publish(worker, PRICES | {"prices": [*PRICES["prices"], batches]})
    customer = worker.customer()
    customer.account.will_answer(reply(stored), reply(stored))

    results = [await worker.run(customer, action="raw", input={"path": "responses/x1", "method": "GET"}) for _ in "12"]

    assert [{"amount": amount, "currency": "USD"}, None] == [result["usage"].get("cost") for result in results]
    assert (Decimal(amount), "USD") == await on_statement(worker, customer)


async def test_an_unanswered_call_adds_nothing_to_the_cost(worker: Worker):
    """Like the counts: what is not known of a call adds nothing."""
    await publish(worker)
    customer = worker.customer()
    body = customer.body(job_id="x")
    await worker.crash(customer, "x", body)

    result = await worker.run(customer, body)

    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)
    amount, _ = await on_statement(worker, customer)
    assert amount == Decimal(result["usage"]["cost"]["amount"])


async def test_a_cost_is_in_the_currency_of_the_statement(worker: Worker):
    """By the book's rates, with four places more than the currency has."""
    await publish(worker)
    customer = worker.customer()
    await put_profile(worker.table, customer.name, CustomerProfile(currency="JPY"))

    result = await worker.another().run(customer)

    # 11 x 2 and 7 x 8 per million, half as much again, and 0.001 for the job: 0.001117 USD.
    assert {"amount": "0.1676", "currency": "JPY"} == result["usage"]["cost"]
    assert (Decimal("0.1676"), "JPY") == await on_statement(worker, customer)


@pytest.mark.parametrize(
    "prices",
    [
        None,
        PRICES | {"prices": []},
        PRICES | {"prices": [{"provider": "azure_openai", "model": "*", "image": "1"}]},
        PRICES | {"prices": [*PRICES["prices"], {"provider": "azure_openai", "model": "gpt-4o-2024*", "second": "1"}]},
    ],
    ids=["no book", "no price", "nothing that the price is for", "a closer price for something else"],
)
async def test_without_a_price_there_is_no_cost(worker: Worker, prices: Mapping[str, Any] | None):
    """It is missing, and never 0."""
    if prices is not None:
        await publish(worker, prices)

    result = await worker.run(worker.customer())

    assert ("succeeded", False) == (result["status"], "cost" in result["usage"])


async def test_one_call_without_a_price_leaves_the_cost_out(worker: Worker):
    """A cost of some of the calls would look like that of all."""
    await publish(worker, PRICES | {"prices": [PRICES["prices"][0] | {"model": "gpt-4o*"}]})
    customer = worker.customer()
    customer.account.will_answer(completion(), completion(model="o9"), completion())

    result = await worker.run(customer, **PROMPTS)

    assert (3, False) == (result["usage"]["calls"], "cost" in result["usage"])


async def test_a_book_that_cannot_be_read_holds_up_no_job(worker: Worker, caplog: pytest.LogCaptureFixture):
    """Results have no cost then; that is logged, and read again after a minute."""
    await publish(worker)
    await lose_book(worker)
    other, customer = worker.another(), worker.customer()

    with caplog.at_level(logging.WARNING):
        results = [await other.run(customer) for _ in range(3)]

    assert 3 * [("succeeded", False)] == [(result["status"], "cost" in result["usage"]) for result in results]
    assert 1 == sum(PRICES_UNREAD in line for line in caplog.messages)


async def test_a_profile_that_cannot_be_read_takes_no_cost_from_other_customers(
    worker: Worker, caplog: pytest.LogCaptureFixture
):
    """A newer version of the app may have written it. The customer's jobs run all the same, without a cost."""
    await publish(worker)
    broken, customer = worker.customer(), worker.customer()
    await worker.table.insert(Row(broken.name, RECORD_KEY, {"profile": '{"colour": "blue"}'}))

    with caplog.at_level(logging.WARNING):
        results = [await worker.run(each) for each in (broken, customer)]

    assert [("succeeded", False), ("succeeded", True)] == [
        (each["status"], "cost" in each["usage"]) for each in results
    ]
    assert any(f"{PRICES_UNREAD} customer={broken.name} " in line for line in caplog.messages)
