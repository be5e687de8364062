"""Fixtures of the local stack's tests: an AI endpoint for the session; a vault and a provider for each test."""

import httpx
import pytest

from local.provider import server as provider
from local.provider.clock import ManualClock
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


@pytest.fixture
async def endpoint():
    """An endpoint with batches, by a clock that the test moves."""
    async with provider.start(clock=ManualClock()) as running:
        yield running


@pytest.fixture
def account(endpoint):
    """An account of it."""
    return endpoint.account()


@pytest.fixture
async def account_http(account):
    """A client with the account's key, and paths below its URL."""
    headers = {"authorization": f"Bearer {account.key}"}
    async with httpx.AsyncClient(base_url=f"{account.url}/", headers=headers, trust_env=False) as client:
        yield client
