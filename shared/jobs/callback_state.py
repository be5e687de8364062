"""Writes the state of a job's callback into the job's row. The job is done by then, so nobody has its lease."""

from __future__ import annotations

from shared.contract.documents import CallbackState
from shared.jobs.records import job_key
from shared.storage.base import Row, RowChanged, Table

_WRITES = 5
"""Writes of one state, as long as somebody else changes the row in between."""
_ERROR_LIMIT = 500


async def save_callback_state(table: Table, customer: str, job_id: str, state: CallbackState) -> None:
    """
    Write the state into the job's row, or nothing if there is no such job any more. Raises StorageUnavailable.

    The write is made at the row's etag, so that a row that was deleted meanwhile does not come back.
    """
    values = {
        "callback_status": state.status,
        "callback_attempts": state.attempts,
        "callback_last_status": state.last_status or 0,
        "callback_error": (state.error or "")[:_ERROR_LIMIT],
    }
    for _ in range(_WRITES):
        row = await table.read(customer, job_key(job_id))
        if row is None:
            return
        try:
            await table.merge(Row(row.partition, row.key, values, row.etag))
        except RowChanged:
            continue
        return
