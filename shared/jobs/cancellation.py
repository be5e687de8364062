"""Cancels a job that has not started, from wherever that is requested."""

from __future__ import annotations

from collections.abc import Sequence

from shared.jobs.batch_message import batch_key
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lines import TAKEN_OUT, LineRange, line_key, read_ranges
from shared.jobs.records import State, job_key
from shared.jobs.schedule import Schedule
from shared.storage.base import MAX_TRANSACTION_ROWS, Row, RowChanged, Table

_PART = MAX_TRANSACTION_ROWS - 2
"""Lines that one transaction takes out, beside the batch's own row."""


async def cancel_job(updates: JobUpdates, schedule: Schedule, customer: str, job_id: str) -> State | None:
    """
    As `JobUpdates.cancel`. A job that waits in the schedule ends now, and so does one whose batch has not been sent. If
    that is at its provider, the job ends with it, since its calls are paid for. Raises StorageUnavailable.
    """
    state = await updates.cancel(customer, job_id)
    if state == "cancelled" and not await schedule.wake(customer, job_id):
        await _leave_batches(updates.table, schedule, customer, job_id)
    return state


async def _leave_batches(table: Table, schedule: Schedule, customer: str, job_id: str) -> None:
    row = await table.read(customer, job_key(job_id))
    ranges = read_ranges(row.values.get("lines", "")) if row else []
    batches = list(dict.fromkeys(each.batch for each in ranges))
    messages = [await _leave(table, customer, batch, [r for r in ranges if r.batch == batch]) for batch in batches]
    if messages and None not in messages:
        await schedule.queues.send(schedule.jobs_queue, messages[0] or b"")


async def _leave(table: Table, customer: str, batch: str, ranges: Sequence[LineRange]) -> bytes | None:
    """Take the job's lines out of a batch. Return the job's message, None if the batch has been sent."""
    while True:
        batch_row = await table.read(customer, batch_key(batch))
        if batch_row is None or batch_row.values["state"] != "gathering":
            return None
        lines = [
            line
            for each in ranges
            async for line in table.scan(
                customer, line_key(batch, each.first), line_key(batch, each.first + each.number)
            )
        ]
        message = next((line.values["message"] for line in lines if line.values.get("message")), b"")
        rest = [
            Row(customer, line.key, {TAKEN_OUT: True}, line.etag) for line in lines if not line.values.get(TAKEN_OUT)
        ]
        if not rest:
            return message
        values = {TAKEN_OUT: batch_row.values.get(TAKEN_OUT, 0) + len(rest[:_PART])}
        try:
            await table.merge_and_insert(Row(customer, batch_row.key, values, batch_row.etag), rest[:_PART])
        except RowChanged:  # others join it, or it is sent
            continue
