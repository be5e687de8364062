"""
How a batch gets to its provider: its file is uploaded, then it is created, each once if that can be known.

An upload costs nothing and may be repeated. No provider has an idempotency key for the creation: the batch's row says
that it begins, and after a lost answer the batch is looked for until the provider's list must show it.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.batches.account import has_moved, label_of, open_provider
from shared.batches.batch_run import BatchRun
from shared.batches.eligibility import line_url
from shared.batches.harvest import Harvest
from shared.batches.line_file import LineFile
from shared.batches.parts import BatchParts
from shared.batches.provider import REQUEST_S, ProviderBatches, may_exist
from shared.batches.provider_batch import ProviderBatch
from shared.clock import now
from shared.connections.account import account_of
from shared.connections.connection import Connection
from shared.errors import UpstreamError
from shared.event_names import BATCH_CREATED_AGAIN, BATCH_SENT, NAMESPACE
from shared.jobs.drain import WorkerStopping
from shared.jobs.lines import NOT_SENT

POLL_S = 60.0
"""Between two looks at a batch that is at its provider."""
BATCH_ID = "customer_job_batch"
"""The metadata that names a batch at its provider."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Sending:
    """Sends batches."""

    parts: BatchParts

    async def send(self, run: BatchRun) -> datetime | None:
        """Go on with sending the batch; return when to look again. Raises JobError, RetryLater, TurnLost."""
        parts, batch = self.parts, run.batch
        if not batch.create_begun:
            if await self._is_over(run):
                return None
            connection = await parts.connections.resolve(batch.customer, batch.connection)
            if has_moved(batch, connection):
                await run.save(input_file_id="", account="")  # the new account has no such file
        batch = run.batch
        provider, connection = await open_provider(parts, batch)
        if batch.create_begun and not batch.input_file_id:
            await self._adopt_imported(run, provider, connection)
            return None
        if not batch.input_file_id and not await self._upload(run, provider, connection):
            await run.save(state="waking")  # all its jobs were cancelled
            return None
        batch, created = run.batch, None
        if not batch.create_begun and not await provider.is_processed(batch.input_file_id):
            return soon()
        if batch.create_begun:
            began_at = batch.create_began_at or batch.opened_at
            created = await provider.find(batch.input_file_id, since=batch.opened_at)
            listed_by = began_at + timedelta(seconds=parts.settings.batch_adopt_s)
            if created is None and now() < listed_by:
                return listed_by
        created = created or await self._create(run, provider)
        await run.save(state="waiting", provider_id=created.id, provider_status=created.status)
        log.info("%s customer=%s batch=%s lines=%d", BATCH_SENT, batch.customer, batch.batch_id, batch.lines)
        parts.telemetry.batch_sent(batch.customer)
        return soon()

    async def _is_over(self, run: BatchRun) -> bool:
        """Return whether a batch has ended because it can't be sent any more."""
        batch = run.batch
        if now() >= batch.cancel_at:
            await self.end_unsent(run, batch.error or "The batch could not be sent in time.")
            return True
        record = await self.parts.customer_records.recent(batch.customer)
        if record.state == "suspended":
            await self.end_unsent(run, f"Customer {batch.customer} is suspended, so its jobs are not run.")
        return record.state == "suspended"

    async def end_unsent(self, run: BatchRun, message: str, *, code: str = NOT_SENT) -> None:
        """End a batch that was never created: its lines are not bought. Raises TurnLost, StorageUnavailable."""
        harvest = Harvest(run, self.parts.blobs, self.parts.settings.results_container)
        await harvest.begin()
        await harvest.fill(code, message)
        await run.save(state="waking")

    async def _adopt_imported(self, run: BatchRun, provider: ProviderBatches, connection: Connection) -> None:
        """Look for a batch that may have been sent where it was exported; if it was not, let it be sent."""
        batch = run.batch
        created = await provider.find("", since=batch.opened_at, metadata={BATCH_ID: batch.batch_id})
        if created is None:
            await run.save(create_begun=False)
            return
        await run.save(account=account_of(connection), label=label_of(connection))
        await run.save(state="waiting", provider_id=created.id, provider_status=created.status)

    async def _upload(self, run: BatchRun, provider: ProviderBatches, connection: Connection) -> bool:
        """Upload the batch's file; return False if there is no line left."""
        parts, batch = self.parts, run.batch
        url = line_url(connection, batch.operation)
        file = LineFile(parts.table, parts.blobs, parts.settings.results_container, batch, url)
        size = await file.size()
        if not size:
            return False
        file_id = await provider.upload(file.lines(), size, filename=f"{batch.batch_id}.jsonl")
        await run.save(input_file_id=file_id, account=account_of(connection), label=label_of(connection))
        return True

    async def _create(self, run: BatchRun, provider: ProviderBatches) -> ProviderBatch:
        batch = run.batch
        if batch.create_begun:
            log.warning("%s customer=%s batch=%s", BATCH_CREATED_AGAIN, batch.customer, batch.batch_id)
        again = batch.was_created_again or batch.create_begun
        await run.save(create_begun=True, create_began_at=now(), was_created_again=again)

        def begin() -> None:
            self.parts.drain.check()
            run.check(REQUEST_S)

        try:
            return await provider.create(batch.input_file_id, batch.operation, {BATCH_ID: batch.batch_id}, begin=begin)
        except WorkerStopping:
            await run.save(create_begun=batch.create_begun)
            raise
        except UpstreamError as exc:
            if not may_exist(exc):
                await run.save(create_begun=batch.create_begun)  # an earlier one may exist
            raise


def soon(seconds: float = POLL_S) -> datetime:
    """Return a time about so many seconds ahead, a little different for each batch."""
    return now() + timedelta(seconds=seconds * random.uniform(1, 1.15))  # noqa: S311  # not a secret
