"""The batches on record, and the lines in one, for those who look after them. Changes nothing."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime

from shared.batches.batch_lines import line_rows
from shared.batches.records import BatchRecord, key_at, read_batch
from shared.batches.reports import is_late
from shared.clock import now, rfc3339
from shared.contract.batch import BatchDocument
from shared.jobs.batch_message import LAST, PREFIX, batch_key
from shared.jobs.lines import OK, TAKEN_OUT
from shared.storage.base import Table
from shared.storage.bulk import read_pages

is_batch_id = re.compile(r"[0-9]{14}-[0-9a-f]{8}").fullmatch


@dataclass(slots=True)
class JobLines:
    """A job's lines in a batch."""

    job_id: str
    lines: int = 0
    answered: int = 0
    failed: int = 0
    is_cancelled: bool = False
    """Whether the job was cancelled before the batch was sent."""


@dataclass(slots=True)
class LineCounts:
    """What became of a batch's lines."""

    jobs: list[JobLines] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    """Of lines that failed: the provider's codes, or HTTP statuses, and how many have each."""


@dataclass(frozen=True, slots=True)
class BatchQueries:
    """The batches of all customers. Every method raises StorageUnavailable, NewerVersion."""

    table: Table

    async def get(self, customer: str, batch_id: str) -> BatchRecord | None:
        """Return a batch, or None if the customer has no such batch."""
        row = await self.table.read(customer, batch_key(batch_id))
        return None if row is None else read_batch(row)

    async def newest(self, customer: str, *, after: str, limit: int) -> tuple[list[BatchRecord], str]:
        """Return up to `limit` batches that are older than `after`, newest first, and where the next page starts."""
        keys = deque[str](maxlen=limit + 1)
        last = batch_key(after) if after else LAST
        async for page in read_pages(self.table, customer, PREFIX, last, columns=()):
            keys.extend(row.key for row in page)
        if not keys:
            return [], ""
        continuation = keys[1].removeprefix(PREFIX) if len(keys) > limit else ""
        first = keys[1] if continuation else keys[0]
        rows = [row async for row in self.table.scan(customer, first, f"{keys[-1]}!")]
        return [read_batch(row) for row in reversed(rows)][:limit], continuation

    async def since(self, customer: str, at: datetime) -> list[BatchRecord]:
        """Return the batches that were opened since then, the newest first."""
        rows = [row async for row in self.table.scan(customer, key_at(at), LAST)]
        return [read_batch(row) for row in reversed(rows)]

    async def count_lines(self, batch: BatchRecord) -> LineCounts:
        """Return what became of a batch's lines, by job."""
        counts, jobs = LineCounts(), dict[str, JobLines]()
        async for row in line_rows(self.table, batch, "job_id", "status", "error_code", TAKEN_OUT):
            job = jobs.setdefault(row.values["job_id"], JobLines(row.values["job_id"]))
            job.lines += 1
            job.is_cancelled = job.is_cancelled or bool(row.values.get(TAKEN_OUT))
            status = row.values.get("status")
            if status in OK:
                job.answered += 1
            elif status is not None:
                job.failed += 1
                counts.errors[row.values.get("error_code") or str(status)] += 1
        counts.jobs = list(jobs.values())
        return counts


def describe(batch: BatchRecord) -> BatchDocument:
    """Return the document of a batch."""
    return BatchDocument(
        customer=batch.customer,
        batch=batch.batch_id,
        state=batch.state,
        connection=batch.connection,
        model=batch.model,
        operation=batch.operation,
        lines=batch.lines,
        answered=batch.answered,
        failed=batch.failed,
        opened_at=rfc3339(batch.opened_at),
        deadline=rfc3339(batch.first_deadline),
        cancel_at=rfc3339(batch.cancel_at),
        due_at=None if batch.state == "done" else rfc3339(batch.due_at),
        late=is_late(batch, now()),
        provider_id=batch.provider_id or None,
        provider_status=batch.provider_status or None,
        error=": ".join(filter(None, (batch.error_code, batch.error))) or None,
    )
