"""What jobs have to do with batches: they read their lines' answers, and wait for more. See `jobs.base.Batches`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from shared.batches.eligibility import refusal
from shared.batches.gathering import MAX_JOIN_LINES, Gathering, Join
from shared.batches.line_reads import COLUMNS, LineReads
from shared.batches.records import HARVESTED, MAX_BYTES, Group, read_batch
from shared.billing.reserved_amounts import ReservedFor
from shared.clock import now
from shared.connections.connection import Connection
from shared.errors import LeaseLost
from shared.jobs.attempt import Attempt
from shared.jobs.batch_message import batch_key
from shared.jobs.lease import Lease, renewal, waiting_values
from shared.jobs.ledger import Ledger
from shared.jobs.lines import (
    BUY_BEFORE_S,
    CANCEL_BEFORE_S,
    MAX_INLINE_BYTES,
    MISSING,
    NOT_SENT,
    TAKEN_OUT,
    UNREAD,
    Answer,
    Line,
    LineRange,
    LineRecord,
    answer_blob,
    body_blob,
    line_key,
    line_number,
    line_row,
    read_answer,
    read_ranges,
    with_range,
)
from shared.jobs.message import deadline_of
from shared.jobs.outputs import Outputs
from shared.jobs.records import job_key
from shared.storage.base import Blobs, Queues, Row, RowChanged, Table
from shared.storage.bulk import read_pages

_LINE_BYTES = 120
"""What a line of the file has beside its body."""
_MAX_ANSWER = 64 * 1024 * 1024


class _End(NamedTuple):
    """How a batch has ended for its jobs."""

    label: str
    error_code: str
    """Of lines without an answer."""


@dataclass(frozen=True, slots=True)
class JobBatches:
    """Lines of all customers' jobs."""

    table: Table
    blobs: Blobs
    queues: Queues
    outputs: Outputs
    gathering: Gathering
    container: str
    jobs_queue: str
    ledger: Ledger
    """See `jobs.base.Batches`."""
    line_reads: LineReads

    def refusal(self, connection: Connection, operation: str) -> str | None:
        """See `jobs.base.Batches`."""
        return refusal(connection, operation)

    async def lines(self, attempt: Attempt) -> Mapping[str, LineRecord]:
        """See `jobs.base.Batches`."""
        customer, ranges = attempt.job.customer, read_ranges(attempt.lease.lines)
        rows = [row for each in ranges for row in await self._rows(customer, each)]
        unanswered = {_batch_of(row) for row in rows if row.values.get("status") is None}
        ended = {batch: end for batch in unanswered if (end := await self._ended(customer, batch)) is not None}
        if ended:  # maybe since they were read
            rows = [row for each in ranges for row in await self._rows(customer, each)]
        records = [await self._record(row, ended.get(_batch_of(row))) for row in rows]
        return {record.key: record for record in records}

    async def wait(self, attempt: Attempt, lines: Sequence[Line], pending: Collection[str], *, stepless: bool) -> None:
        """See `jobs.base.Batches`."""
        message = await self.outputs.next_message(attempt)
        await self._write_bodies(attempt, lines)
        joined = set(pending)
        await attempt.end_with(partial(self._wait, attempt, list(parts_of(lines)), message, joined, stepless))
        # One that had other lines of it may have ended while the job's row did not say that it waits.
        for batch in joined:
            if await self._ended(attempt.job.customer, batch) is not None:
                await self.queues.send(self.jobs_queue, message)
                return

    async def _wait(
        self,
        attempt: Attempt,
        parts: Sequence[Sequence[Line]],
        message: bytes,
        joined: set[str],
        stepless: bool,
        lease: Lease,
    ) -> None:
        for part in parts[:-1]:
            joins = await self._join(attempt, part, message, lease, renewal(now(), attempt.ledger.lease_s))
            attempt.lease = lease = await self._lease_after(lease, len(part), *joins)
            if attempt.budgets is not None:
                attempt.budgets.keeps = True  # even if the rest can't join
            joined |= {each.batch for each in read_ranges(lease.lines)[-1:]}
        usage = attempt.usage
        values = waiting_values(lease, usage.unrecoverable, skipped=usage.skipped, stepless=stepless)
        if parts:
            await self._join(attempt, parts[-1], message, lease, values)
            return
        try:
            await self.table.merge(lease.first_write(values)[0])
        except RowChanged:
            raise LeaseLost(f"The lease on job {lease.job_id} was lost.") from None

    async def _join(
        self, attempt: Attempt, lines: Sequence[Line], message: bytes, lease: Lease, values: Mapping[str, Any]
    ) -> tuple[str, int, str]:
        """
        Have lines join a batch, with new values in the job's row. Return the batch, the number of the first line, and
        the row's new etag, empty if it is not known.
        """
        job, connection = attempt.job, attempt.connection
        assert connection is not None  # noqa: S101  # its context has one
        model = connection.batch_model or connection.endpoint.model_in_body(attempt.usage.model or "")
        group = Group(job.customer, connection.name, model, lines[0].operation)
        earlier = {each.batch for each in read_ranges(lease.lines)}
        bought_for = msgspec.json.encode(_bought_for(attempt)).decode()

        def rows(batch: str, first: int) -> list[Row]:
            column = with_range(lease.lines, LineRange(batch, first, len(lines)))
            job_row, entry = lease.first_write({**values, "lines": column, "reserved_for": bought_for})
            messages = [b"" if batch in earlier else message, *[b""] * (len(lines) - 1)]
            numbered = zip(count(first), lines, messages, strict=False)
            own = [line_row(job.customer, job.id, batch, n, line, message=sent) for n, line, sent in numbered]
            return [job_row, *entry, *own]

        deadline = deadline_of(job, lease.submitted_at)
        size = sum(len(line.body) + _LINE_BYTES for line in lines)
        margin_s = BUY_BEFORE_S if job.options.processing == "cheapest" else CANCEL_BEFORE_S
        others = 1 if lease.etag else 2
        join = Join(rows, len(lines), others, size, deadline, deadline - timedelta(seconds=margin_s))
        return await self.gathering.join(group, join)

    async def _lease_after(self, lease: Lease, lines: int, batch: str, first: int, etag: str) -> Lease:
        """Return a lease of whose job so many lines have joined."""
        column = with_range(lease.lines, LineRange(batch, first, lines))
        if not etag:
            row = await self.table.read(lease.customer, job_key(lease.job_id))
            if row is None or row.values["owner"] != lease.owner:
                raise LeaseLost(f"The lease on job {lease.job_id} was lost.")
            etag = row.etag
        return replace(lease, etag=etag, lines=column, unwritten=None)

    async def _write_bodies(self, attempt: Attempt, lines: Sequence[Line]) -> None:
        for line in {each.digest: each for each in lines if len(each.body) > MAX_INLINE_BYTES}.values():
            name = body_blob(attempt.job.customer, attempt.job.id, line.digest)
            write = partial(self.blobs.write, self.container, name, line.body, "application/json")
            await attempt.with_retries(write)

    async def _rows(self, customer: str, lines: LineRange) -> list[Row]:
        if lines.number == 1:
            row = await self.line_reads.read(customer, lines.batch, lines.first)
            return [row] if row else []
        keys = line_key(lines.batch, lines.first), line_key(lines.batch, lines.first + lines.number)
        pages = read_pages(self.table, customer, *keys, columns=COLUMNS)
        return [row async for rows in pages for row in rows]

    async def _ended(self, customer: str, batch: str) -> _End | None:
        """Return how a batch has ended for its jobs; None if it goes on."""
        row = await self.table.read(customer, batch_key(batch))
        if row is None:
            return _End("", MISSING)
        record = read_batch(row)
        if record.state in HARVESTED:
            return _End(record.label, MISSING)
        return _End(record.label, UNREAD) if record.is_overdue else None

    async def _record(self, row: Row, end: _End | None) -> LineRecord:
        values, answer = row.values, await stored_answer(self.blobs, self.container, row)
        if answer is None and end is not None:
            answer = Answer(error_code=end.error_code)
        label = values.get("label") or (end.label if end else "")
        return LineRecord(_batch_of(row), line_number(row.key), values["key"], values["digest"], answer, label)


async def stored_answer(blobs: Blobs, container: str, row: Row) -> Answer | None:
    """Return the answer in a line's row, or in its blob. Raises StorageUnavailable."""
    values, body = row.values, b""
    if values.get("in_blob"):
        name = answer_blob(row.partition, values["job_id"], _batch_of(row), line_number(row.key))
        body = await blobs.read(container, name, _MAX_ANSWER) or b""
    return Answer(error_code=NOT_SENT) if values.get(TAKEN_OUT) else read_answer(values, body)


def _bought_for(attempt: Attempt) -> ReservedFor:
    """Return what the records of the job's lines say of its connection if it ends without that."""
    usage, connection, budgets = attempt.usage, attempt.connection, attempt.budgets
    assert connection is not None  # noqa: S101  # its context has one
    limit = budgets.output_limit if budgets else None
    return ReservedFor(usage.model or "", usage.label or connection.label(), usage.deployment_scope, limit)


def _batch_of(row: Row) -> str:
    return row.key[len("l_") :].rpartition("_")[0]


def parts_of(lines: Iterable[Line]) -> Iterable[Sequence[Line]]:
    """Divide lines into what one transaction and one batch take, each for one operation."""
    part: list[Line] = []
    size = 0
    for line in sorted(lines, key=lambda each: each.operation):
        own = len(line.body) + _LINE_BYTES
        is_full = len(part) == MAX_JOIN_LINES or size + own > MAX_BYTES
        if part and (is_full or part[0].operation != line.operation):
            yield part
            part, size = [], 0
        part.append(line)
        size += own
    if part:
        yield part
