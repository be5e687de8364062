"""
Callbacks: delivers a job's result, signed, to the URL that the job names, and retries until the receiver takes it.

Each try is a message of its own in the callbacks queue. Until the try is due, it is hidden there for two minutes at
most; for longer it waits in the schedule. The callback's state is part of the job's row.
"""

from __future__ import annotations

import hashlib
import logging
import random
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from shared.clock import now, rfc3339
from shared.contract.callback import CallbackMessage, decode_callback, encode_callback
from shared.contract.documents import CallbackState
from shared.errors import RetryLater, StorageUnavailable, Throttled
from shared.event_names import (
    CALLBACK_DELIVERED,
    CALLBACK_DROPPED,
    CALLBACK_FAILED,
    CALLBACK_NOT_RECORDED,
    CALLBACK_UNREADABLE,
    CALLBACK_WAITING,
    NAMESPACE,
)
from shared.jobs.admission import Limiter
from shared.jobs.crash_log import log_text
from shared.jobs.drain import Drain
from shared.jobs.job_updates import JobUpdates
from shared.jobs.queries import JobQueries
from shared.jobs.records import JobRecord
from shared.jobs.schedule import Schedule
from shared.jobs.versions import NewerVersion, check_version
from shared.settings import Settings
from shared.storage.base import MAX_HIDDEN_S, Queues
from shared.upstream.client import UpstreamClient
from shared.webhooks.signed_post import GONE, SignedMessage, TryResult, TryStatus, post_signed, retry_or_fail
from shared.webhooks.signing import Signing

MAX_AGE = timedelta(days=7)
"""When a callback fails whatever it waits for: longer than all its tries take."""
_MAX_QUEUED_S = 0.9 * MAX_HIDDEN_S
"""With its jitter, a delay that the queue can hide a message for."""
_LANE = "(callbacks)"
"""Where a customer's callbacks are admitted: no connection has this name."""

_EVENTS: dict[TryStatus, str] = {
    "waiting": CALLBACK_WAITING,
    "delivered": CALLBACK_DELIVERED,
    "failed": CALLBACK_FAILED,
}

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Delivers callbacks."""

    settings: Settings
    queries: JobQueries
    updates: JobUpdates
    queues: Queues
    schedule: Schedule
    signing: Signing
    client: UpstreamClient
    drain: Drain
    limiter: Limiter = field(default_factory=Limiter)
    """Of callbacks alone: a receiver that hangs delays neither other customers' callbacks nor jobs."""

    async def deliver(self, body: bytes) -> None:
        """
        Make one try of the callback in a message of the callbacks queue, and enqueue the next try if there is one.

        Raises StorageUnavailable if nothing could be done; the host then delivers the message again.
        """
        message = _decode(body)
        if message is None:
            return
        try:
            self.settings.check()
            await self.limiter.wait_for_room(message.customer, _LANE)
            with self.limiter.admit(message.customer, _LANE) as limit:
                async with limit.calls:
                    self.drain.check()
                    await self._deliver(message)
        except NewerVersion as exc:  # as it is: it may have members that this version doesn't know
            await self.queues.send(self.settings.callbacks_queue, body, delay_s=exc.delay_s)
        except RetryLater as exc:  # no try was made, or the stop has cut it off, so the same message comes again
            # In the schedule, a message without room could replace a later try, if it was delivered twice.
            delay_s = min(exc.delay_s, _MAX_QUEUED_S) if isinstance(exc, Throttled) else exc.delay_s
            await self._enqueue(message, delay_s)

    async def dead_letter(self, body: bytes) -> None:
        """Count a try for a message that the host gave up, and enqueue the next one if any. Raises as `deliver`."""
        message = _decode(body)
        if message is None:
            return
        try:
            self.settings.check()
            record = await self._find_due(message)
            if record is not None:
                error = "The worker died at each delivery, or the next one could not be enqueued."
                await self._conclude(message, retry_or_fail(message.attempt, error, record.callback_last_status))
        except RetryLater as exc:
            await self.queues.send(self.settings.callbacks_poison_queue, body, delay_s=exc.delay_s)

    async def _deliver(self, message: CallbackMessage) -> None:
        record = await self._find_due(message)
        if record is None:
            return
        if now() - message.first_at > MAX_AGE:
            error = f"Given up after {MAX_AGE.days} days. {record.callback_error}".rstrip()
            await self._save(message, TryResult("failed", error, record.callback_last_status))
            return
        await self._conclude(message, await self._try(message, record))

    async def _conclude(self, message: CallbackMessage, result: TryResult) -> None:
        """Record a try, and enqueue the next one if there is one."""
        if result.status != "waiting":
            await self._save(message, result)
            return
        # The next try is enqueued before this one is recorded: a crash in between causes a try too many, not too few.
        next_try = msgspec.structs.replace(message, attempt=message.attempt + 1)
        await self._enqueue(next_try, result.delay_s)
        try:
            await self._save(message, result)
        except StorageUnavailable as exc:
            log.warning("%s %s: %s", CALLBACK_NOT_RECORDED, _label(message), log_text(exc))  # the next try is recorded

    async def _find_due(self, message: CallbackMessage) -> JobRecord | None:
        """Return the job's record, None if this try is not needed any more. Raises StorageUnavailable, NewerVersion."""
        record = await self.queries.get(message.customer, message.job_id)
        if record is not None:
            check_version(record.version, "job's row")
        if record is not None and record.result_body is not None and record.callback_url and _is_due(message, record):
            return record
        log.info("%s %s", CALLBACK_DROPPED, _label(message))
        return None

    async def _try(self, message: CallbackMessage, record: JobRecord) -> TryResult:
        body = record.result_body or b""
        signed = SignedMessage(message.customer, message_id(record), record.callback_url, body, member="callback")
        async with self.drain.call() as call:
            with call.one_try():
                call.begin()
                return await post_signed(self.client, self.signing, signed, message.attempt)

    async def _save(self, message: CallbackMessage, result: TryResult) -> None:
        state = CallbackState(
            status=result.status,
            attempts=message.attempt + 1,
            last_status=result.last_status or None,
            error=result.error or None,
        )
        await self.updates.save_callback_state(message.customer, message.job_id, state)
        log.log(
            logging.WARNING if state.status == "failed" else logging.INFO,
            "%s %s attempt=%d http_status=%s error=%s",
            _EVENTS[state.status],
            _label(message),
            state.attempts,
            state.last_status or "-",
            state.error or "-",
        )

    async def _enqueue(self, message: CallbackMessage, delay_s: float) -> None:
        delay_s *= random.uniform(1, 1.1)  # noqa: S311  # so that many do not come back at once
        body = encode_callback(message)
        await self.schedule.send(message.customer, message.job_id, body, delay_s=delay_s, waits="callback")


def message_id(record: JobRecord) -> str:
    """
    Return the id of a job's callback: the same at each try, and different for each customer's job.

    It is not the job's id: that can contain full stops, and a receiver may serve several customers with equal ids.
    """
    job = f"{record.customer}/{record.job_id}/{rfc3339(record.submitted_at)}"
    return hashlib.sha256(job.encode()).hexdigest()[:32]


def _decode(body: bytes) -> CallbackMessage | None:
    message = decode_callback(body)
    if message is None:
        log.error("%s bytes=%d", CALLBACK_UNREADABLE, len(body))
    return message


def _is_due(message: CallbackMessage, record: JobRecord) -> bool:
    """Whether the try is needed: it may have been made before, or its job's result may have been published again."""
    if record.callback_status == "delivered" or record.callback_last_status == GONE:
        return False
    if record.callback_status == "failed":
        return message.attempt == 0  # the result was published again, so the tries start over
    return message.attempt >= record.callback_attempts


def _label(message: CallbackMessage) -> str:
    return f"customer={message.customer} job_id={message.job_id}"
