"""Batches on record that no worker has made: for what shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.batches.records import BatchRecord, batch_row, new_batch_id
from shared.jobs.lines import Answer, Line, answer_values, line_row
from shared.storage.base import Table

OPENED = datetime(2026, 11, 20, 13, tzinfo=UTC)


async def put_batch(table: Table, customer: str, at: datetime = OPENED, **members: Any) -> str:
    """Put a batch on record that was opened at a time; return its id."""
    deadline = at + timedelta(hours=25)
    group = "default", "gpt-5.5", "chat/completions"
    batch = BatchRecord(customer, new_batch_id(at), "", *group, at, deadline, deadline - timedelta(minutes=20), at)
    batch = replace(batch, **members)
    await table.insert(batch_row(batch))
    return batch.batch_id


async def put_lines(table: Table, customer: str, batch_id: str, answers: dict[str, list[Answer | None]]) -> None:
    """Put the lines of a batch on record: by job, what was answered, None for what was not yet."""
    number = 0
    for job_id, lines in answers.items():
        for answer in lines:
            row = line_row(
                customer, job_id, batch_id, number, Line(f"~{number}", "chat/completions", b'{"a": "secret"}')
            )
            values = answer_values(answer) if answer else {}
            await table.insert(replace(row, values={**row.values, **values}))
            number += 1
