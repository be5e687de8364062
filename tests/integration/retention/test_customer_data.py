"""The data of real jobs on Storage is exported, then erased."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.retention.customer_data import CustomerData
from shared.settings import Settings, read_settings
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer, Harness, open_harness


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest_asyncio.fixture(scope="module")
async def own_harness(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A harness of this module's own."""
    async with open_harness(azurite, vault, endpoint) as opened:
        yield opened


def data_of(customer: Customer) -> tuple[CustomerData, Settings]:
    """Return the customer's data on Storage, and the settings; one input container does not exist."""
    settings = read_settings(customer.harness.environment)
    settings = replace(settings, input_containers=(*settings.input_containers, "never-made"))
    services = customer.harness.services
    return CustomerData(services.table, services.blobs, settings, customer.name), settings


async def test_data_of_real_jobs_is_exported_and_erased(own_harness: Harness, tmp_path: Path):
    """On Storage: jobs with steps, blobs and input blobs are exported completely, then nothing is left of them."""
    customer, other = own_harness.customer(), own_harness.customer()
    data, settings = data_of(customer)
    (inputs, _) = settings.input_containers
    text = json.dumps({"prompt": "Hello?"}).encode()
    await own_harness.services.blobs.write(inputs, f"{customer.name}/in put.json", text, "application/json")
    for each in (customer, other):
        await each.run(job_id="blob", output={"blob": True})
        await each.run(job_id="steps", action="multi_chat", input={"prompts": ["One?", "Two?"]})
    result = await own_harness.services.blobs.read(
        settings.results_container, f"{customer.name}/blob/result.json", 9**9
    )
    rows = {row["RowKey"] for row in await customer.rows()}

    exported = await data.export(tmp_path)

    assert rows == {row["key"] for row in read_lines(tmp_path / "rows.jsonl")}
    assert {"c", "j", "s", "t", "u"} == {key[0] for key in rows}
    stored = {blob["name"]: (tmp_path / blob["file"]).read_bytes() for blob in read_lines(tmp_path / "blobs.jsonl")}
    assert {f"{customer.name}/in put.json": text, f"{customer.name}/blob/result.json": result} == stored
    templates = settings.templates_container
    erased_from = {settings.results_container: 1, templates: 0, inputs: 1, "never-made": None}
    assert {**erased_from, settings.statements_container: 0} == exported.blobs

    others = await other.rows()
    erased = await data.erase()

    assert (exported.rows, erased_from) == (erased.rows, erased.blobs)
    assert erased.nothing_left
    assert [] == await customer.rows()
    assert others == await other.rows()
    assert (await own_harness.services.blobs.page(settings.results_container, f"{other.name}/")).blobs
