"""A budget's events, from the transaction of the job that crosses the line to the receiver."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from shared.contract.budget import Budget
from tests.support.callback_receiver import Receiver, answers_with, open_receiver
from tests.support.harness import Customer, Harness
from tests.support.signatures import new_secret


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    async with open_receiver() as opened:
        yield opened


@pytest.fixture
def customer(memory_harness: Harness) -> Customer:
    """A customer without a signing secret."""
    return memory_harness.customer()


async def add_budget(customer: Customer, notify: str) -> None:
    """Give the customer a budget of 40 tokens, with an event at half of it."""
    budget = Budget(limit=Decimal(40), unit="tokens", period="month", thresholds=[50], notify=notify, enforce="soft")
    await customer.harness.services.customer_records.change(
        customer.name, lambda record: record.with_budgets({"team": budget}), by="test", subject="budget team"
    )


async def test_a_job_that_crosses_a_line_is_told_once(customer: Customer, receiver: Receiver):
    """Two jobs of 18 tokens each reach half of the budget: one event, signed with the customer's secret."""
    services, secret = customer.harness.services, new_secret()
    customer.harness.put_secret(f"webhook--{customer.name}", secret)
    await add_budget(customer, receiver.url)
    await customer.run()
    await services.delivery.run()
    assert [] == receiver.received
    for _ in range(3):
        await customer.run()
        await services.delivery.run()

    ((headers, body),) = receiver.received
    event = json.loads(body)
    assert event == Webhook(secret).verify(body, headers)
    assert f"callback_{event['id']}" == headers["webhook-id"]
    assert ("budget.threshold", customer.name, "team", 50) == (
        event["type"],
        event["data"]["customer"],
        event["data"]["budget"],
        event["data"]["threshold"],
    )


async def test_a_receiver_that_fails_gets_the_event_later(customer: Customer, receiver: Receiver):
    """It waits for its next try on record; nothing of the address or the receiver's answer is in the row's error."""
    customer.harness.put_secret(f"webhook--{customer.name}", new_secret())
    await add_budget(customer, receiver.url)
    receiver.answers.append(answers_with(500))
    for _ in range(2):
        await customer.run()
    await customer.harness.services.delivery.run()

    (row,) = [row for row in await customer.rows() if row["RowKey"].startswith("e_")]
    assert ("waiting", 1, "The receiver answered 500.") == (row["state"], row["tries"], row["error"])
