"""What is done about a customer's batches before it is erased: nobody would read or cancel them afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.batches.account import open_provider
from shared.batches.parts import BatchParts
from shared.batches.provider import ProviderBatches
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
        if batch.state == "done" or not (batch.input_file_id or batch.create_begun):
            continue  # its files are deleted, or nothing of it was sent
        try:
            provider, _ = await open_provider(parts, batch)
            await _erase(provider, batch, erasure)
        except (JobError, RetryLater) as exc:
            erasure.left[batch.batch_id] = log_text(exc)
    return erasure


async def _erase(provider: ProviderBatches, batch: BatchRecord, erasure: ProviderErasure) -> None:
    remotes = await _remotes(provider, batch)
    file_ids = {batch.input_file_id}
    for remote in remotes:
        if remote.status not in ENDED:
            await provider.cancel(remote.id)
            erasure.cancelled.append(batch.batch_id)
        file_ids |= {remote.output_file_id or "", remote.error_file_id or ""}
    for file_id in sorted(filter(None, file_ids)):
        await provider.delete_file(file_id)


async def _remotes(provider: ProviderBatches, batch: BatchRecord) -> list[ProviderBatch]:
    """Return the batches at the provider that have been made of one."""
    if batch.provider_id and not batch.was_created_again:
        return [await provider.get(batch.provider_id)]
    if not batch.create_begun or not batch.input_file_id:
        return []
    return [each async for each in provider.find_all(batch.input_file_id, since=batch.opened_at)]
