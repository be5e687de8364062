"""What a job at a patient price reserves of budgets in money."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.bucket_rows import pool_key
from shared.billing.measures import Counter
from shared.billing.pricing import Pricing
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, record_values
from shared.clock import now
from shared.contract.budget import Budget
from shared.contract.price_book import decode_price_book
from shared.contract.processing import Processing
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from tests.support.customers import Customer
from tests.support.endpoint import completion
from tests.support.workers import Worker

LIMITED = {"prompt": "Hello?", "parameters": {"max_tokens": 100}}
AT = datetime(2026, 11, 30, tzinfo=UTC)
STANDARD = {"provider": "openai", "model": "gpt-4o*", "input": "2", "output": "8"}
BATCH = STANDARD | {"processing": "batch", "input": "1", "output": "4"}
FLEX = STANDARD | {"service_tier": "flex", "input": "1", "output": "4"}
ALL = [STANDARD, BATCH, FLEX]


def budget(limit: str) -> Budget:
    """A monthly budget in money."""
    return Budget(limit=Decimal(limit), unit="USD", period="month")


async def put(worker: Worker, customer: Customer, limit: str, *prices: dict[str, Any]) -> None:
    """Publish prices, and give the customer a budget in money."""
    book = {"currency": "USD", "prices": [*prices], "models": [{"deployment": "gpt-4o", "model": "gpt-4o"}]}
    books = worker.services.price_books
    await books.publish(decode_price_book(json.dumps(book).encode()), replaces=await books.current(), by="ann")
    budgets = {"main": budget(limit)}
    records = worker.services.customer_records
    await records.change(customer.name, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")


async def needed(worker: Worker, customer: Customer, processing: Processing) -> Decimal:
    """What a job is refused for: the most that it may cost."""
    result = await worker.run(customer, input=LIMITED, options={"processing": processing})
    match = re.search(r"this job may use up to ([0-9.]+) USD", result["error"]["message"])
    assert ("budget_exceeded", []) == (result["error"]["code"], customer.account.received)
    assert match
    return Decimal(match[1])


async def test_a_job_reserves_at_its_price(worker: Worker):
    """The batch's or the tier's; `cheapest` may end at the list price, so it reserves that."""
    customer = worker.customer(provider="openai")
    await put(worker, customer, "0.000001", *ALL)

    standard, batch, flex, cheapest = [
        await needed(worker, customer, each) for each in ("standard", "batch", "flex", "cheapest")
    ]

    assert standard == cheapest > batch == flex
    assert abs(batch * 2 - standard) <= Decimal("0.000001")


@pytest.mark.parametrize(("processing", "others"), [("batch", [STANDARD, FLEX]), ("flex", [STANDARD, BATCH])])
async def test_a_hard_budget_refuses_what_has_no_such_price(
    worker: Worker, processing: str, others: list[dict[str, Any]]
):
    """Model and processing are named. The list price stands in for none."""
    customer = worker.customer(provider="openai")
    await put(worker, customer, "5", *others)

    result = await worker.run(customer, input=LIMITED, options={"processing": processing})

    assert ("budget_exceeded", []) == (result["error"]["code"], customer.account.received)
    assert result["error"]["message"] == (
        f"The budget main is in USD, and the model gpt-4o has no price for {processing} in that."
    )


@pytest.mark.parametrize(("tier", "cost"), [("flex", "0.000039"), ("default", "0.000078")])
async def test_the_tier_that_served_is_paid(worker: Worker, tier: str, cost: str):
    """And spent: what was reserved at the flex tier's price settles at what it was."""
    customer = worker.customer(provider="openai")
    await put(worker, customer, "5", *ALL)
    customer.account.will_answer(completion(service_tier=tier))

    result = await worker.run(customer, input=LIMITED, options={"processing": "flex"})

    key = pool_key(customer.name, "main", budget("5"), now())
    buckets = [
        key.read(row)
        for (name, own), row in worker.table.rows.items()
        if name == customer.name and own.startswith(key.prefix)
    ]
    assert Decimal(cost) == Decimal(result["usage"]["cost"]["amount"])
    assert (Decimal(cost), 0) == (sum(each.spent for each in buckets), sum(each.reserved for each in buckets))


_amounts = st.decimals(0, 100, places=3).map(str)
_prices = st.fixed_dictionaries({"input": _amounts, "output": _amounts}, optional={"cached": _amounts})


@given(
    processing=st.sampled_from(["standard", "batch", "flex"]),
    prices=st.tuples(_prices, _prices, _prices),
    estimate=st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)),
    used=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_what_is_reserved_covers_what_is_settled(
    processing: Any,
    prices: tuple[dict[str, str], ...],
    estimate: tuple[int, int],
    used: tuple[float, float, float],
):
    """
    Whatever the prices are, a call that uses no more than was estimated, at the price that it asked for, settles for no
    more than was reserved. A cache that is dearer than the input it stands for is no price that exists.
    """
    usual = [
        each | {"cached": str(min(Decimal(each["cached"]), Decimal(each["input"])))} if "cached" in each else each
        for each in prices
    ]
    entries = [entry | price for entry, price in zip(ALL, usual, strict=True)]
    pricing = Pricing(decode_price_book(json.dumps({"currency": "USD", "prices": entries}).encode()))
    tokens = [round(limit * part) for limit, part in zip(estimate, used, strict=False)]
    usage = Usage(calls=1, input_tokens=tokens[0], output_tokens=tokens[1], cached_tokens=round(tokens[0] * used[2]))
    is_batch, tier = processing == "batch", "flex" if processing == "flex" else None
    call = Call(usage, "gpt-4o", service_tier=tier, processing="batch" if is_batch else "standard")
    label = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
    values = record_values(RecordLabels("c", "j", "chat", "gpt-4o", label), call, AT)
    labels = {"model": "gpt-4o", "provider": "openai", "processing": call.processing}
    counter = Counter("USD", "c", labels | ({"service_tier": tier} if tier else {}), pricing)

    reserved, of_call = counter.highest([{"calls": 1, "input_tokens": estimate[0], "output_tokens": estimate[1]}], AT)

    assert counter.measure(of_call)(values) <= reserved


async def test_what_jobs_settled_at_one_price_estimates_no_other(worker: Worker):
    """A job that can't be estimated reserves what the largest of its processing has settled, else the usual."""
    customer = worker.customer(provider="openai")
    await put(worker, customer, "5", *ALL)
    strict = {"processing": "flex", "strict": True}
    customer.account.will_answer(completion(service_tier="flex"))
    await worker.run(customer, options=strict)
    await put(worker, customer, "0.001", *ALL)

    again, standard = [await worker.run(customer, options=each) for each in (strict, {"strict": True})]

    assert ("succeeded", "budget_exceeded") == (again["status"], standard["error"]["code"])
