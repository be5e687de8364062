"""A browser, and the app with a price book of its own: what it shows is then in amounts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.contract.price_book import decode_price_book
from tests.support import browser as browsers
from tests.support.browser import Browser, Tab
from tests.support.endpoint import Endpoint
from tests.support.live_server import LiveServer, serve

BOOK = b"""{"currency": "USD", "prices": [
  {"provider": "azure_openai", "model": "gpt-4o*", "effective_from": "2024-01-01", "input": "2.5", "output": "10"},
  {"provider": "azure_openai", "model": "gpt-6-luna", "effective_from": "2024-01-01", "input": "125", "output": "1000"},
  {"provider": "openai", "model": "gpt-5.5", "effective_from": "2024-01-01", "input": "3"}
]}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def priced_server(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[LiveServer]:
    """A live server whose price book was published before the first request."""
    async with serve(azurite, vault, endpoint) as running:
        books = running.harness.services.price_books
        await books.publish(decode_price_book(BOOK), replaces=None, by="test")
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """The module's browser."""
    async with browsers.start(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """A tab. The test fails as `Tab.check` says."""
    async with browser.tab() as opened:
        yield opened
        await opened.check()
