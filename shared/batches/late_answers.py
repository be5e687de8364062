"""
The books of a batch that was read only after its jobs had gone on without it: what was answered is billed.

Such a line is on record as `unanswered`, by a placeholder. Once its answer is read, that is withdrawn, and the call is
recorded as `lost`: it was answered, and its job does not have the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.batches.batch_lines import line_rows
from shared.batches.job_lines import stored_answer
from shared.batches.parts import BatchParts
from shared.batches.records import BatchRecord
from shared.billing.reserved_amounts import read_reserved_for
from shared.billing.usage import Call, as_lost
from shared.billing.usage_records import (
    RECORD,
    SINCE,
    RecordLabels,
    attempt_of,
    is_placeholder,
    metered_key,
    usage_rows,
)
from shared.clock import now
from shared.contract.result import ConnectionLabel
from shared.jobs.line_calls import call_of_line
from shared.jobs.lines import TAKEN_OUT, LineRecord, late, line_number, metered_as, placeholder_ending
from shared.jobs.records import job_key
from shared.storage.base import Row, Table
from shared.storage.bulk import gather_limited

_COLUMNS = ("job_id", "label", TAKEN_OUT, "status", "request_id", "error_code", "error", "answer", "in_blob")
_TOGETHER = 100
"""Lines that are looked at at the same time."""


@dataclass(frozen=True, slots=True)
class LateAnswers:
    """Records them. Repeating it records nothing again."""

    parts: BatchParts

    async def record(self, batch: BatchRecord) -> bool:
        """
        Record the answers that no job will have; return whether there can be no others.

        A job that has not ended may still take its answers, or say that it could not. Raises StorageUnavailable.
        """
        rows, are_done = list[Row](), True
        async for row in line_rows(self.parts.table, batch, *_COLUMNS):
            if row.values.get("status") is not None and not row.values.get(TAKEN_OUT):
                rows.append(row)
            if len(rows) == _TOGETHER:
                are_done &= await self._record(batch, rows)
                rows = []
        return await self._record(batch, rows) and are_done

    async def _record(self, batch: BatchRecord, rows: Sequence[Row]) -> bool:
        return all(await gather_limited(self._record_line(batch, row) for row in rows))

    async def _record_line(self, batch: BatchRecord, row: Row) -> bool:
        table, number = self.parts.table, line_number(row.key)
        own = metered_as(batch.batch_id, number)
        marker = await table.read(row.partition, metered_key(own))
        if marker is None:
            job = await table.read(row.partition, job_key(row.values["job_id"]))
            return job is None or job.values["state"] == "done"
        placeholder = Row(row.partition, marker.values[RECORD], {})
        if not is_placeholder(placeholder):
            return True
        stored = await table.read(row.partition, placeholder.key)
        if stored is None:
            return True
        answer = await stored_answer(self.parts.blobs, self.parts.settings.results_container, row)
        call = call_of_line(LineRecord(batch.batch_id, number, "", "", answer))
        if call is None or call.outcome == "answered":
            await self.parts.ledger.append_usage(_correction(stored, own, call))
        return True


def _correction(placeholder: Row, own: str, call: Call | None) -> list[Row]:
    """Return the record of a call, and what withdraws its placeholder. `call`: None if it is not billed."""
    values, at = placeholder.values, now()
    identity = attempt_of(placeholder).removesuffix(placeholder_ending(own)).removeprefix(values["job_id"])
    connection = ConnectionLabel(
        name=values["connection"],
        source=values["source"],
        provider=values["provider"],
        billed_to=values["billed_to"],
    )
    labels = RecordLabels(
        placeholder.partition,
        values["job_id"],
        values["action"],
        values["model"],
        connection,
        values.get("deployment_scope"),
        identity.strip("_"),
    )
    ending = placeholder_ending(own)
    records = [] if call is None else paid_rows(labels, replace(call, metered_as=late(own)), ending)
    return [*records, Row(placeholder.partition, labels.key("m", at, ending), {"at": at, SINCE: values["at"]})]


def paid_rows(labels: RecordLabels, call: Call, ending: str) -> list[Row]:
    """Return the record of a call that was answered, and whose response no job has. `ending`: that of its key."""
    calls = as_lost([call]) if call.outcome == "answered" else [call]
    return usage_rows(labels, calls, now(), suffix=f"{ending}.0")


async def job_labels(
    table: Table, batch: BatchRecord, job_id: str, connection: ConnectionLabel | None
) -> RecordLabels | None:
    """Return what usage records say of a job's line; None if the job is gone. Raises StorageUnavailable."""
    row = await table.read(batch.customer, job_key(job_id))
    if row is None:
        return None
    bought_for = read_reserved_for(row.values.get("reserved_for", ""))
    connection = connection or (bought_for.connection if bought_for else None)
    if connection is None:
        return None
    return RecordLabels(
        batch.customer,
        job_id,
        row.values.get("action", ""),
        bought_for.model if bought_for else batch.model,
        connection,
        bought_for.deployment_scope if bought_for else None,
        row.values.get("incarnation", ""),
    )
