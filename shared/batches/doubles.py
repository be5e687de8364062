"""
Batches that a provider has twice: one was created again, since the answer to its creation got lost and the list did
not show it in time. The other one is cancelled, and what it has answered by then is recorded: it is billed, too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from shared.batches import files
from shared.batches.base import BatchProvider
from shared.batches.batch_lines import line_rows, lines_of
from shared.batches.batch_run import BatchRun
from shared.batches.custom_ids import number_of
from shared.batches.late_answers import job_labels, paid_rows
from shared.batches.parts import BatchParts
from shared.batches.provider_batch import ENDED, ProviderBatch
from shared.billing.usage import call_of_answer
from shared.billing.usage_records import RecordLabels
from shared.connections.connection import Connection
from shared.contract.decoding import json_object
from shared.contract.result import ConnectionLabel
from shared.errors import UpstreamError
from shared.event_names import BATCH_DOUBLED, NAMESPACE
from shared.jobs.lines import OK, doubles_of, line_number
from shared.storage.base import Row
from shared.storage.bulk import gather_limited

_TOGETHER = 100
"""Lines that are recorded at the same time."""
_GONE = frozenset({404, 410})

log = logging.getLogger(NAMESPACE)


async def cancel_doubles(parts: BatchParts, run: BatchRun, provider: BatchProvider) -> Sequence[ProviderBatch]:
    """
    Cancel other batches of the same lines, report and return them, and after them those that may be others.

    What may be somebody else's is left alone. Raises UpstreamError, StorageUnavailable, and as `BatchRun.save`.
    """
    batch = run.batch
    if not batch.was_created_again:
        return ()
    others = [each async for each in provider.find_all(lines_of(parts, batch)) if each.id != batch.provider_id]
    doubles = [each for each in others if each.is_certain]
    doubles = [each if each.status in ENDED else await provider.cancel(each.id) for each in doubles]
    lines = sum(each.counts.completed for each in doubles)
    if (len(doubles), lines) != (batch.doubles, batch.doubled_lines):
        log.error(
            "%s customer=%s batch=%s doubles=%s lines=%d",
            *(BATCH_DOUBLED, batch.customer, batch.batch_id, ",".join(each.id for each in doubles), lines),
        )
        await run.save(doubles=len(doubles), doubled_lines=lines)
    return [*doubles, *(each for each in others if not each.is_certain)]


@dataclass(slots=True)
class DoubleUsage:
    """Records what doubles have answered, as calls whose responses no job has. Repeating it records nothing again."""

    parts: BatchParts
    run: BatchRun
    _jobs: dict[int, str] = field(default_factory=dict)
    _labels: dict[str, RecordLabels | None] = field(default_factory=dict)

    async def record(self, doubles: Sequence[ProviderBatch], provider: BatchProvider, connection: Connection) -> None:
        """Record them. Raises UpstreamError, TurnLost, StorageUnavailable."""
        rows = line_rows(self.parts.table, self.run.batch, "job_id")
        self._jobs = {line_number(row.key): row.values["job_id"] async for row in rows}
        for double in (each for each in doubles if each.is_certain):
            try:
                await self._record(double, provider, connection)
            except UpstreamError as exc:
                if exc.facts.status not in _GONE:
                    raise
                # An earlier turn has deleted its file, and recorded it before.

    async def _record(self, double: ProviderBatch, provider: BatchProvider, connection: Connection) -> None:
        waiting = list[list[Row]]()
        if not double.output_file_id:
            return
        async with aclosing(provider.content(double.output_file_id)) as content:
            async for line in files.read_lines(content, redact=connection.without_key):
                if isinstance(line, files.Answer) and line.status in OK:
                    waiting.append(await self._rows(double.id, line))
                if len(waiting) == _TOGETHER:
                    await self._write(waiting)
        await self._write(waiting)

    async def _write(self, waiting: list[list[Row]]) -> None:
        await gather_limited(self.parts.ledger.append_usage(rows) for rows in waiting)
        waiting.clear()
        await self.run.save()

    async def _rows(self, double: str, line: files.Answer) -> list[Row]:
        number = number_of(line.custom_id, self.run.batch.batch_id)
        labels = await self._labels_of(self._jobs.get(number, ""))
        if labels is None:
            return []
        metered_as = f"{doubles_of(self.run.batch.batch_id)}{sha256(double.encode()).hexdigest()[:20]}-{number}"
        call = call_of_answer(json_object(line.body), line.request_id, "batch", metered_as)
        return paid_rows(labels, call, f"~{metered_as}")

    async def _labels_of(self, job_id: str) -> RecordLabels | None:
        batch = self.run.batch
        if job_id not in self._labels:
            connection = msgspec.json.decode(batch.label, type=ConnectionLabel) if batch.label else None
            labels = await job_labels(self.parts.table, batch, job_id, connection) if job_id else None
            self._labels[job_id] = labels
        return self._labels[job_id]
