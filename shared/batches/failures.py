"""What follows a turn at a batch that came to nothing: another one, or the end of the batch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.batches.batch_run import BatchRun
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
GONE_AFTER = timedelta(hours=1)
"""The same for one that its connection does not reach any more."""
_NOT_FOUND = frozenset({404, 410})
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
        is_gone = isinstance(error, ConnectionFault) or (facts is not None and facts.status in _NOT_FOUND)
        if is_sent(batch) and now() >= batch.cancel_at + (GONE_AFTER if is_gone else GIVE_UP_AFTER):
            return await self._give_up(run, log_text(error), str(error))
        await run.save(error=str(error)[:MAX_ERROR_LENGTH])
        wait_s = QUOTA_S if _is_no_room(error) else (facts.retry_after_s if facts else None) or POLL_S
        return delayed(batch, log_text(error), wait_s)

    async def unfinished(self, run: BatchRun, reason: str, due_at: datetime) -> datetime:
        """Return what follows a turn that has found the batch unfinished: the next one at `due_at`, if there is any."""
        if is_sent(run.batch) and now() >= run.batch.cancel_at + GIVE_UP_AFTER:
            return await self._give_up(run, reason, reason)
        return due_at

    async def _give_up(self, run: BatchRun, log_reason: str, reason: str) -> datetime:
        batch = run.batch
        log.error("%s customer=%s batch=%s %s", BATCH_GIVEN_UP, batch.customer, batch.batch_id, log_reason)
        await run.save(state="waking", error=reason[:MAX_ERROR_LENGTH])
        return now()

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
