"""
What docs/disaster.md says: a customer moves to another deployment, Storage is restored, and so is a vault's secret.

On two Azurites, with the SDKs and the app's own stores.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from local.stack import azurite as azurites
from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.billing.closing import Closing
from shared.clock import now, rfc3339
from shared.contract.budget import Budget
from shared.contract.closed_month import DocumentId
from shared.contract.customer import CustomerState
from shared.retention.customer_data import CustomerData
from shared.retention.customer_import import CustomerImport, Imported
from shared.retention.export_reader import ExportReader
from tests.support.closable import DOCUMENT, EARLIER, MONTH, add_credit, add_usage, publish_prices
from tests.support.endpoint import Endpoint, completion, error
from tests.support.harness import Customer, Harness, open_harness
from tests.support.http_client import send

pytestmark = pytest.mark.long
NAMES = ("RESULTS_CONTAINER", "INPUT_CONTAINERS", "TEMPLATES_CONTAINER", "STATEMENTS_CONTAINER")


@pytest_asyncio.fixture
async def old(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A deployment."""
    async with open_harness(azurite, vault, endpoint) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other_storage() -> AsyncIterator[Azurite]:
    """Another Storage account."""
    async with azurites.start() as azurite:
        yield azurite


@pytest_asyncio.fixture
async def new(old: Harness, other_storage: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """Another one, with a Storage account of its own, whose containers have the same names."""
    names = {name: old.environment[name] for name in NAMES}
    async with open_harness(other_storage, vault, endpoint, **names) as opened:
        yield opened


def data_of(customer: Customer) -> CustomerData:
    """Return a customer's data."""
    services = customer.harness.services
    return CustomerData(services.table, services.blobs, services.settings, customer.name)


async def bring(directory: Path, harness: Harness) -> Imported:
    """Import an export."""
    services = harness.services
    return await CustomerImport(services.table, services.blobs, services.settings, ExportReader(directory)).run()


async def content(customer: Customer) -> list[tuple[str, dict[str, Any]]]:
    """Return the customer's rows."""
    return [(row.key, dict(row.values)) async for row in customer.harness.services.table.scan(customer.name, "", "~")]


async def set_state(customer: Customer, state: CustomerState) -> None:
    """Suspend or activate a customer."""
    await customer.harness.services.customer_records.change(
        customer.name, lambda record: record.with_state(state), by="ann", subject="state"
    )


async def wipe(customer: Customer) -> None:
    """Delete all rows of a customer and what waits of it, as if the table had been lost. Blobs stay."""
    table = customer.harness.services.table
    await data_of(customer).erase()
    keys = [key for key, _ in await content(customer)]
    for key in keys:
        row = await table.read(customer.name, key)
        assert row is not None
        await table.delete([row])


def closing_of(harness: Harness) -> Closing:
    """Return what closes months; usage records are kept for long."""
    return replace(harness.services.closing, retain_usage_months=0)


async def test_a_customer_moves_to_another_deployment(old: Harness, new: Harness, tmp_path: Path):
    """
    With rows, blobs and documents, unchanged. There a finished job's result is replayed, a job that had begun goes on
    with its stored step, and one that waits in the schedule has its message sent when it is due; nothing is paid for
    again. The next month gets the next number.
    """
    before = old.customer()
    after = replace(before, harness=new)
    account = before.account
    for harness in (old, new):
        services = harness.services
        await publish_prices(services.table, services.blobs, container=services.settings.statements_container)
    await add_usage(old.services.table, before.name)
    first = await closing_of(old).close(before.name, DOCUMENT)
    await before.run(job_id="done", output={"blob": True})
    multi: dict[str, Any] = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}, "job_id": "begun"}
    account.will_answer(completion(), error(429, retry_after="60"))
    assert await before.deliver(**multi) is None
    run_at = rfc3339(now() + timedelta(hours=1))
    assert await before.deliver(job_id="later", options={"run_at": run_at}) is None
    await set_state(before, "suspended")

    exported = await data_of(before).export(tmp_path)
    done = await bring(tmp_path, new)

    assert (exported.rows, 0, []) == (done.rows, done.existing, done.different)
    assert await content(before) == await content(after)
    assert "customer_suspended" == (await after.run(job_id="too-early"))["error"]["code"]
    await set_state(after, "active")
    calls_before = len(account.received)
    replayed = await after.run(job_id="done", output={"blob": True})
    begun = await after.run(**multi)
    assert ["succeeded", "succeeded", 1] == [replayed["status"], begun["status"], len(account.received) - calls_before]
    await new.services.schedule.send_due(now() + timedelta(hours=2))
    assert ["later"] == [json.loads(body)["job_id"] for body in await after.queued()]
    outcomes = [record["outcome"] for record in await after.usage()]
    assert ["answered"] * len(outcomes) == outcomes
    await add_usage(new.services.table, after.name, month=EARLIER.month)
    second = await closing_of(new).close(after.name, EARLIER)
    assert first is not None
    assert second is not None
    assert (1, 2, first) == (first.number, second.number, await closing_of(new).close(after.name, DOCUMENT))


async def test_a_budget_moves_with_what_it_has_counted(old: Harness, new: Harness, tmp_path: Path):
    """Nothing is counted twice or freed: a job that had begun adds only what it does in the new deployment."""
    before = old.customer()
    after = replace(before, harness=new)
    budget = Budget(limit=Decimal(100_000), unit="tokens", period="month")
    await old.services.customer_records.change(
        before.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )
    multi: dict[str, Any] = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}, "job_id": "begun"}
    before.account.will_answer(completion(), error(429, retry_after="60"))
    assert await before.deliver(**multi) is None

    await data_of(before).export(tmp_path)
    await bring(tmp_path, new)
    moved = await counted(after)
    assert "succeeded" == (await after.run(**multi))["status"]

    assert await counted(before) == moved
    assert (2 * moved[0], Decimal(0)) == await counted(after)


async def counted(customer: Customer) -> tuple[Decimal, Decimal]:
    """Return what the customer's budgets have spent and reserved."""
    buckets = [values for key, values in await content(customer) if key.startswith("b_")]
    spent, reserved = (sum((Decimal(each[name]) for each in buckets), Decimal(0)) for name in ("spent", "reserved"))
    return spent, reserved


async def test_storage_is_restored_from_a_backup(old: Harness, tmp_path: Path):
    """
    The table is lost, the blobs and the queue are not. A job that had begun by the backup goes on from its step; one
    that ended since then is a new job. A month that was closed since has the same document under the same number.
    """
    customer, services = old.customer(), old.services
    account = customer.account
    await publish_prices(services.table, services.blobs, container=services.settings.statements_container)
    await add_usage(services.table, customer.name)
    await add_usage(services.table, customer.name, month=EARLIER.month)
    multi: dict[str, Any] = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}, "job_id": "begun"}
    account.will_answer(completion(), error(429, retry_after="60"))
    assert await customer.deliver(**multi) is None
    await data_of(customer).export(tmp_path)
    closed = [await closing_of(old).close(customer.name, document) for document in (DOCUMENT, EARLIER)]
    await customer.run(job_id="since")
    container = services.settings.statements_container
    documents = [
        await services.blobs.read(container, f"{customer.name}/{document}.json", 9**9)
        for document in (DOCUMENT, EARLIER)
    ]

    await wipe(customer)
    done = await bring(tmp_path, old)

    assert ([], 1) == (done.different, done.unfinished)
    calls_before = len(account.received)
    begun = await customer.run(**multi)
    again = await customer.run(job_id="since")
    assert ["succeeded", "succeeded", 2] == [begun["status"], again["status"], len(account.received) - calls_before]
    restored = [await closing_of(old).close(customer.name, document) for document in (EARLIER, DOCUMENT)]
    assert closed == restored[::-1]
    assert documents == [
        await services.blobs.read(container, f"{customer.name}/{document}.json", 9**9)
        for document in (DOCUMENT, EARLIER)
    ]
    await add_credit(services.table, customer.name)
    correction = await closing_of(old).close(customer.name, DocumentId(MONTH, 1))
    assert correction is not None
    assert 3 == correction.number


async def test_a_vault_is_restored(old: Harness):
    """
    A deleted secret is recovered: jobs fail meanwhile, and run again. One that is restored in an older version has a
    key that the provider refuses, and is put right by rotating it.
    """
    customer, secret = old.customer(), "ai--{}--default"
    name = secret.format(customer.name)
    assert "succeeded" == (await customer.run())["status"]

    old.vault.secrets.delete(name)
    old.services.connections.forget(customer.name, "default")
    assert "connection_not_found" == (await customer.run())["error"]["code"]
    old.vault.secrets.recover(name)
    old.services.connections.forget(customer.name, "default")
    assert "succeeded" == (await customer.run())["status"]

    old.put_secret(name, json.dumps(json.loads(customer.secret()) | {"api_key": "rotated-long-ago-and-refused"}))
    old.services.connections.forget(customer.name, "default")
    assert "credential_rejected" == (await customer.run())["error"]["code"]
    old.connect(customer)
    assert "succeeded" == (await customer.run())["status"]


async def test_a_message_of_before_a_failover_ends_at_one_read(old: Harness):
    """The queue is older than the table: a message that was taken comes again, and its job's result is replayed."""
    customer = old.customer()
    first = await customer.deliver(job_id="taken")

    assert first == await customer.deliver(job_id="taken")
    assert 1 == len(customer.account.received)


async def test_a_missing_document_is_no_other_one(old: Harness):
    """A document of a closed month whose blob is gone is an error, until it is undeleted."""
    customer, services = old.customer(), old.services
    container = services.settings.statements_container
    await publish_prices(services.table, services.blobs, container=container)
    await add_usage(services.table, customer.name)
    await closing_of(old).close(customer.name, DOCUMENT)
    data = await services.blobs.read(container, f"{customer.name}/{DOCUMENT}.json", 9**9)
    assert data is not None
    await services.blobs.delete(container, f"{customer.name}/{DOCUMENT}.json")

    path = f"customers/{customer.name}/statements/{MONTH}"
    missing = await send(old, "GET", path)
    await services.blobs.write(container, f"{customer.name}/{DOCUMENT}.json", data, "application/json")
    undeleted = await send(old, "GET", path)

    assert (503, 200) == (missing.status, undeleted.status)
