"""Fixtures of the local stack's tests: an AI endpoint for the session, a vault for each test."""

import httpx
import pytest

from local.stack import ai_endpoint as ai_endpoints
from local.vault import server as vault_server

KEY = "tests-key"


@pytest.fixture(scope="session")
async def ai_endpoint():
    async with ai_endpoints.start(keys=[KEY, "another-key"]) as running:
        yield running


@pytest.fixture
async def key_vault(tmp_path):
    async with vault_server.start(tmp_path) as running:
        yield running


@pytest.fixture
async def http(host):
    async with httpx.AsyncClient(base_url=host.url, trust_env=False, timeout=60) as client:
        yield client
