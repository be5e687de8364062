"""Batches of a customer that is erased: they are cancelled at the provider, and their files deleted."""

from __future__ import annotations

import pytest

from local.provider.faults import LOST, BatchFault, error
from shared.batches.erasure import ProviderErasure, erase_at_providers
from shared.retention.customer_data import CustomerData
from shared.upstream.client import UpstreamClient
from tests.support.patience import PatientApp, patient_app

HOUR = 3600.0


@pytest.fixture
async def at(client: UpstreamClient, monkeypatch: pytest.MonkeyPatch):
    """The patient app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def _sent(at: PatientApp, *faults: BatchFault) -> str:
    customer = at.customer()
    at.accounts[customer].durations.in_progress_s = 3 * HOUR
    for fault in faults:
        at.accounts[customer].faults.batches.add(fault)
    await at.send(customer)
    await at.pass_time(600)
    return customer


async def _erase(at: PatientApp, customer: str) -> ProviderErasure:
    services = at.worker.services
    erasure = await erase_at_providers(services.batch_worker.parts, customer)
    await CustomerData(services.table, services.blobs, services.settings, customer).erase()
    return erasure


async def test_a_batch_is_cancelled_and_its_file_deleted(at: PatientApp) -> None:
    customer = await _sent(at)
    erasure = await _erase(at, customer)
    await at.pass_time(HOUR)
    account = at.accounts[customer]
    assert (len(erasure.cancelled), erasure.left) == (1, {})
    assert [batch.status for batch in account.batches.values()] == ["cancelled"]
    assert account.files == {}
    assert account.journal.billed() == []
    assert at.results == []


async def test_a_batch_whose_creation_got_no_answer_is_cancelled_too(at: PatientApp) -> None:
    """And so is a second one of its file."""
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 3 * HOUR
    account.faults.batches.add(BatchFault(list_late_s=900))
    account.faults.route("batches.create", LOST)
    await at.send(customer)
    await at.pass_time(600)
    while len(account.batches) < 2:
        await at.pass_time(60)
    await at.pass_time(900)
    await _erase(at, customer)
    await at.provider.advance(60)
    assert {batch.status for batch in account.batches.values()} == {"cancelled"}


async def test_what_can_not_be_reached_is_named_and_the_rest_erased(at: PatientApp) -> None:
    customer = await _sent(at)
    at.accounts[customer].faults.route("*", error(503), None)
    erasure = await _erase(at, customer)
    assert erasure.cancelled == []
    assert list(erasure.left.values()) == ["provider_unavailable (503)"]
    assert [key for key in at.memory.table.rows if key[0] == customer] == []


async def test_what_is_not_at_a_provider_is_left_alone(at: PatientApp) -> None:
    """A batch that gathers, and one that is done."""
    customer = at.customer()
    await at.finish([await at.send(customer)])
    await at.send(customer)
    await at.deliver()
    received = len(at.accounts[customer].received)
    assert await _erase(at, customer) == ProviderErasure()
    assert len(at.accounts[customer].received) == received
