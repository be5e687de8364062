"""What the tests of the local stack share: a Storage and an AI stand-in a session, a vault a test."""

import pytest

from local.stack import ai_endpoint as ai
from local.stack import azurite
from local.vault import server as vault

KEY = "tests-key"


@pytest.fixture(scope="session")
async def storage():
    async with azurite.start() as running:
        yield running


@pytest.fixture(scope="session")
async def answers():
    async with ai.start(keys=[KEY, "another-key"]) as running:
        yield running


@pytest.fixture
async def key_vault(tmp_path):
    async with vault.start(tmp_path) as running:
        yield running
