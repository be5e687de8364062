"""Fixtures of the command line's tests: a harness of their own, since they look at whole queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from tests.support.cli_runner import CliRunner
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer, Harness, open_harness, with_own_table
from tests.support.openai_costs import ADMIN_KEY, open_cost_server
from tests.support.price_sources import PriceServer, open_price_sources


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shared_harness(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """The app's services, whose queues no other test uses."""
    async with open_harness(azurite, vault, endpoint) as opened:
        yield opened


@pytest.fixture(scope="package", name="harness")
def _harness(shared_harness: Harness) -> Harness:
    """The same, unless a module has another one."""
    return shared_harness


@pytest_asyncio.fixture
async def own_table(shared_harness: Harness) -> AsyncIterator[Harness]:
    """The same, with a table for one test, for a module whose tests publish prices: it has this as `harness`."""
    async with with_own_table(shared_harness) as opened:
        yield opened


@pytest.fixture(scope="package", autouse=True)
def _empty_vault(vault: Vault) -> Iterator[None]:
    """The vault without the secrets of other packages' customers: some commands look at each secret there is."""
    secrets = vault.secrets
    others, secrets.live = secrets.live, {}
    yield
    secrets.live = others


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(vault: Vault) -> Iterator[None]:
    """What a test puts into the vault goes with it, so that the last test looks at no more secrets than the first."""
    before = dict(vault.secrets.live)
    yield
    vault.secrets.live.clear()
    vault.secrets.live.update(before)


@pytest_asyncio.fixture
async def own_documents(shared_harness: Harness) -> AsyncIterator[Harness]:
    """The same, with a jobs queue and a container of statements for one test, for a module that closes months."""
    async with with_own_table(shared_harness, "JOBS_QUEUE", "STATEMENTS_CONTAINER") as opened:
        yield opened


@pytest_asyncio.fixture
async def own_harness(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A deployment for one test, for a module whose tests write documents or messages: it has this as `harness`."""
    async with open_harness(azurite, vault, endpoint) as opened:
        yield opened


@pytest.fixture
async def cli(harness: Harness, tmp_path: Path, request: pytest.FixtureRequest) -> CliRunner:
    """
    The command line in an empty directory. The queues that the test's module says it looks at are empty, and no others,
    since it takes as long as a command to empty them all.
    """
    for name in getattr(request.module, "LOOKS_AT_QUEUES", ()):
        setting, *poison = name.partition("-")
        await harness.queues.get_queue_client("".join([harness.environment[setting], *poison])).clear_messages()
    return CliRunner(harness, tmp_path)


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer with an account and a connection."""
    return harness.customer()


@pytest.fixture
def newcomer(harness: Harness) -> Customer:
    """A customer with an account and without a connection."""
    return harness.customer(connection=None)


@pytest_asyncio.fixture
async def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PriceServer]:
    """The sources of prices, on this machine."""
    async with open_price_sources(tmp_path, monkeypatch) as server:
        yield server


@pytest_asyncio.fixture
async def bills(sources: PriceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:  # noqa: ARG001
    """OpenAI's costs endpoint, without any costs, beside the sources of prices."""
    monkeypatch.setenv("OPENAI_ADMIN_KEY", ADMIN_KEY)
    async with open_cost_server(tmp_path, monkeypatch):
        yield
