"""What the tests of this folder share: Storage in memory for those that test something else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from local.vault.server import Vault
from tests.support.endpoint import Endpoint
from tests.support.harness import Harness
from tests.support.memory_harness import open_memory_harness


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def memory_harness(vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A harness of one module with Storage in memory."""
    async with open_memory_harness(vault, endpoint) as opened:
        yield opened
