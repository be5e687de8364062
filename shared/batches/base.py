"""What the work on batches needs of a provider, whichever it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from shared.batches.batch_lines import BatchLines
from shared.batches.provider_batch import ProviderBatch
from shared.upstream.sending import Begin


class BatchProvider(Protocol):
    """The account that a connection leads to. Each method raises UpstreamError, one with lines StorageUnavailable."""

    create_s: float
    """The longest that a creation takes: afterwards the provider has all of it, or none."""

    async def upload(self, lines: BatchLines) -> str:
        """Have the provider keep lines for a batch. Return what they are known by there, empty if there is no line."""

    async def is_processed(self, file_id: str) -> bool:
        """Return whether what was uploaded can be the input of a batch by now."""

    async def create(self, lines: BatchLines, *, begin: Begin) -> ProviderBatch:
        """
        Create a batch of lines that were uploaded. After an error that `may_exist`, there may be one.

        `begin` is called right before the first byte is sent; if it raises, none is.
        """

    async def find(self, lines: BatchLines) -> ProviderBatch | None:
        """
        Return a batch of these lines that the provider lists; else one that may be of them, which is not `is_certain`;
        else None, which allows another batch.
        """

    def find_all(self, lines: BatchLines) -> AsyncGenerator[ProviderBatch, None]:
        """Yield the batches that `find` may return."""

    async def get(self, batch_id: str) -> ProviderBatch:
        """Return a batch."""

    async def cancel(self, batch_id: str) -> ProviderBatch:
        """Have a batch cancelled, and return it; it may take a while, or have ended before."""

    def content(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Yield what is in an output or error file. Use `contextlib.aclosing` to stop before its end."""

    async def delete_files(self, file_ids: Iterable[str]) -> None:
        """Delete the files of a batch whose answers are stored, if they are there."""

    async def erase(self, batch: ProviderBatch) -> None:
        """Delete what a batch was answered, if it has ended."""
