"""The app behind real HTTP as a fixture; loaded with `pytest_plugins`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from endpoint import Endpoint
from local.azurite import Azurite
from local.vault import Vault
from served import Served, serve


@pytest_asyncio.fixture(scope="session")
async def served(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Served]:
    """One host for all tests that need no special one."""
    async with serve(azurite, vault, endpoint) as running:
        yield running
