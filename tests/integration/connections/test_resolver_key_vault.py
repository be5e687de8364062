"""Connections in Key Vault, through the real SDK: found, rotated, and during an outage."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import NoReturn

import pytest

from local.vault.secret_store import VaultError
from local.vault.server import Vault
from shared.connections import secret_cache
from tests.support.credential_store import (
    key_of,
)
from tests.support.harness import Harness
from tests.support.workers import Worker, open_worker


async def test_a_connection_in_key_vault(harness: Harness) -> None:
    """A bare key with tags in the vault is the customer's connection, is read once, and its rotation is found."""
    customer = harness.customer(connection=None)
    secret = f"ai--{customer.name}--default"
    tags = {"endpoint": f"{harness.endpoint.url}/openai/v1", "provider": "azure_openai", "default_model": "gpt-5"}
    harness.put_secret(secret, customer.account.key, tags=tags)
    connections = harness.services.connections

    resolved = await asyncio.gather(*(connections.resolve(customer.name, "default") for _ in range(20)))

    assert (customer.account.key, "gpt-5") == (key_of(resolved[0]), resolved[0].default_model)
    assert 1 == harness.vault.reads[secret]
    harness.connect(customer, api_key="rotated-key")
    renewed = await connections.find_rotated(resolved[0])
    assert renewed is not None
    assert "rotated-key" == key_of(renewed)


def worker_on(harness: Harness) -> Worker:
    """A worker with its Storage in memory, and the connections in the vault."""
    return open_worker(harness.endpoint, harness.services.client, connections=harness.services.connections)


@contextlib.contextmanager
def closed(vault: Vault) -> Iterator[None]:
    """Close the vault's network until the block ends."""

    async def refuse(*_: object) -> NoReturn:
        message = "Public network access is disabled and request is not from a trusted service nor via an approved "
        raise VaultError(403, "Forbidden", f"{message}private link.", "ForbiddenByConnection")

    vault.read_middleware = refuse
    try:
        yield
    finally:
        vault.read_middleware = None


async def test_a_closed_vault_fails_no_job(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the vault's network is closed, a cached connection is used, and other customers' jobs are requeued."""
    monkeypatch.setattr(secret_cache, "FRESH_S", 0.0)
    cached, uncached, worker = harness.customer(), harness.customer(), worker_on(harness)
    await worker.run(cached)

    with closed(harness.vault):
        assert "succeeded" == (await worker.run(cached))["status"]
        assert await worker.deliver(uncached) is None

    ((body, _),) = worker.requeued()
    assert uncached.name == json.loads(body)["customer"]
    assert 3 == harness.vault.reads[f"ai--{cached.name}--default"]  # the second read directly, and by the SDK


async def test_a_job_survives_a_key_rotation_during_an_outage(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A job whose key is refused while the vault is down is requeued, and succeeds with the new key afterwards. One
    without time for that ends as `timeout`, with the reason.
    """
    monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)
    customer, worker = harness.customer(), worker_on(harness)
    await worker.run(customer)
    del harness.endpoint.accounts[customer.account.key]
    customer.account = harness.endpoint.account()
    harness.connect(customer)

    with closed(harness.vault):
        late = await worker.run(customer, options={"deadline_s": 20})
        assert await worker.deliver(customer, job_id="patient") is None
    ((body, _),) = worker.requeued()

    assert "timeout" == late["error"]["code"]
    assert "Key Vault does not give the current one" in late["error"]["message"]
    assert "succeeded" == (await worker.run(customer, body))["status"]
