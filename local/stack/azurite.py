"""Azure Storage on this machine: Azurite with queues, blobs and tables, in memory or in a folder."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from local.stack.node import node, script
from local.stack.processes import Process, running

ACCOUNT = "devstoreaccount1"
# Microsoft publishes this key; every Azurite, and every storage emulator before it, has the same.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_FLAGS = (
    "--silent",
    "--disableTelemetry",  # it waits for a network that may not exist
    "--skipApiVersionCheck",  # current SDKs send a newer version than Azurite accepts
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
        """The full form; the short one, `UseDevelopmentStorage=true`, implies fixed ports."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};TableEndpoint={self.table_url};"
        )


@contextlib.asynccontextmanager
async def start(folder: Path | None = None) -> AsyncIterator[Azurite]:
    """
    Azurite on free ports, with its data in memory or in `folder`, until the block ends.

    In memory, every message is an extent of its own. Once a minute Azurite (3.35, `MemoryExtentStore`) removes the
    unused ones one by one and rebuilds an index for each: after some thousand messages it responds to nothing for a
    minute. In files there are few extents.

    Raises NotInstalled, ProcessFailed.
    """
    location = ["--inMemoryPersistence"] if folder is None else ["--location", str(folder)]
    command: list[str | Path] = [node(), script("azurite/dist/src/azurite.js"), *_FLAGS, *location]
    async with running("Azurite", command, ready=_READY) as (process, matches):
        yield Azurite(process, *(f"{match[1]}/{ACCOUNT}" for match in matches))
