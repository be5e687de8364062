"""Tables, in memory and on Azurite, whose writes can fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport

from shared.storage import account as accounts
from shared.storage.account import Account
from shared.storage.base import Table
from shared.storage.blobs import AzureBlobs
from shared.storage.tables import AzureTable
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Harness


@dataclass
class FaultyTable:
    """A table, the faults that its next writes meet, and how many operations it has been sent."""

    table: Table
    faults: deque[Fault | None]
    operations: Callable[[], int]


def faulty_table(kind: str, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> FaultyTable:
    """Make a table of either kind, `memory` or `azure`."""
    if kind == "memory":
        memory = MemoryTable()
        return FaultyTable(memory, memory.faults, lambda: memory.operations)
    monkeypatch.setitem(accounts._RETRIES, "retry_backoff_factor", 0.01)
    faults: deque[Fault | None] = deque()

    transport = FaultyTransport(faults, session=harness.services.session, session_owner=False)
    account = replace(account_of(harness), transport=lambda: transport)
    return FaultyTable(AzureTable(account, table_name(harness)), faults, lambda: transport.operations)


def account_of(harness: Harness) -> Account:
    """The account that the app's adapters use."""
    blobs = harness.services.outputs._blobs
    assert isinstance(blobs, AzureBlobs)
    return blobs._account


def table_name(harness: Harness) -> str:
    """The name of the table that the app uses."""
    return harness.environment["JOBS_TABLE"]


class FaultyTransport(AioHttpTransport):
    """A transport that applies `faults` to the writes of tables, one each, and passes on the rest."""

    def __init__(self, faults: deque[Fault | None], **options: Any) -> None:
        super().__init__(**options)
        self._faults = faults
        self._dropped = 0
        self.operations = 0

    async def send(self, request: Any, **options: Any) -> Any:
        """Send the request, unless a fault says otherwise."""
        self.operations += 1
        if request.method not in {"POST", "PATCH"}:
            return await super().send(request, **options)
        if self._dropped:
            self._dropped -= 1
            raise ServiceRequestError("Nothing was sent.")
        fault = self._faults.popleft() if self._faults else None
        if fault in {Fault.REFUSED, Fault.LOST}:
            self._dropped = int(accounts._RETRIES["retry_total"])
        if fault is Fault.REFUSED:
            raise ServiceRequestError("Nothing was sent.")
        response = await super().send(request, **options)
        if fault is None:
            return response
        response.internal_response.close()
        raise ServiceResponseError("The response got lost.")
