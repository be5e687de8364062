"""
What the tests of HTTP share: an app whose Storage is in memory. What it does on Azurite is in test_jobs.py
and test_mcp.py, and in tests/acceptance.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.harness import Customer, Harness
from tests.support.signatures import new_secret
from tests.support.webhook_sender import Sender


@pytest.fixture
def harness(memory_harness: Harness) -> Harness:
    """The harness of a module."""
    return memory_harness


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer of one test with a connection."""
    return harness.customer()


@pytest.fixture
def newcomer(harness: Harness) -> Customer:
    """A customer of one test that is not onboarded yet."""
    return harness.customer(connection=None)


@pytest_asyncio.fixture(loop_scope="session")
async def sender(harness: Harness) -> AsyncIterator[Sender]:
    """The sender of one test. It leaves nothing in the queue that all tests share."""
    limits = harness.services.signing.limits
    for limit in (limits.owners, limits.senders):
        limit._read_at.clear()  # many quick tests look like a flood of invented names
    customer, secret = harness.customer(), new_secret()
    harness.put_secret(f"webhook--{customer.name}", secret)
    yield Sender(customer, secret)
    await harness.messages(harness.environment["JOBS_QUEUE"])
