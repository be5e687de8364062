"""
How a batch gets to its provider: its lines are uploaded, then it is created, each once if that can be known.

An upload costs nothing and may be repeated. No provider has an idempotency key for the creation: the batch's row says
that it begins, and after a lost answer the batch is looked for until the provider's list must show it.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.batches.account import has_moved, label_of, open_provider
from shared.batches.base import BatchProvider
from shared.batches.batch_lines import lines_of
from shared.batches.batch_run import BatchRun
from shared.batches.harvest import Harvest
from shared.batches.parts import BatchParts
from shared.batches.provider_api import may_exist
from shared.batches.provider_batch import ProviderBatch
from shared.batches.records import BatchRecord
from shared.clock import now
from shared.connections.account import account_of
from shared.connections.connection import Connection
from shared.errors import JobError, RetryLater, UpstreamError
from shared.event_names import BATCH_CREATED_AGAIN, BATCH_DELAYED, BATCH_SENT, NAMESPACE
from shared.jobs.lines import NOT_SENT

POLL_S = 60.0
"""Between two looks at a batch that is at its provider."""

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
            return await self._adopt_imported(run, provider, connection)
        if not batch.input_file_id and not await self._upload(run, provider, connection):
            await run.save(state="waking")  # all its jobs were cancelled
            return None
        return await self._create_once(run, provider)

    async def _create_once(self, run: BatchRun, provider: BatchProvider) -> datetime | None:
        """Have the batch created, or adopt it if it may have been; return when to look again."""
        parts, batch, created = self.parts, run.batch, None
        if not batch.create_begun and not await provider.is_processed(batch.input_file_id):
            return soon()
        if batch.create_begun:
            created = await provider.find(lines_of(parts, batch))
            if (due_at := self._undecided_until(batch, provider, created)) is not None:
                return due_at
            if created is None and now() >= batch.cancel_at:
                return soon()  # another would be cancelled at once, and that there is none can't be proved
        created = created or await self._create(run, provider)
        await run.save(state="waiting", provider_id=created.id, provider_status=created.status)
        log.info("%s customer=%s batch=%s lines=%d", BATCH_SENT, batch.customer, batch.batch_id, batch.lines)
        parts.telemetry.batch_sent(batch.customer)
        return soon()

    def _undecided_until(
        self, batch: BatchRecord, provider: BatchProvider, created: ProviderBatch | None
    ) -> datetime | None:
        """Return when to look again for a batch that may exist; None if it is known whether it does."""
        if created is not None:
            return None if created.is_certain else self._uncertain(batch, created)
        began_at = batch.create_began_at or batch.opened_at
        listed_by = began_at + timedelta(seconds=provider.create_s + self.parts.settings.batch_adopt_s)
        return listed_by if now() < listed_by else None

    def _uncertain(self, batch: BatchRecord, created: ProviderBatch) -> datetime:
        reason = f"{created.id} may be it, which shows once that has ended"
        log.warning(
            "%s customer=%s batch=%s state=%s %s", BATCH_DELAYED, batch.customer, batch.batch_id, batch.state, reason
        )
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

    async def _adopt_imported(self, run: BatchRun, provider: BatchProvider, connection: Connection) -> datetime | None:
        """Look for a batch that may have been sent where it was exported; if it was not, let it be sent."""
        created = await provider.find(lines_of(self.parts, run.batch))
        if created is None:
            await run.save(create_begun=False)
            return None
        if not created.is_certain:
            return self._uncertain(run.batch, created)
        await run.save(account=account_of(connection), label=label_of(connection))
        await run.save(state="waiting", provider_id=created.id, provider_status=created.status)
        return None

    async def _upload(self, run: BatchRun, provider: BatchProvider, connection: Connection) -> bool:
        """Upload the batch's lines; return False if there is none left."""
        file_id = await provider.upload(lines_of(self.parts, run.batch))
        if file_id:
            await run.save(input_file_id=file_id, account=account_of(connection), label=label_of(connection))
        return bool(file_id)

    async def _create(self, run: BatchRun, provider: BatchProvider) -> ProviderBatch:
        batch = run.batch
        if batch.create_begun:
            log.warning("%s customer=%s batch=%s", BATCH_CREATED_AGAIN, batch.customer, batch.batch_id)
        again = batch.was_created_again or batch.create_begun
        await run.save(create_begun=True, create_began_at=now(), was_created_again=again)

        def begin() -> None:
            self.parts.drain.check()
            run.check(provider.create_s)

        try:
            return await provider.create(lines_of(self.parts, batch), begin=begin)
        except (JobError, RetryLater) as exc:  # as the latter, no whole request was sent
            if not (isinstance(exc, UpstreamError) and may_exist(exc)):
                await run.save(create_begun=batch.create_begun)  # an earlier one may exist
            raise


def soon(seconds: float = POLL_S) -> datetime:
    """Return a time about so many seconds ahead, a little different for each batch."""
    return now() + timedelta(seconds=seconds * random.uniform(1, 1.15))  # noqa: S311  # not a secret
