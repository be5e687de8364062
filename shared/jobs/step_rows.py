"""The steps of a job as rows of the jobs table: `s_{job_id}~{step}` in the customer's partition. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from shared.contract.usage import Usage
from shared.storage.base import Row

MAX_STEP_BYTES = 60_000
"""Of a step's value in its row; a larger value is in a blob."""
MAX_ADDED_ROWS = 53
"""
Rows of steps and usage that a transaction adds. It holds 100, and 4 MB; the others are the job's own, up to four of the
outbox, and up to 42 of budgets: two buckets and the events of each that applies (MAX_APPLYING in contract.budget).
"""
_MAX_STEPS = 30


@dataclass(frozen=True, slots=True, eq=False)
class StepRecord:
    """A step that is stored, or about to be: its value as JSON, what it consumed, its usage records and other rows."""

    key: str
    value: bytes
    usage: Usage
    in_blob: bool = False
    """The value was too large for a row, and is in a blob. The row has its size instead."""
    usage_rows: Sequence[Row] = ()

    @property
    def blob_size(self) -> int:
        """The size of the value's blob; 0 if there is none, or an earlier version has not said it."""
        return int(self.value or 0) if self.in_blob else 0


def fitting(steps: Sequence[StepRecord], *, beside: int = 0) -> list[StepRecord]:
    """Return the first of the steps, as many as one transaction takes `beside` so many other rows; at least one."""
    rows = beside
    for number, step in enumerate(steps):
        rows += 1 + len(step.usage_rows)
        if number and (rows > MAX_ADDED_ROWS or number == _MAX_STEPS):
            return list(steps[:number])
    return list(steps)


def step_prefix(job_id: str) -> str:
    """Return how the keys of a job's steps begin. No job id has a `~`, so no other job's keys begin so."""
    return f"s_{job_id}~"


def step_row(customer: str, job_id: str, step: StepRecord) -> Row:
    """Return a step as a row."""
    values = {"value": step.value, "in_blob": step.in_blob, "usage": msgspec.json.encode(step.usage).decode()}
    return Row(customer, f"{step_prefix(job_id)}{step.key}", values)


def read_step(row: Row, prefix: str) -> StepRecord:
    """Return the step in a row whose key begins with `prefix`."""
    usage = msgspec.json.decode(row.values["usage"], type=Usage)
    return StepRecord(row.key.removeprefix(prefix), row.values["value"], usage, in_blob=row.values["in_blob"])
