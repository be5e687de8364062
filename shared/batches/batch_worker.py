"""
The way of a batch: its lines are gathered, sent, waited for and harvested, and its jobs continue.

message ► turn ► gathering ► sending ► waiting ► harvesting ► waking ► done

Each state ends with a write of the batch's row, so that a turn goes on where the last one was cut off. What can't be
repeated is written down before: a batch is created once its row says so, and looked for before it is created again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.batches.batch_run import BatchRun, TurnLost, begin
from shared.batches.harvest import Harvest, TurnOver, continue_jobs
from shared.batches.parts import BatchParts
from shared.batches.provider import ProviderBatches
from shared.batches.provider_batch import ProviderBatch
from shared.batches.records import MAX_ERROR_LENGTH, State
from shared.batches.reports import report_end, report_lateness
from shared.batches.sending import POLL_S, Sending, soon
from shared.clock import now
from shared.errors import (
    AccountBlocked,
    ConnectionFault,
    CredentialRejected,
    JobError,
    ModelNotFound,
    RequestRejected,
    RetryLater,
    UpstreamError,
)
from shared.event_names import (
    BATCH_DELAYED,
    BATCH_GIVEN_UP,
    BATCH_UNREADABLE,
    NAMESPACE,
)
from shared.jobs.batch_message import decode_batch_message
from shared.jobs.crash_log import log_text
from shared.jobs.versions import NewerVersion

QUOTA_S = 300.0
"""Before a batch is created again that the provider's quota of enqueued tokens had no room for."""
GIVE_UP_AFTER = timedelta(hours=26)
"""After it should have been cancelled: providers end batches after a day."""
_MAX_DELAY_S = 900.0
_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
_NO_ROOM = "token_limit_exceeded"
_PERMANENT = (RequestRejected, ModelNotFound, AccountBlocked, ConnectionFault)
"""Errors that no later try of sending a batch would correct."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class BatchWorker:
    """Processes messages of the queue of batches and of its poison queue."""

    parts: BatchParts

    async def process(self, body: bytes) -> None:
        """
        Take a turn at the batch in a message. Raises StorageUnavailable if nothing could be done; the host then
        delivers the message again.
        """
        try:
            message = decode_batch_message(body)
        except NewerVersion as exc:
            await self.parts.queues.send(self.parts.settings.batches_queue, body, delay_s=exc.delay_s)
            return
        if message is None:
            log.warning("%s bytes=%d", BATCH_UNREADABLE, len(body))
            return
        self.parts.settings.check()
        run = await begin(self.parts.table, self.parts.schedule, message)
        if run is None:
            return
        try:
            due_at = await self._take_turn(run)
            if due_at is not None:
                report_lateness(run.batch)
                await run.rest(due_at)
        except TurnLost:
            return

    async def dead_letter(self, body: bytes) -> None:
        """Have the batch in a message looked at later that the host has given up. Raises StorageUnavailable."""
        try:
            message = decode_batch_message(body)
        except NewerVersion as exc:
            await self.parts.queues.send(self.parts.settings.batches_poison_queue, body, delay_s=exc.delay_s)
            return
        if message is not None:
            await self.parts.schedule.add_batch(message.customer, message.batch, soon(POLL_S))

    async def _take_turn(self, run: BatchRun) -> datetime | None:
        """Go on as far as possible; return when to look again, None if it is done. Raises TurnLost."""
        work: dict[State, Callable[[BatchRun], Awaitable[datetime | None]]] = {
            "gathering": self._close,
            "sending": Sending(self.parts).send,
            "waiting": self._poll,
            "harvesting": self._harvest,
            "waking": self._wake,
        }
        try:
            while run.batch.state != "done":
                self.parts.drain.check()
                due_at = await work[run.batch.state](run)
                if due_at is not None:
                    return due_at
        except TurnOver:
            return now()
        except RetryLater as exc:
            return self._delayed(run, exc, exc.delay_s)
        except JobError as exc:
            return await self._failed(run, exc)
        return None

    async def _close(self, run: BatchRun) -> datetime | None:
        closes_at = run.batch.gathers_until(self.parts.settings.batch_window_s)
        if not run.batch.is_full and now() < closes_at:
            return closes_at
        await run.save(state="sending")
        return None

    async def _poll(self, run: BatchRun) -> datetime | None:
        batch = run.batch
        provider = await self._provider(run)
        remote = await provider.get(batch.provider_id)
        if remote.status not in _ENDED:
            if now() >= batch.cancel_at and remote.status != "cancelling":
                remote = await provider.cancel(batch.provider_id)
            if remote.status != batch.provider_status:
                await run.save(provider_status=remote.status)
            return soon(POLL_S)
        if remote.status == "failed" and remote.has_error(_NO_ROOM) and not remote.output_file_id:
            await run.save(state="sending", provider_id="", create_begun=False, error=_NO_ROOM)
            return self._delayed(run, _text(remote), QUOTA_S)
        error = remote.errors[0] if remote.errors else None
        await run.save(
            state="harvesting",
            provider_status=remote.status,
            output_file_id=remote.output_file_id or "",
            error_file_id=remote.error_file_id or "",
            error_code=error.code if error else "",
            error=error.message[:MAX_ERROR_LENGTH] if error else "",
        )
        return None

    async def _harvest(self, run: BatchRun) -> datetime | None:
        batch, provider = run.batch, await self._provider(run)
        connection = await self.parts.connections.resolve(batch.customer, batch.connection)
        harvest = Harvest(run, self.parts.blobs, self.parts.settings.results_container)
        await harvest.begin()
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            async with aclosing(provider.content(file_id)) as content:
                await harvest.read(content, connection.without_key)
        harvest.report()
        took_s = (now() - batch.opened_at).total_seconds()
        self.parts.capabilities.learn_batch_seconds(took_s, *connection.identity, batch.operation)
        if batch.provider_status == "failed":
            await harvest.fill(batch.error_code or "batch_failed", batch.error or "The provider did not run the batch.")
        elif batch.provider_status == "cancelled":
            await harvest.fill("batch_cancelled", "The batch was cancelled before this call was made.")
        await run.save(state="waking")
        return None

    async def _wake(self, run: BatchRun) -> datetime | None:
        await continue_jobs(run, self.parts.queues, self.parts.settings.jobs_queue)
        await self._delete_files(run)  # at the end: what is not stored yet is read from them
        await run.save(state="done")
        report_end(run.batch, self.parts.telemetry)
        return None

    async def _delete_files(self, run: BatchRun) -> None:
        batch = run.batch
        try:
            provider = await self._provider(run)
            for file_id in filter(None, (batch.input_file_id, batch.output_file_id, batch.error_file_id)):
                await provider.delete_file(file_id)
        except (JobError, RetryLater) as exc:  # they expire
            log.warning("%s customer=%s batch=%s %s", BATCH_DELAYED, batch.customer, batch.batch_id, log_text(exc))

    async def _provider(self, run: BatchRun) -> ProviderBatches:
        return ProviderBatches(
            self.parts.client, await self.parts.connections.resolve(run.batch.customer, run.batch.connection)
        )

    async def _failed(self, run: BatchRun, error: JobError) -> datetime | None:
        """Decide what follows a failed try: another one, or the end of the batch."""
        batch = run.batch
        if isinstance(error, CredentialRejected):
            connection = await self.parts.connections.resolve(batch.customer, batch.connection)
            if await self.parts.connections.find_rotated(connection) is not None:
                return now()
        is_unsent = batch.state in {"gathering", "sending"} and not batch.create_begun
        if is_unsent and isinstance(error, _PERMANENT) and not _is_no_room(error):
            await Sending(self.parts).end_unsent(run, str(error), code=error.code)
            return now()
        if now() >= batch.cancel_at + GIVE_UP_AFTER:
            log.error("%s customer=%s batch=%s %s", BATCH_GIVEN_UP, batch.customer, batch.batch_id, log_text(error))
            await run.save(state="waking", error=str(error)[:MAX_ERROR_LENGTH])
            return now()
        await run.save(error=str(error)[:MAX_ERROR_LENGTH])
        facts = error.facts if isinstance(error, UpstreamError) else None
        wait_s = QUOTA_S if _is_no_room(error) else (facts.retry_after_s if facts else None) or POLL_S
        return self._delayed(run, error, wait_s)

    def _delayed(self, run: BatchRun, reason: Exception | str, delay_s: float) -> datetime:
        batch, text = run.batch, reason if isinstance(reason, str) else log_text(reason)
        due_at = soon(min(max(delay_s, POLL_S), _MAX_DELAY_S))
        log.warning(
            "%s customer=%s batch=%s state=%s %s", BATCH_DELAYED, batch.customer, batch.batch_id, batch.state, text
        )
        return due_at


def _is_no_room(error: JobError) -> bool:
    return isinstance(error, UpstreamError) and error.facts.detail.get("code") == _NO_ROOM


def _text(remote: ProviderBatch) -> str:
    return f"{_NO_ROOM}: {remote.errors[0].message}" if remote.errors else _NO_ROOM
