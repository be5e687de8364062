"""Azure Storage on this machine: Azurite with queues, blobs and tables, all in memory."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from local.node import node, script
from local.processes import Process, running

ACCOUNT = "devstoreaccount1"
# Microsoft publishes this key; every Azurite and every storage emulator before it has the same.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_FLAGS = (
    "--silent",
    "--disableTelemetry",  # it waits for a network that may not be there
    "--inMemoryPersistence",
    "--skipApiVersionCheck",  # today's SDKs speak a newer version than it knows
    *("--blobPort", "0"),
    *("--queuePort", "0"),
    *("--tablePort", "0"),
)
_READY = tuple(rf"{kind} service is successfully listening at (http://\S+)" for kind in ("Blob", "Queue", "Table"))


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running Azurite."""

    process: Process
    blob_url: str
    queue_url: str
    table_url: str

    @property
    def connection_string(self) -> str:
        """In full: the short `UseDevelopmentStorage=true` means fixed ports."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};TableEndpoint={self.table_url};"
        )


@contextlib.asynccontextmanager
async def start() -> AsyncIterator[Azurite]:
    """
    Azurite on free ports, empty, until the block ends.

    Raises Missing, ProcessFailed.
    """
    command = [node(), script("azurite/dist/src/azurite.js"), *_FLAGS]
    async with running("Azurite", command, ready=_READY) as (process, found):
        yield Azurite(process, *(f"{match[1]}/{ACCOUNT}" for match in found))
