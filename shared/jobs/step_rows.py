"""Steps of a job as rows of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from shared.contract.result import Usage
from shared.jobs.records import Lease
from shared.storage.base import Row

ROWS_BESIDE = 99
"""Rows that a transaction has room for beside the job's own: 100 in all, and 4 MB."""
_STEPS_AT_ONCE = 30


@dataclass(frozen=True, slots=True, eq=False)
class StepRecord:
    """A part of a job that was paid for and is remembered: its value as JSON, what it consumed, its usage rows."""

    key: str
    value: bytes
    usage: Usage
    spilled: bool = False
    """The value was too large for a row, and stands elsewhere."""
    rows: Sequence[Row] = ()


def fitting(steps: Sequence[StepRecord], *, beside: int = 0) -> list[StepRecord]:
    """The first of the steps, as many as one transaction takes `beside` so many other rows; at least one."""
    rows = beside
    for number, step in enumerate(steps):
        rows += 1 + len(step.rows)
        if number and (rows > ROWS_BESIDE or number == _STEPS_AT_ONCE):
            return list(steps[:number])
    return list(steps)


def step_key(claim: Lease, key: str) -> str:
    """The key of a step's row."""
    return f"s_{claim.job_id}~{key}"  # no job id has a `~`, so no job's keys begin like another's


def step_row(claim: Lease, step: StepRecord) -> Row:
    """A step as a row."""
    values = {"value": step.value, "spilled": step.spilled, **msgspec.structs.asdict(step.usage)}
    return Row(claim.customer, step_key(claim, step.key), values)


def read_step(row: Row, first: str) -> StepRecord:
    """The step in a row whose key begins with `first`."""
    usage = Usage(**{name: row.values[name] for name in Usage.__struct_fields__})
    return StepRecord(row.key.removeprefix(first), row.values["value"], usage, spilled=row.values["spilled"])
