"""Connections in Key Vault, through the real SDK: found, rotated, and during an outage."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from local.vault.secret_store import VaultError
from local.vault.server import Vault
from shared.connections import secret_cache
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
)
from tests.support.credential_store import (
    key_of,
)
from tests.support.harness import World
from tests.support.workers import Worker, open_worker


async def test_a_connection_in_key_vault(world: World) -> None:
    """Through the real SDK, a secret in the vault is the customer's connection, and is read once."""
    customer = world.customer(default_model="gpt-5")
    resolve = world.services.connections.resolve

    resolved = await asyncio.gather(*(resolve(customer.name, "default") for _ in range(20)))

    assert customer.account.key == key_of(resolved[0])
    assert "gpt-5" == resolved[0].default_model
    assert 1 == world.vault.reads[f"ai--{customer.name}--default"]


async def test_a_bare_key_with_tags_in_key_vault(world: World) -> None:
    """Through the real SDK, a bare key with tags is a connection, too."""
    customer = world.customer(connection=None)
    tags = {"endpoint": f"{world.endpoint.url}/openai/v1", "provider": "azure_openai"}
    world.keep(f"ai--{customer.name}--default", customer.account.key, tags=tags)

    resolved = await world.services.connections.resolve(customer.name, "default")

    assert customer.account.key == key_of(resolved)


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"enabled": False}, ConnectionDisabled),
        ({"exp": 1_600_000_000}, ConnectionExpired),
        ({"nbf": 4_000_000_000}, ConnectionExpired),
    ],
    ids=["disabled", "expired", "not yet valid"],
)
async def test_a_secrets_attributes_are_enforced(
    world: World, attributes: dict[str, Any], error: type[ConnectionFault]
) -> None:
    """Through the real SDK, the attributes of a secret raise their own errors."""
    customer = world.customer(connection=None)
    world.keep(f"ai--{customer.name}--default", "sk-key-of-somebody", attributes=attributes)

    with pytest.raises(error):
        await world.services.connections.resolve(customer.name, "default")


async def test_a_key_that_is_rotated_in_key_vault_is_found(world: World) -> None:
    """Through the real SDK, a new version in the vault is found after a refusal."""
    customer = world.customer()
    connections = world.services.connections
    refused = await connections.resolve(customer.name, "default")
    world.connect(customer, api_key="rotated-key")

    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "rotated-key" == key_of(renewed)


def worker_on(world: World) -> Worker:
    """A worker with its Storage in memory, and the connections in the vault."""
    return open_worker(world.endpoint, world.services.client, connections=world.services.connections)


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


async def test_a_closed_vault_fails_no_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the vault's network is closed, a cached connection is used, and other customers' jobs are requeued."""
    monkeypatch.setattr(secret_cache, "FRESH_S", 0.0)
    cached, uncached, worker = world.customer(), world.customer(), worker_on(world)
    await worker.run(cached)

    with closed(world.vault):
        assert "succeeded" == (await worker.run(cached))["status"]
        assert await worker.deliver(uncached) is None

    ((body, _),) = worker.requeued()
    assert uncached.name == json.loads(body)["customer"]
    assert 2 == world.vault.reads[f"ai--{cached.name}--default"]


async def test_a_job_survives_a_key_rotation_during_an_outage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A job whose key is refused while the vault is down is requeued, and succeeds with the new key afterwards. One
    without time for that ends as `timeout`, with the reason.
    """
    monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)
    customer, worker = world.customer(), worker_on(world)
    await worker.run(customer)
    del world.endpoint.accounts[customer.account.key]
    customer.account = world.endpoint.account()
    world.connect(customer)

    with closed(world.vault):
        late = await worker.run(customer, options={"deadline_s": 20})
        assert await worker.deliver(customer, job_id="patient") is None
    ((body, _),) = worker.requeued()

    assert "timeout" == late["error"]["code"]
    assert "Key Vault does not answer whether there is a new one" in late["error"]["message"]
    assert "succeeded" == (await worker.run(customer, body))["status"]
