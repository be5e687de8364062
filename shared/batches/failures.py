"""What follows a turn at a batch that came to nothing: another one, or the end of the batch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.batches.batch_run import BatchRun
from shared.batches.harvest import continue_jobs
from shared.batches.parts import BatchParts
from shared.batches.records import MAX_ERROR_LENGTH, BatchRecord
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
from shared.event_names import BATCH_DELAYED, BATCH_GIVEN_UP, NAMESPACE
from shared.jobs.crash_log import log_text

QUOTA_S = 300.0
"""Before a batch is created again that the provider's quota of enqueued tokens had no room for."""
NO_ROOM = "token_limit_exceeded"
GIVE_UP_AFTER = timedelta(hours=26)
"""After a batch should have been cancelled: providers end batches after a day."""
OVERDUE_AFTER = timedelta(minutes=25)
"""
After a batch should have been cancelled, its jobs go on without what is not read of it: five minutes after the first
deadline of a job that waits for nothing else, or ten minutes before it if the job then buys its calls otherwise.
"""
OVERDUE_POLL_S = 600.0
"""Between two looks at a batch that no job waits for."""
_MAX_DELAY_S = 900.0
_PERMANENT = (RequestRejected, ModelNotFound, AccountBlocked, ConnectionFault)
"""Errors that no later try of sending a batch would correct."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Failures:
    """Decides what follows. Its methods return when to look again, and raise as `BatchRun.save`."""

    parts: BatchParts

    async def failed(self, run: BatchRun, error: JobError) -> datetime:
        """Return what follows an error of the provider, or of the connection."""
        batch = run.batch
        if isinstance(error, CredentialRejected) and await self._is_rotated(batch):
            return now()
        is_unsent = batch.state in {"gathering", "sending"} and not batch.create_begun
        if is_unsent and isinstance(error, _PERMANENT) and not _is_no_room(error):
            await Sending(self.parts).end_unsent(run, str(error), code=error.code)
            return now()
        facts = error.facts if isinstance(error, UpstreamError) else None
        await run.save(error=str(error)[:MAX_ERROR_LENGTH])
        wait_s = QUOTA_S if _is_no_room(error) else (facts.retry_after_s if facts else None) or POLL_S
        logged = log_text(error)
        return await self.unfinished(run, str(error), delayed(batch, logged, wait_s), logged)

    async def unfinished(self, run: BatchRun, reason: str, due_at: datetime, logged: str = "") -> datetime:
        """
        Return what follows a turn that has found the batch unfinished: the next one at `due_at`, if there is any.

        `logged`: the reason as a log may have it, if that is another text.
        """
        batch = run.batch
        overdue_at = batch.cancel_at + OVERDUE_AFTER
        if not is_sent(batch):
            return due_at
        if now() >= batch.cancel_at + GIVE_UP_AFTER:
            await run.save(state="waking")
            return now()
        if now() < overdue_at:
            return min(due_at, overdue_at)
        if not batch.is_overdue:
            log.error("%s customer=%s batch=%s %s", BATCH_GIVEN_UP, batch.customer, batch.batch_id, logged or reason)
            await run.save(is_overdue=True, error=reason[:MAX_ERROR_LENGTH])
            await continue_jobs(run, self.parts.queues, self.parts.settings.jobs_queue)
        return max(due_at, soon(OVERDUE_POLL_S))

    async def _is_rotated(self, batch: BatchRecord) -> bool:
        connections = self.parts.connections
        try:
            connection = await connections.resolve(batch.customer, batch.connection)
            return await connections.find_rotated(connection) is not None
        except (JobError, RetryLater):
            return False  # the next turn meets it


def is_sent(batch: BatchRecord) -> bool:
    """Return whether the batch is at its provider, or may be, and has not been read to its end."""
    return batch.state in {"waiting", "harvesting"} or (batch.state == "sending" and batch.create_begun)


def delayed(batch: BatchRecord, reason: str, delay_s: float) -> datetime:
    """Log why a turn came to nothing; return when the next one is due."""
    due_at = soon(min(max(delay_s, POLL_S), _MAX_DELAY_S))
    log.warning(
        "%s customer=%s batch=%s state=%s %s", BATCH_DELAYED, batch.customer, batch.batch_id, batch.state, reason
    )
    return due_at


def _is_no_room(error: JobError) -> bool:
    return isinstance(error, UpstreamError) and error.facts.detail.get("code") == NO_ROOM
