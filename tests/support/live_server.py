"""The app in a Functions host process, with the tests' Storage, vault and endpoint. Loaded with `pytest_plugins`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.stack.processes import Process
from local.vault import server as vaults
from local.vault.server import Vault
from tests.support.endpoint import Endpoint
from tests.support.harness import Harness, open_harness

ROOT = Path(__file__).parents[2]


@dataclass
class LiveServer:
    """The running app."""

    harness: Harness
    url: str
    http: httpx.AsyncClient
    """A client of the host; paths begin with `/api`."""
    lines: list[str]
    """The lines that the host has printed."""


@asynccontextmanager
async def serve(azurite: Azurite, vault: Vault, endpoint: Endpoint, **settings: str) -> AsyncIterator[LiveServer]:
    """A server with its own queues, table and containers, until the block ends. `settings` are further app settings."""
    async with open_harness(azurite, vault, endpoint, **settings) as harness:
        lines: list[str] = []
        process = await Process.start(
            "host",
            [sys.executable, "-m", "local.host", "--app", ROOT, "--port", "auto"],
            env={**os.environ, **harness.environment},
            cwd=ROOT,
            on_line=lines.append,
        )
        try:
            (match,) = await process.ready([r"^host ready (\S+)"], within=90)
            json = {"Content-Type": "application/json"}  # of bodies that a test sends as bytes
            async with httpx.AsyncClient(base_url=match[1], headers=json, trust_env=False, timeout=90) as http:
                yield LiveServer(harness, match[1], http, lines)
        finally:
            await process.stop()


@pytest_asyncio.fixture(scope="module")
async def live_server(
    azurite: Azurite,
    vault: Vault,  # noqa: ARG001  # sets the managed identity in the environment
    endpoint: Endpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[LiveServer]:
    """
    The module's live server; it takes a sixth of a core to look at its queues. Its vault is its own: each list of
    customers reads all of it, and the session's has those of a thousand tests.
    """
    async with (
        vaults.start(tmp_path_factory.mktemp("vault")) as own,
        serve(azurite, own, endpoint) as running,
    ):
        yield running
