"""Tables, in memory and on Azurite, whose writes can fail."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport

from shared.network.hosts import Host
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed, Response
from shared.storage import account as accounts
from shared.storage.account import Account
from shared.storage.base import Table
from shared.storage.blobs import AzureBlobs
from shared.storage.tables import AzureTable
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Harness
from tests.support.storage_pools import ClosedPool


@dataclass
class FaultyTable:
    """A table, the faults that its next writes meet, and how many operations it has been sent."""

    table: Table
    faults: deque[Fault | None]
    operations: Callable[[], int]


def faulty_table(kind: str, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> FaultyTable:
    """Make a table of a kind: `memory`, `azure`, or `azure by the SDK`."""
    if kind == "memory":
        memory = MemoryTable()
        return FaultyTable(memory, memory.faults, lambda: memory.operations)
    monkeypatch.setitem(accounts._RETRIES, "retry_backoff_factor", 0.01)
    faults = Faults(attempts=accounts._RETRIES["retry_total"] + (2 if kind == "azure" else 1))

    def transport() -> FaultyTransport:  # made within the running loop
        return FaultyTransport(faults, session=harness.services.sdk.session, session_owner=False)

    pool = FaultyPool(faults) if kind == "azure" else ClosedPool()
    account = replace(account_of(harness), transport=transport, pool=pool)
    return FaultyTable(AzureTable(account, table_name(harness)), faults.next_writes, lambda: faults.operations)


def account_of(harness: Harness, kind: str = "azure") -> Account:
    """The account that the app's adapters use; `azure by the SDK`: with no direct requests."""
    blobs = harness.services.outputs._blobs
    assert isinstance(blobs, AzureBlobs)
    return blobs._account if kind == "azure" else replace(blobs._account, pool=ClosedPool())


def table_name(harness: Harness) -> str:
    """The name of the table that the app uses."""
    return harness.environment["JOBS_TABLE"]


@dataclass
class Faults:
    """What becomes of the requests to a table, whether they are sent directly or by the SDK."""

    attempts: int
    """How often a request is sent if all fail: once directly, and as often as the SDK repeats it."""
    next_writes: deque[Fault | None] = field(default_factory=deque)
    operations: int = 0
    _dropped: int = 0

    def next_of(self, method: str) -> Fault | None:
        """Return what becomes of the next request. A write that fails also fails when it is repeated."""
        self.operations += 1
        if method not in {"POST", "PATCH"}:
            return None
        if self._dropped:
            self._dropped -= 1
            return Fault.REFUSED
        fault = self.next_writes.popleft() if self.next_writes else None
        if fault in {Fault.REFUSED, Fault.LOST}:
            self._dropped = self.attempts - 1
        return fault


class FaultyPool(Pool):
    """Connections that apply faults to the requests that are sent directly."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(ssl.create_default_context)
        self._faults = faults

    async def exchange(self, host: Host, request: bytes) -> Response:
        """Send the request, unless a fault says otherwise."""
        fault = self._faults.next_of(request.partition(b" ")[0].decode())
        if fault is Fault.REFUSED:
            raise ExchangeFailed("Nothing was sent.")
        response = await super().exchange(host, request)
        if fault is None:
            return response
        raise ExchangeFailed("The response got lost.")


class FaultyTransport(AioHttpTransport):
    """The SDK's transport, with the same faults."""

    def __init__(self, faults: Faults, **options: Any) -> None:
        super().__init__(**options)
        self._faults = faults

    async def send(self, request: Any, **options: Any) -> Any:
        """Send the request, unless a fault says otherwise."""
        fault = self._faults.next_of(request.method)
        if fault is Fault.REFUSED:
            raise ServiceRequestError("Nothing was sent.")
        response = await super().send(request, **options)
        if fault is None:
            return response
        response.internal_response.close()
        raise ServiceResponseError("The response got lost.")
