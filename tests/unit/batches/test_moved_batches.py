"""A customer that moves, or is restored from a backup, while batches are at its provider: none is bought twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from local.provider.faults import LOST
from shared.retention.customer_data import CustomerData
from shared.retention.customer_import import CustomerImport, Imported
from shared.retention.export_reader import ExportReader
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from tests.support.endpoint import Endpoint
from tests.support.patience import PatientApp, patient_app
from tests.support.workers import Memory, open_worker


@pytest.fixture
async def at(client: UpstreamClient, monkeypatch: pytest.MonkeyPatch):
    """The patient app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def export(at: PatientApp, customer: str, directory: Path) -> None:
    """Export a customer."""
    services = at.worker.services
    await CustomerData(services.table, services.blobs, services.settings, customer).export(directory)


async def move(at: PatientApp, directory: Path) -> Imported:
    """Go on in another deployment, into which an export is brought."""
    memory = Memory(credentials=at.memory.credentials)
    at.hidden, at.worker = [], open_worker(cast(Endpoint, None), at.worker.services.client, memory=memory)
    services = at.worker.services
    return await CustomerImport(services.table, services.blobs, services.settings, ExportReader(directory)).run()


@pytest.mark.parametrize("exported_s", [0, 299, 600])
async def test_a_batch_goes_on_where_its_customer_is_imported(at: PatientApp, tmp_path: Path, exported_s: int) -> None:
    """Whether it was sent by the export, is sent after it by the other deployment, or never."""
    customer = at.customer()
    at.accounts[customer].durations.in_progress_s = 3600
    jobs = [await at.send(customer), await at.send(customer, "multi_chat", input={"prompts": ["1", "2"]})]
    await at.deliver()
    if exported_s:
        await at.pass_time(exported_s)
    await export(at, customer, tmp_path / "export")
    await at.pass_time(900)

    done = await move(at, tmp_path / "export")
    await at.finish(jobs)

    assert (1, 0) == (done.batches, done.unfinished)
    assert {"succeeded"} == {at.result(job)["status"] for job in jobs}
    assert (1, 3) == (len(at.accounts[customer].batches), at.accounts[customer].journal.totals().calls)
    assert 3 == len(at.rows(customer, "u_"))


async def test_a_batch_that_was_never_sent_is_sent_where_its_customer_is_imported(
    at: PatientApp, tmp_path: Path
) -> None:
    customer = at.customer()
    job = await at.send(customer)
    await at.deliver()
    await export(at, customer, tmp_path / "export")

    await move(at, tmp_path / "export")
    await at.finish([job])

    assert "succeeded" == at.result(job)["status"]
    assert 1 == len(at.accounts[customer].batches)


async def test_a_batch_that_was_harvested_since_the_export_is_not_bought_again(at: PatientApp, tmp_path: Path) -> None:
    """Its files are gone, so its jobs fail; what they may have cost is on record."""
    customer = at.customer()
    job = await at.send(customer, options={"deadline_s": 3600})
    await at.deliver()
    await export(at, customer, tmp_path / "export")
    await at.finish([job])
    at.results.clear()

    await move(at, tmp_path / "export")
    await at.finish([job], within_s=60 * 3600)

    assert "timeout" == at.result(job)["error"]["code"]
    assert ["unanswered"] == [row["outcome"] for row in at.rows(customer, "u_")]
    assert 1 == len(at.accounts[customer].batches)


async def test_a_batch_is_not_bought_on_the_operators_account_while_its_customer_has_none(at: PatientApp) -> None:
    """It may be at the customer's own, at the same endpoint: the jobs wait for that connection to come back."""
    customer = at.customer(style="anthropic")
    account, operators = at.accounts[customer], at.provider.account(style="anthropic")
    account.faults.route("message_batches.create", LOST)
    jobs = [await at.send(customer) for _ in range(2)]
    while not account.batches:
        await at.pass_time(60)
    assert account.url == operators.url
    static = {"endpoint": operators.url, "api_key": operators.key, "provider": "anthropic", "default_model": "m"}
    connections = at.worker.services.connections
    connections._settings = replace(
        connections._settings, static_connection=Secret(json.dumps(static)), allow_static_connection="*"
    )
    del at.memory.credentials.secrets[customer, "default"]
    connections.forget(customer, "default")
    await at.pass_time(3600)
    assert "static" == (await connections.resolve(customer, "default")).source
    assert ({}, []) == (operators.batches, operators.calls("message_batches.list"))
    assert [] == at.results

    at.connect(customer, account)
    connections.forget(customer, "default")
    await at.finish(jobs)
    assert {"succeeded"} == {at.result(job)["status"] for job in jobs}
    assert (1, 2) == (len(account.batches), len(at.rows(customer, "u_")))
