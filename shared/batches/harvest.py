"""
The harvest of a batch that has ended: its answers go into the rows of its lines, and its jobs continue.

It may be cut off anywhere. The next turn leaves out lines that have an answer, and jobs that were continued.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from shared.batches import files
from shared.batches.batch_lines import line_rows
from shared.batches.batch_run import BatchRun
from shared.batches.custom_ids import number_of
from shared.batches.records import MAX_ERROR_LENGTH
from shared.event_names import BATCH_LINES_ODD, NAMESPACE
from shared.jobs.lines import MAX_INLINE_BYTES, TAKEN_OUT, Answer, answer_blob, answer_values, line_key, line_number
from shared.jobs.records import job_key
from shared.storage.base import Blobs, Queues, Row
from shared.storage.bulk import gather_limited

TURN_S = 420.0
"""Seconds after which a turn ends, well within host.json's `functionTimeout`; the next one goes on."""
_MAX_ROWS = 95
_MAX_TRANSACTION_BYTES = 2_500_000
_WAKES = 100
"""Jobs that are continued between two writes of the position."""

log = logging.getLogger(NAMESPACE)


class TurnOver(Exception):
    """The turn has taken long enough."""


@dataclass(slots=True)
class _Unanswered:
    etag: str
    job_id: str


@dataclass(slots=True)
class Harvest:
    """The harvest by one turn."""

    run: BatchRun
    blobs: Blobs
    container: str
    clock: Callable[[], float] = time.monotonic
    _unanswered: dict[int, _Unanswered] = field(default_factory=dict)
    _rows: list[Row] = field(default_factory=list)
    _size: int = 0
    _answered: int = 0
    _odd: int = 0
    """Lines of the files that are no line of the batch, or answer one that has an answer."""
    _began: float = 0

    async def begin(self) -> None:
        """Read which lines have no answer. Raises StorageUnavailable."""
        self._began = self.clock()
        async for row in line_rows(self.run.table, self.run.batch, "job_id", "status", TAKEN_OUT):
            if row.values.get("status") is None and not row.values.get(TAKEN_OUT):
                self._unanswered[line_number(row.key)] = _Unanswered(row.etag, row.values["job_id"])

    async def read(self, content: AsyncIterator[bytes], redact: Callable[[str], str]) -> None:
        """
        Store the answers in a file; `redact` takes a key out of a message.

        Raises TurnOver, TurnLost, StorageUnavailable, UpstreamError.
        """
        async for line in files.read_lines(content, redact=redact):
            number = number_of(line.custom_id, self.run.batch.batch_id)
            if isinstance(line, files.Unreadable) or number not in self._unanswered:
                self._odd += 1
            else:
                await self._store(number, _answer(line))
        await self._flush()

    async def fill(self, code: str, message: str) -> None:
        """Store for every line without an answer why there is none. Raises as `read`."""
        for number in sorted(self._unanswered):
            await self._store(number, Answer(error_code=code, error=message[:MAX_ERROR_LENGTH]))
        await self._flush()

    @property
    def missing(self) -> int:
        """How many lines have no answer."""
        return len(self._unanswered)

    def report(self) -> None:
        """Log what was odd in the provider's files."""
        batch = self.run.batch
        if self._odd or self.missing:
            log.warning(
                "%s customer=%s batch=%s unknown_or_repeated=%d missing=%d",
                *(BATCH_LINES_ODD, batch.customer, batch.batch_id, self._odd, self.missing),
            )

    async def _store(self, number: int, answer: Answer) -> None:
        batch, line = self.run.batch, self._unanswered.pop(number)
        if len(answer.body) > MAX_INLINE_BYTES:
            name = answer_blob(batch.customer, line.job_id, batch.batch_id, number)
            await self.blobs.write(self.container, name, answer.body, "application/json")
        values = answer_values(answer) | ({"label": batch.label} if batch.label else {})
        self._rows.append(Row(batch.customer, line_key(batch.batch_id, number), values, line.etag))
        self._size += len(values.get("answer", b"")) + len(values.get("error", ""))
        self._answered += answer.is_ok
        if len(self._rows) == _MAX_ROWS or self._size > _MAX_TRANSACTION_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        if self._rows:
            rows, batch = self._rows, self.run.batch
            failed = batch.failed + len(rows) - self._answered
            await self.run.save(rows, answered=batch.answered + self._answered, failed=failed)
            self._rows, self._size, self._answered = [], 0, 0
        if self.clock() - self._began > TURN_S:
            raise TurnOver


async def continue_jobs(run: BatchRun, queues: Queues, jobs_queue: str) -> None:
    """
    Send the message of each job that has lines in the batch. Raises TurnLost, StorageUnavailable.

    A job that was taken out has got its message, unless its cancellation was cut off before that.
    """
    waiting: list[bytes] = []
    async for row in line_rows(run.table, run.batch, "job_id", "message", TAKEN_OUT, first=run.batch.woken):
        message = row.values.get("message")
        if message and not (row.values.get(TAKEN_OUT) and await _has_ended(run, row.values["job_id"])):
            waiting.append(message)
        if len(waiting) == _WAKES:
            await gather_limited(queues.send(jobs_queue, each) for each in waiting)
            await run.save(woken=line_number(row.key) + 1)
            waiting = []
    await gather_limited(queues.send(jobs_queue, each) for each in waiting)
    await run.save(woken=run.batch.lines)


async def _has_ended(run: BatchRun, job_id: str) -> bool:
    row = await run.table.read(run.batch.customer, job_key(job_id))
    return row is None or row.values["state"] == "done"


def _answer(line: files.Answer) -> Answer:
    if line.status is not None:
        return Answer(line.status, line.body, line.request_id or "", line.code or "")
    return Answer(error_code=line.code or "unknown", error=line.message[:MAX_ERROR_LENGTH])
