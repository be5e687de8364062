"""
Batches that a provider has twice: one was created again, since the answer to its creation got lost and the list did
not show it in time.
"""

from __future__ import annotations

import logging

from shared.batches.batch_run import BatchRun
from shared.batches.provider import ProviderBatches
from shared.batches.provider_batch import ENDED
from shared.event_names import BATCH_DOUBLED, NAMESPACE

log = logging.getLogger(NAMESPACE)


async def cancel_doubles(run: BatchRun, provider: ProviderBatches) -> None:
    """Cancel other batches of the same file, and report them. Raises UpstreamError, and as `BatchRun.save`."""
    batch = run.batch
    if not batch.was_created_again:
        return
    others = provider.find_all(batch.input_file_id, since=batch.opened_at)
    doubles = [each async for each in others if each.id != batch.provider_id]
    doubles = [each if each.status in ENDED else await provider.cancel(each.id) for each in doubles]
    lines = sum(each.counts.completed for each in doubles)
    if (len(doubles), lines) != (batch.doubles, batch.doubled_lines):
        log.error(
            "%s customer=%s batch=%s doubles=%s lines=%d",
            *(BATCH_DOUBLED, batch.customer, batch.batch_id, ",".join(each.id for each in doubles), lines),
        )
        await run.save(doubles=len(doubles), doubled_lines=lines)
