"""What is done about a customer's batches before it is erased: nobody would read or cancel them afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.batches.account import open_provider
from shared.batches.base import BatchProvider
from shared.batches.batch_lines import lines_of
from shared.batches.parts import BatchParts
from shared.batches.provider_batch import ENDED, ProviderBatch
from shared.batches.records import BatchRecord, read_batch
from shared.errors import JobError, RetryLater
from shared.jobs.batch_message import LAST, PREFIX
from shared.jobs.crash_log import log_text


@dataclass(slots=True)
class ProviderErasure:
    """What became of batches at providers."""

    cancelled: list[str] = field(default_factory=list)
    """Batches that have not ended, by their ids here. Each may take ten minutes to end."""
    left: dict[str, str] = field(default_factory=dict)
    """Batches that may go on, or whose files stay, each with the reason."""


async def erase_at_providers(parts: BatchParts, customer: str) -> ProviderErasure:
    """
    Cancel a customer's batches at their providers, and delete their files there, as far as that is possible.

    Raises StorageUnavailable if the table can't be read.
    """
    erasure = ProviderErasure()
    async for row in parts.table.scan(customer, PREFIX, LAST):
        batch = read_batch(row)
        if not (batch.input_file_id or batch.create_begun) or (batch.state == "done" and not _is_kept(batch)):
            continue  # nothing of it was sent, or its files are deleted
        try:
            provider, _ = await open_provider(parts, batch)
            await _erase(parts, provider, batch, erasure)
        except (JobError, RetryLater) as exc:
            erasure.left[batch.batch_id] = log_text(exc)
    return erasure


async def _erase(parts: BatchParts, provider: BatchProvider, batch: BatchRecord, erasure: ProviderErasure) -> None:
    for remote in await _remotes(parts, provider, batch):
        if not remote.is_certain:
            erasure.left[batch.batch_id] = (
                f"{remote.id} may be one of this customer, which can't be known before it ends"
            )
        elif remote.status in ENDED:
            await provider.erase(remote)
        else:
            await provider.cancel(remote.id)
            erasure.cancelled.append(batch.batch_id)
    await provider.delete_files(filter(None, [batch.input_file_id]))


async def _remotes(parts: BatchParts, provider: BatchProvider, batch: BatchRecord) -> list[ProviderBatch]:
    """Return the batches at the provider that have been made of one."""
    if _is_kept(batch) and not batch.was_created_again:
        return [ProviderBatch(batch.provider_id, batch.provider_status)]
    if batch.provider_id and not batch.was_created_again:
        return [await provider.get(batch.provider_id)]
    if not batch.create_begun or not batch.input_file_id:
        return []
    return [each async for each in provider.find_all(lines_of(parts, batch))]


def _is_kept(batch: BatchRecord) -> bool:
    """Return whether its answers are still at the provider once it is done: they are not in a file of their own."""
    return bool(batch.output_file_id) and batch.output_file_id == batch.provider_id
