"""The state of a job's callback, which is part of the job's row. The job is done by then, so nobody has its lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.jobs.records import job_key
from shared.storage.base import Row, RowChanged, Table

CallbackStatus = Literal["waiting", "delivered", "failed"]
_WRITES = 5
"""Writes of one state, as long as somebody else changes the row in between."""
_ERROR_LIMIT = 500


@dataclass(frozen=True, slots=True)
class CallbackState:
    """What the tries to deliver a callback have come to. `waiting`: another try follows."""

    status: CallbackStatus
    attempts: int
    """Tries so far."""
    last_status: int = 0
    """The receiver's last HTTP status; 0: there was none."""
    error: str = ""
    """Why the last try failed, in a sentence."""


async def save_callback_state(table: Table, customer: str, job_id: str, state: CallbackState) -> None:
    """
    Write the state into the job's row, and nothing if there is no such job any more. Raises StorageUnavailable.

    The write is made at the row's etag, so that a row that was deleted meanwhile does not come back.
    """
    values = {
        "callback_status": state.status,
        "callback_attempts": state.attempts,
        "callback_last_status": state.last_status,
        "callback_error": state.error[:_ERROR_LIMIT],
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
