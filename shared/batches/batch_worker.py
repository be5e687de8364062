"""
The way of a batch: its lines are gathered, sent, waited for and harvested, and its jobs continue.

message ► turn ► gathering ► sending ► waiting ► harvesting ► waking ► done

Each state ends with a write of the batch's row, so that a turn goes on where the last one was cut off. What can't be
repeated is written down before: a batch is created once its row says so, and looked for before it is created again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from shared.batches.account import open_provider
from shared.batches.batch_run import BatchRun, TurnLost, begin
from shared.batches.doubles import DoubleUsage, cancel_doubles
from shared.batches.failures import GIVE_UP_AFTER, NO_ROOM, OVERDUE_POLL_S, QUOTA_S, Failures, delayed
from shared.batches.harvest import Harvest, TurnOver, continue_jobs
from shared.batches.late_answers import LateAnswers
from shared.batches.parts import BatchParts
from shared.batches.provider_batch import ENDED, ProviderBatch
from shared.batches.records import MAX_ERROR_LENGTH, State
from shared.batches.reports import report_end, report_lateness
from shared.batches.response_poll import ResponsePoll
from shared.batches.sending import POLL_S, Sending, soon
from shared.clock import now
from shared.errors import JobError, RetryLater, UpstreamError
from shared.event_names import BATCH_DELAYED, BATCH_UNREADABLE, NAMESPACE
from shared.jobs.batch_message import decode_batch_message
from shared.jobs.crash_log import log_crash, log_text
from shared.jobs.drain import WorkerStopping
from shared.jobs.lines import CANCELLED
from shared.jobs.versions import NewerVersion

TURN_LIMIT_S = 600.0
"""After which a turn is cut off, whatever it waits for: at host.json's `functionTimeout`, the host ends the worker."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class BatchWorker:
    """Processes messages of the queue of batches and of its poison queue."""

    parts: BatchParts

    async def process(self, body: bytes) -> None:
        """
        Take a turn at the batch in a message, or at a poll of responses.

        Raises StorageUnavailable if nothing could be done; the host then delivers the message again.
        """
        try:
            message = decode_batch_message(body)
            if message is None:
                log.warning("%s bytes=%d", BATCH_UNREADABLE, len(body))
                return
            self.parts.settings.check()
            if message.connection:
                await ResponsePoll(self.parts).run(message)
                return
            run = await begin(self.parts.table, self.parts.schedule, message)
        except RetryLater as exc:  # a setting is wrong, a later version has to read it, or Storage does not answer
            await self.parts.queues.send(self.parts.settings.batches_queue, body, delay_s=exc.delay_s)
            return
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
        if message is not None and message.batch:  # the schedule sends a poll's again
            await self.parts.schedule.add_batch(message.customer, message.batch, soon(POLL_S))

    async def _take_turn(self, run: BatchRun) -> datetime | None:
        """Go on as far as possible; return when to look again, None if it is done. Raises TurnLost."""
        failures, before = Failures(self.parts), run.batch.settled_lines
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                due_at = await self._go_on(run)
        except TurnLost:
            raise
        except (TurnOver, TimeoutError):
            reason, due_at = "It takes longer than a turn may.", now()
            if run.batch.settled_lines > before:
                return due_at
        except WorkerStopping as exc:
            return delayed(run.batch, log_text(exc), exc.delay_s)
        except RetryLater as exc:
            reason, due_at = str(exc), delayed(run.batch, log_text(exc), exc.delay_s)
        except JobError as exc:
            return await failures.failed(run, exc)
        except Exception as exc:  # noqa: BLE001  # a fault of ours: its jobs have a deadline
            log_crash(exc, f"customer={run.batch.customer} batch={run.batch.batch_id}")
            reason, due_at = type(exc).__name__, soon(QUOTA_S)
        else:
            status = run.batch.provider_status
            reason = (
                f"The provider has not ended it: {status}." if status else "It is not known whether it was created."
            )
        return None if due_at is None else await failures.unfinished(run, reason, due_at)

    async def _go_on(self, run: BatchRun) -> datetime | None:
        work: dict[State, Callable[[BatchRun], Awaitable[datetime | None]]] = {
            "gathering": self._close,
            "sending": Sending(self.parts).send,
            "waiting": self._poll,
            "harvesting": self._harvest,
            "waking": self._wake,
        }
        if run.batch.is_overdue and run.batch.woken < run.batch.lines:  # the turn that has said so was cut off
            await continue_jobs(run, self.parts.queues, self.parts.settings.jobs_queue)
        while run.batch.state != "done":
            self.parts.drain.check()
            due_at = await work[run.batch.state](run)
            if due_at is not None:
                return due_at
        return None

    async def _close(self, run: BatchRun) -> datetime | None:
        closes_at = run.batch.gathers_until(self.parts.settings.batch_window_s)
        if not run.batch.is_full and now() < closes_at:
            return closes_at
        await run.save(state="sending")
        return None

    async def _poll(self, run: BatchRun) -> datetime | None:
        batch = run.batch
        provider, _ = await open_provider(self.parts, batch)
        remote = await provider.get(batch.provider_id)
        try:
            await cancel_doubles(self.parts, run, provider)
        except UpstreamError as exc:  # it is read, or cancelled, all the same; they are looked for again at its end
            delayed(run.batch, log_text(exc), POLL_S)
        if remote.status not in ENDED:
            if now() >= batch.cancel_at and remote.status != "cancelling":
                remote = await provider.cancel(batch.provider_id)
            if remote.status != batch.provider_status:
                await run.save(provider_status=remote.status)
            return soon(POLL_S)
        if remote.status == "failed" and remote.has_error(NO_ROOM) and not remote.output_file_id:
            await run.save(state="sending", provider_id="", create_begun=False, error=NO_ROOM)
            return delayed(batch, _text(remote), QUOTA_S)
        error = remote.errors[0] if remote.errors else None
        await run.save(
            state="harvesting",
            provider_status=remote.status,
            output_file_id=remote.output_file_id or "",
            error_file_id=remote.error_file_id or "",
            completed_lines=remote.counts.completed,
            error_code=error.code if error else "",
            error=error.message[:MAX_ERROR_LENGTH] if error else "",
        )
        return None

    async def _harvest(self, run: BatchRun) -> datetime | None:
        batch = run.batch
        provider, connection = await open_provider(self.parts, batch)
        harvest = Harvest(run, self.parts.blobs, self.parts.settings.results_container)
        await harvest.begin()
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            async with aclosing(provider.content(file_id)) as content:
                await harvest.read(content, connection.without_key)
        harvest.report()
        took_s = (now() - batch.opened_at).total_seconds()
        self.parts.capabilities.learn_batch_seconds(took_s, *connection.identity, batch.operation)
        if run.batch.answered < batch.completed_lines:
            pass  # some of those that are left were answered and billed, so that none counts as undone
        elif batch.provider_status == "failed":
            await harvest.fill(batch.error_code or "batch_failed", batch.error or "The provider did not run the batch.")
        elif batch.provider_status == "cancelled":
            await harvest.fill(CANCELLED, "The batch was cancelled before this call was made.")
        await run.save(state="waking")
        return None

    async def _wake(self, run: BatchRun) -> datetime | None:
        await continue_jobs(run, self.parts.queues, self.parts.settings.jobs_queue)
        if (due_at := await self._record_rest(run)) is not None:
            return due_at
        await self._delete_files(run)  # at the end: what is not stored yet is read from them
        await run.save(state="done")
        report_end(run.batch, self.parts.telemetry)
        return None

    async def _record_rest(self, run: BatchRun) -> datetime | None:
        """Record what is billed and no job has; return when to look again if that can't be known yet."""
        batch = run.batch
        if batch.is_overdue and not await LateAnswers(self.parts).record(batch):
            return soon(OVERDUE_POLL_S)
        if not (batch.was_created_again and batch.provider_id):
            return None
        is_given_up = now() >= batch.cancel_at + GIVE_UP_AFTER
        try:
            provider, connection = await open_provider(self.parts, batch)
            doubles = await cancel_doubles(self.parts, run, provider)
            if any(each.status not in ENDED for each in doubles) and not is_given_up:
                return soon(POLL_S)
            await DoubleUsage(self.parts, run).record(doubles, provider, connection)
        except JobError:
            if not is_given_up:
                raise
        return None

    async def _delete_files(self, run: BatchRun) -> None:
        batch = run.batch
        try:
            provider, _ = await open_provider(self.parts, batch)
            await provider.delete_files(filter(None, (batch.input_file_id, batch.output_file_id, batch.error_file_id)))
        except (JobError, RetryLater) as exc:  # they expire
            log.warning("%s customer=%s batch=%s %s", BATCH_DELAYED, batch.customer, batch.batch_id, log_text(exc))


def _text(remote: ProviderBatch) -> str:
    return f"{NO_ROOM}: {remote.errors[0].message}" if remote.errors else NO_ROOM
