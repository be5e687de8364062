"""
Batches at Anthropic's own API. See `base.BatchProvider`.

They have neither a file nor metadata: the lines come with the creation, and nothing but the `custom_id`s of its results
says whose a batch is, once it has ended. So after a creation that may exist, each batch of that time with as many lines
may be ours until its results say that it isn't. Such a one is waited for, and never cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.batches.batch_lines import BatchLines
from shared.batches.claude_batch import AFTER, BEFORE, read_claude_batch, request_size, write_lines
from shared.batches.custom_ids import batch_of
from shared.batches.files import read_lines
from shared.batches.form import in_chunks
from shared.batches.provider_api import (
    CLOCK_MARGIN,
    NOT_CANCELLABLE,
    NOT_FOUND,
    ProviderApi,
    json_of,
    segment,
    unusable,
)
from shared.batches.provider_batch import ENDED, NoId, ProviderBatch
from shared.batches.records import key_at
from shared.clock import now
from shared.connections.connection import Connection
from shared.errors import ProviderUnavailable, StorageUnavailable, UpstreamError, UpstreamFacts
from shared.jobs.batch_message import LAST
from shared.lru import LRU
from shared.storage.bulk import read_pages
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response
from shared.upstream.sending import Begin

CREATE_S = 150.0
"""For a creation, whose request may have 50 MB. Less than the lease on the batch."""
_BATCHES = "messages/batches"
_GATHERED = timedelta(days=8)
"""In which a batch was opened that is at the provider: jobs wait for seven days at most."""


class ClaudeBatches:
    """See BatchProvider. `owners`: whose batches are, by customer and id, of those whose results were read."""

    create_s = CREATE_S

    def __init__(self, client: UpstreamClient, connection: Connection, owners: LRU[tuple[str, str], str]) -> None:
        self._api = ProviderApi(client, connection)
        self._customer = connection.customer
        self._owners = owners

    async def upload(self, lines: BatchLines) -> str:
        """See BatchProvider. Nothing is kept there; the `custom_id`s begin with the id of the batch."""
        number, _ = await lines.measure()
        return lines.batch.batch_id if number else ""

    async def is_processed(self, _: str) -> bool:
        """See BatchProvider."""
        return True

    async def create(self, lines: BatchLines, *, begin: Begin) -> ProviderBatch:
        """See BatchProvider."""
        batch_id = lines.batch.batch_id
        number, body_bytes = await lines.measure()
        chunks = in_chunks(BEFORE, write_lines(batch_id, lines.bodies()), AFTER)
        size = request_size(batch_id, number, body_bytes)
        try:
            response = await self._api.upload(_BATCHES, "application/json", chunks, size, total_s=CREATE_S, begin=begin)
        except ValueError as exc:  # no whole request was sent
            raise StorageUnavailable("The lines of the batch are not those that were counted.") from exc
        return _batch(response)

    async def find(self, lines: BatchLines) -> ProviderBatch | None:
        """See BatchProvider."""
        uncertain = None
        async with aclosing(self.find_all(lines)) as batches:
            async for each in batches:
                if each.is_certain:
                    return each
                uncertain = uncertain or each
        return uncertain

    async def find_all(self, lines: BatchLines) -> AsyncGenerator[ProviderBatch, None]:
        """See BatchProvider."""
        own, others, number = lines.batch, None, None
        async with aclosing(self._api.listed(_BATCHES, "after_id", own.opened_at)) as listed:
            async for response, value in listed:
                each = _batch(response, value)
                if each.id == own.provider_id:
                    yield each
                    continue
                if not _is_of_its_time(each, lines):
                    continue
                if own.input_file_id and number is None:
                    number, _ = await lines.measure()
                # Its counts always add up to its lines. An imported batch may have been sent with other ones.
                if number is not None and each.counts.total not in {0, number}:
                    continue
                if others is None:
                    others = await _others(lines)
                if each.id in others:
                    continue
                if each.status not in ENDED or not each.output_file_id:
                    yield replace(each, is_certain=False)
                elif await self._owner(each) == own.batch_id:
                    yield each

    async def get(self, batch_id: str) -> ProviderBatch:
        """See BatchProvider."""
        return _batch(await self._api.send("GET", f"{_BATCHES}/{segment(batch_id)}"))

    async def cancel(self, batch_id: str) -> ProviderBatch:
        """See BatchProvider."""
        try:
            return _batch(await self._api.send("POST", f"{_BATCHES}/{segment(batch_id)}/cancel"))
        except UpstreamError as exc:
            if exc.facts.status not in NOT_CANCELLABLE:
                raise
            return await self.get(batch_id)

    def content(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """See BatchProvider."""
        return self._api.download(f"{_BATCHES}/{segment(file_id)}/results")

    async def delete_files(self, file_ids: Iterable[str]) -> None:
        """See BatchProvider. The batch stays: a backup that is restored finds it, and it is gone after 29 days."""

    async def erase(self, batch: ProviderBatch) -> None:
        """See BatchProvider."""
        if batch.status not in ENDED:
            return
        try:
            await self._api.send("DELETE", f"{_BATCHES}/{segment(batch.id)}")
        except UpstreamError as exc:
            if exc.facts.status not in NOT_FOUND:
                raise

    async def _owner(self, batch: ProviderBatch) -> str:
        """Return which batch of ours one is that has ended; empty for somebody else's. Raises UpstreamError."""
        key = self._customer, batch.id
        owner = self._owners.get(key)
        if owner is None:
            self._owners.set(key, owner := batch_of(await self._first_id(batch)))
        return owner

    async def _first_id(self, batch: ProviderBatch) -> str:
        async with aclosing(self.content(batch.id)) as content, aclosing(read_lines(content)) as results:
            async for each in results:
                if each.custom_id:
                    return each.custom_id
        # If it were taken for somebody else's, it might be bought twice.
        message = f"The results of the batch {batch.id} name no line."
        raise ProviderUnavailable(message, UpstreamFacts(unanswered=True))


def _batch(response: Response, value: Any = None) -> ProviderBatch:
    try:
        return read_claude_batch(json_of(response) if value is None else value)
    except NoId:
        raise unusable(response) from None


def _is_of_its_time(each: ProviderBatch, lines: BatchLines) -> bool:
    """Return whether a batch was created when these lines may have been."""
    own, at = lines.batch, each.created_at
    last = (own.create_began_at or now()) + timedelta(seconds=CREATE_S)
    return at is None or own.opened_at - CLOCK_MARGIN <= at <= last + CLOCK_MARGIN


async def _others(lines: BatchLines) -> set[str]:
    """Return the ids of the customer's other batches at the provider. Raises StorageUnavailable."""
    own, where = lines.batch, {"provider_id ne": ""}
    pages = read_pages(
        lines.table, own.customer, key_at(own.opened_at - _GATHERED), LAST, where=where, columns=("provider_id",)
    )
    return {row.values["provider_id"] async for rows in pages for row in rows}
