"""A live server as a fixture; loaded with `pytest_plugins`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from tests.support.endpoint import Endpoint
from tests.support.live_server import LiveServer, serve


@pytest_asyncio.fixture(scope="session")
async def live_server(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[LiveServer]:
    """The session's live server."""
    async with serve(azurite, vault, endpoint) as running:
        yield running
