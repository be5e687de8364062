"""Batches whose lines are uploaded as a file first: OpenAI's and Azure's. See `base.BatchProvider`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from shared.batches.batch_lines import BatchLines
from shared.batches.eligibility import line_url
from shared.batches.files import line
from shared.batches.provider import ProviderBatches
from shared.batches.provider_api import REQUEST_S
from shared.batches.provider_batch import ProviderBatch
from shared.connections.connection import Connection
from shared.jobs.lines import custom_id
from shared.upstream.client import UpstreamClient
from shared.upstream.sending import Begin

BATCH_ID = "customer_job_batch"
"""The metadata that names a batch at its provider."""


class FileBatches:
    """See BatchProvider."""

    create_s = REQUEST_S

    def __init__(self, client: UpstreamClient, connection: Connection) -> None:
        self._batches = ProviderBatches(client, connection)
        self._connection = connection

    async def upload(self, lines: BatchLines) -> str:
        """See BatchProvider."""
        url = line_url(self._connection, lines.batch.operation)
        number, size = await lines.measure()
        if not number:
            return ""
        size += number * len(line(custom_id(0), url, b""))
        return await self._batches.upload(_written(lines, url), size, filename=f"{lines.batch.batch_id}.jsonl")

    async def is_processed(self, file_id: str) -> bool:
        """See BatchProvider."""
        return await self._batches.is_processed(file_id)

    async def create(self, lines: BatchLines, *, begin: Begin) -> ProviderBatch:
        """See BatchProvider."""
        batch = lines.batch
        metadata = {BATCH_ID: batch.batch_id}
        return await self._batches.create(batch.input_file_id, batch.operation, metadata, begin=begin)

    async def find(self, lines: BatchLines) -> ProviderBatch | None:
        """See BatchProvider. Where no file is known, as after an import, its metadata says which batch it is."""
        return await self._batches.find(lines.batch.input_file_id, **_search(lines))

    def find_all(self, lines: BatchLines) -> AsyncGenerator[ProviderBatch, None]:
        """See BatchProvider."""
        return self._batches.find_all(lines.batch.input_file_id, **_search(lines))

    async def get(self, batch_id: str) -> ProviderBatch:
        """See BatchProvider."""
        return await self._batches.get(batch_id)

    async def cancel(self, batch_id: str) -> ProviderBatch:
        """See BatchProvider."""
        return await self._batches.cancel(batch_id)

    def content(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """See BatchProvider."""
        return self._batches.content(file_id)

    async def delete_files(self, file_ids: Iterable[str]) -> None:
        """See BatchProvider."""
        for file_id in file_ids:
            await self._batches.delete_file(file_id)

    async def erase(self, batch: ProviderBatch) -> None:
        """See BatchProvider."""
        await self.delete_files(filter(None, (batch.output_file_id, batch.error_file_id)))


def _search(lines: BatchLines) -> dict[str, Any]:
    batch = lines.batch
    metadata = None if batch.input_file_id else {BATCH_ID: batch.batch_id}
    return {"since": batch.opened_at, "metadata": metadata}


async def _written(lines: BatchLines, url: str) -> AsyncIterator[bytes]:
    async for number, body in lines.bodies():
        yield line(custom_id(number), url, body)
