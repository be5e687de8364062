"""One worker's turn at a batch: its row, leased and changed at its etag, so that no other worker's turn is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.batches.records import LEASE_S, SPACING_S, BatchRecord, read_batch
from shared.clock import now
from shared.errors import StorageUnavailable
from shared.ids import new_id
from shared.jobs.batch_message import BatchMessage, batch_key
from shared.jobs.schedule import Schedule
from shared.storage.base import Row, RowChanged, Table

_TRIES = 5
_JUST_LOOKED_AT = timedelta(seconds=SPACING_S / 2)
"""A message that comes so soon after a look was meant for that look: events ask for none before SPACING_S."""


class TurnLost(Exception):
    """Another worker has taken the batch over, or it is gone: this turn ends."""


@dataclass(slots=True)
class BatchRun:
    """A turn. `batch` is the row as this turn wrote it last."""

    table: Table
    schedule: Schedule
    batch: BatchRecord

    async def save(self, beside: Sequence[Row] = (), **changes: Any) -> None:
        """
        Change the batch's row, renew its lease, and write other rows beside. Raises TurnLost, StorageUnavailable.

        RowChanged if one of the other rows can't be written.
        """
        while True:
            batch = self.batch
            values = {**changes, "lease_until": now() + timedelta(seconds=LEASE_S)}
            row = Row(batch.customer, batch_key(batch.batch_id), values, batch.etag)
            try:
                etag, *_ = await self.table.merge_and_insert(row, beside)
            except RowChanged as exc:
                if exc.row is not None and exc.row.etag == batch.etag:
                    raise
                self._take_up(exc.row)
            else:
                self.batch = replace(batch, etag=etag, **values)
                return

    def _take_up(self, row: Row | None) -> None:
        """Go on with the row as it is if it is still this turn's: jobs have joined or left, or an answer got lost."""
        if row is None or not self.batch.owner or row.values.get("owner") != self.batch.owner:
            raise TurnLost
        self.batch = read_batch(row)

    def check(self, seconds: float) -> None:
        """Raise TurnLost unless this turn holds the batch for so long, as after a pause of the whole process."""
        if self.batch.lease_until is None or now() + timedelta(seconds=seconds) > self.batch.lease_until:
            raise TurnLost

    async def rest(self, due_at: datetime) -> None:
        """End the turn: the batch is looked at again when it is due. Raises as `save`."""
        await self.schedule.add_batch(self.batch.customer, self.batch.batch_id, due_at)
        await self.save(due_at=due_at, owner="")


async def begin(table: Table, schedule: Schedule, message: BatchMessage) -> BatchRun | None:
    """
    Return a turn at a batch; None if it is done or gone, another worker has one, or one was just taken.

    Raises StorageUnavailable.
    """
    for _ in range(_TRIES):
        row = await table.read(message.customer, batch_key(message.batch))
        if row is None:
            return None
        batch, at = read_batch(row), now()
        if batch.state == "done" or (batch.owner and batch.lease_until is not None and batch.lease_until > at):
            return None
        if batch.state == "waiting" and batch.last_turn_at is not None and at < batch.last_turn_at + _JUST_LOOKED_AT:
            return None
        run = BatchRun(table, schedule, replace(batch, owner=""))  # another turn's, whose worker died
        try:
            await run.save(owner=new_id())
        except TurnLost:  # jobs join it
            continue
        return run
    raise StorageUnavailable("The batch's row is changed all the time.", 1)
