"""Sends a callback again, whatever became of it, for an operator whose customer's receiver has missed it."""

from __future__ import annotations

from shared.clock import now
from shared.contract.callback import CallbackMessage, encode_callback
from shared.contract.documents import CallbackState
from shared.jobs.job_updates import JobUpdates
from shared.jobs.records import JobRecord
from shared.jobs.schedule import Schedule


async def resend(updates: JobUpdates, schedule: Schedule, record: JobRecord) -> None:
    """
    Enqueue a try of the callback of a job that is done. Its `webhook-id` stays the same. Raises StorageUnavailable.

    A callback that waits for a try gets it now: the one that waits is dropped, or counts as the next. The tries of any
    other one start over.
    """
    attempt = record.callback_attempts
    if record.callback_status != "waiting":
        attempt = 0
        # First: the message of a callback that is not waiting would be dropped. If the next step fails, repeat both.
        state = CallbackState(status="waiting", attempts=attempt)
        await updates.save_callback_state(record.customer, record.job_id, state)
    message = CallbackMessage(customer=record.customer, job_id=record.job_id, attempt=attempt, first_at=now())
    body = encode_callback(message)
    await schedule.send(record.customer, record.job_id, body, delay_s=0, waits="callback")
