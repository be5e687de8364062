"""Tables of either kind whose changes can fail."""

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
from tests.support.harness import World


@dataclass
class Faulty:
    """A table, the faults that its next writes meet, and how many operations it has been sent."""

    table: Table
    faults: deque[Fault | None]
    operations: Callable[[], int]


def faulty_table(kind: str, world: World, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """A table of either kind whose changes can fail."""
    if kind == "memory":
        memory = MemoryTable()
        return Faulty(memory, memory.faults, lambda: memory.operations)
    monkeypatch.setitem(accounts._RETRIES, "retry_backoff_factor", 0.01)
    faults: deque[Fault | None] = deque()

    transport = Lossy(faults, session=world.services.session, session_owner=False)
    account = replace(azure(world), transport=lambda: transport)
    return Faulty(AzureTable(account, table_name(world)), faults, lambda: transport.operations)


def azure(world: World) -> Account:
    """The account that the app's services use."""
    blobs = world.services.outputs._blobs
    assert isinstance(blobs, AzureBlobs)
    return blobs._account


def table_name(world: World) -> str:
    """The table of the world."""
    return world.environment["JOBS_TABLE"]


class Lossy(AioHttpTransport):
    """Sockets that do to each change of a table what `faults` say, and leave the rest alone."""

    def __init__(self, faults: deque[Fault | None], **options: Any) -> None:
        super().__init__(**options)
        self._faults = faults
        self._silent = 0
        self.operations = 0

    async def send(self, request: Any, **options: Any) -> Any:
        """Sends, or seems not to have sent."""
        self.operations += 1
        if request.method not in {"POST", "PATCH"}:
            return await super().send(request, **options)
        if self._silent:
            self._silent -= 1
            raise ServiceRequestError("Nothing was sent.")
        fault = self._faults.popleft() if self._faults else None
        if fault in {Fault.REFUSED, Fault.LOST}:
            self._silent = int(accounts._RETRIES["retry_total"])
        if fault is Fault.REFUSED:
            raise ServiceRequestError("Nothing was sent.")
        response = await super().send(request, **options)
        if fault is None:
            return response
        response.internal_response.close()
        raise ServiceResponseError("The answer got lost.")
