"""
Fixtures for all tests. The real parts are started once a test process and shared; what a test does is
told apart by its customer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from local.stack import azurite as azurites
from local.vault import server as vaults
from shared.jobs import attempt as attempts
from tests.support import endpoint as endpoints
from tests.support.harness import World, open_world

pytest_plugins = ["tests.support.host_fixtures", "tests.support.live_server_fixtures"]

# Hypothesis gives an example 200 ms if it is told nothing, and its making not much more: a slow machine takes longer.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest_asyncio.fixture(scope="session")
async def azurite() -> AsyncIterator[azurites.Azurite]:
    """Azure Storage: Azurite."""
    async with azurites.start() as storage:
        yield storage


@pytest_asyncio.fixture(scope="session")
async def vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[vaults.Vault]:
    """Key Vault's stand-in, with the managed identity's endpoint in the environment as on Azure."""
    async with vaults.start(tmp_path_factory.mktemp("vault")) as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IDENTITY_ENDPOINT", running.identity_endpoint)
            patch.setenv("IDENTITY_HEADER", running.identity_header)
            yield running


@pytest_asyncio.fixture(scope="session")
async def endpoint() -> AsyncIterator[endpoints.Endpoint]:
    """The AI endpoint that records."""
    async with endpoints.start() as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def world(azurite: azurites.Azurite, vault: vaults.Vault, endpoint: endpoints.Endpoint) -> AsyncIterator[World]:
    """The app's services on all of them."""
    async with open_world(azurite, vault, endpoint) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_world(
    azurite: azurites.Azurite, vault: vaults.Vault, endpoint: endpoints.Endpoint
) -> AsyncIterator[World]:
    """A world of a module's own, for tests that look at whole queues: nobody else's messages come up there."""
    async with open_world(azurite, vault, endpoint) as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that do not wait for a Storage that fails: what comes after the waiting is what is tested."""
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", ())
