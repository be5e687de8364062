"""Workers whose Storage and credentials are in memory. They call the AI endpoint of the session over loopback HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_asyncio

from shared.jobs import attempt
from shared.upstream.client import UpstreamClient
from tests.support import workers
from tests.support.clients import open_client
from tests.support.endpoint import Account, Endpoint
from tests.support.workers import OpenWorker, Worker


@pytest_asyncio.fixture(scope="session")
async def client() -> AsyncIterator[UpstreamClient]:
    """An HTTP client that may call this machine, for all tests that need no other."""
    async with open_client() as client:
        yield client


@pytest.fixture
def account(endpoint: Endpoint) -> Account:
    """An account at the endpoint."""
    return endpoint.account()


@pytest.fixture
def open_worker(endpoint: Endpoint, client: UpstreamClient) -> OpenWorker:
    """Opens workers; see `workers.open_worker`."""
    return partial(workers.open_worker, endpoint, client)


@pytest.fixture
def worker(open_worker: OpenWorker) -> Worker:
    """A worker."""
    return open_worker()


@pytest.fixture
def short_storage_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt waits as often as ever for a Storage that does not answer, but not for long."""
    monkeypatch.setattr(attempt, "STORAGE_WAITS_S", (0.001,) * len(attempt.STORAGE_WAITS_S))


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that connects to anything but this machine fails."""
    connect = socket.socket.connect

    def connect_to_loopback(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not ip_address(address[0]).is_loopback:
            pytest.fail(f"A unit test connects to {address[0]}.")
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect_to_loopback)
