"""
Changes to the row of a job that nobody runs: cancelled, its failed attempts corrected, its callback's state.

Each is a merge at the row's etag, repeated if somebody else has changed the row meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.clock import now
from shared.contract.documents import CallbackState
from shared.errors import AlreadyRunning
from shared.jobs.records import NO_WAKEUP, State, is_worker_dead, job_key
from shared.jobs.versions import check_version
from shared.storage.base import Row, RowChanged, Table

_MAX_WRITES = 5
"""Writes of one callback state, as long as somebody else changes the row in between."""
_MAX_ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class JobUpdates:
    """The jobs of all customers. Every method raises StorageUnavailable, NewerVersion."""

    table: Table

    async def cancel(self, customer: str, job_id: str) -> State | None:
        """
        Cancel a job that no worker runs; when its message comes, it ends as cancelled.

        Return its state now: `running` and `done` mean that it was too late, None that there is no such job.
        """
        while True:
            row = await self.table.read(customer, job_key(job_id))
            if row is None:
                return None
            state: State = row.values["state"]
            # A job whose worker has died stays `running`, so that its next attempt knows that.
            dead = is_worker_dead(state, row.values.get("lease_until"), now())
            if not dead and state not in {"queued", "waiting"}:
                return state
            try:
                await self._merge(row, {"cancelled": True} if dead else {"state": "cancelled"})
            except RowChanged:  # by a worker that has just claimed or released it
                continue
            return "cancelled"

    async def reset_failed_attempts(self, customer: str, job_id: str) -> None:
        """
        Count no failed attempts any more, since too many end the job.

        Raises AlreadyRunning if a worker has just claimed or released the job.
        """
        row = await self.table.read(customer, job_key(job_id))
        if row is not None and row.values.get("failed_attempts"):
            await self._set_failed_attempts(row, 0)

    async def add_failed_attempt(self, customer: str, job_id: str) -> None:
        """Count a failed attempt of a job that nobody runs. Raises as `reset_failed_attempts`."""
        row = await self.table.read(customer, job_key(job_id))
        if row is None:
            return
        state: State = row.values["state"]
        if state in {"queued", "waiting"} or is_worker_dead(state, row.values.get("lease_until"), now()):
            await self._set_failed_attempts(row, row.values.get("failed_attempts", 0) + 1)

    async def save_callback_state(self, customer: str, job_id: str, state: CallbackState) -> None:
        """Write the state of the job's callback, or nothing if there is no such job any more."""
        values = {
            "callback_status": state.status,
            "callback_attempts": state.attempts,
            "callback_last_status": state.last_status or 0,
            "callback_error": (state.error or "")[:_MAX_ERROR_LENGTH],
            **({} if state.status == "waiting" else NO_WAKEUP),
        }
        for _ in range(_MAX_WRITES):
            row = await self.table.read(customer, job_key(job_id))
            if row is None:
                return
            try:
                await self._merge(row, values)
            except RowChanged:
                continue
            return

    async def _set_failed_attempts(self, row: Row, number: int) -> None:
        try:
            await self._merge(row, {"failed_attempts": number})
        except RowChanged:
            raise AlreadyRunning(f"A worker has just changed job {row.key.removeprefix('j_')}.", 1) from None

    async def _merge(self, row: Row, values: Mapping[str, Any]) -> None:
        check_version(row.values.get("version", 0), "job's row")
        await self.table.merge(Row(row.partition, row.key, values, row.etag))
