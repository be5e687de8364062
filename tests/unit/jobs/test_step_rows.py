"""Steps as rows, and how many of them one transaction takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.result import Usage
from shared.jobs.step_rows import MAX_ADDED_ROWS, StepRecord, fitting, read_step, step_prefix, step_row
from shared.storage.base import Row
from tests.support.rows import every_row

ROW = Row("acme", "u_1", {})


def steps_of(*rows: int) -> list[StepRecord]:
    """Steps with so many usage records each."""
    return [StepRecord(f"{n:04}", b"", Usage(), usage_rows=[ROW] * number) for n, number in enumerate(rows)]


@pytest.mark.parametrize("in_blob", [False, True])
def test_a_step_is_read_as_it_was_written(in_blob: bool):
    """Its value, its usage and where the value is; its usage records are rows of their own."""
    usage = Usage(calls=1, input_tokens=2, output_tokens=3, cached_tokens=4, reasoning_tokens=5, images=6)
    row = step_row("acme", "job-1", StepRecord("0007", b'"x"', usage, in_blob=in_blob, usage_rows=[ROW]))

    step = read_step(row, step_prefix("job-1"))

    assert ("acme", "s_job-1~0007") == (row.partition, row.key)
    assert ("0007", b'"x"', usage, in_blob, ()) == (step.key, step.value, step.usage, step.in_blob, step.usage_rows)


def test_no_other_jobs_steps_have_the_prefix():
    """A job id has no `~`, so a job whose id begins alike has another prefix."""
    assert not step_row("acme", "job-1.2", StepRecord("0001", b"", Usage())).key.startswith(step_prefix("job-1"))


@every_row(
    ("rows", "beside", "expected"),
    [(0, 0, 30), (1, 0, 26), (2, 0, 17), (97, 0, 1), (200, 0, 1), (1, 40, 6), (1, 38, 7), (3, 40, 3), (97, 1, 1)],
)
def test_a_transaction_takes_as_many_steps_as_fit(rows: int, beside: int, expected: int):
    """Up to 30 steps, and up to 53 rows beside the job's own, of which each step needs one."""
    assert expected == len(fitting(steps_of(*[rows] * 40), beside=beside))


@given(st.lists(st.integers(0, 120), max_size=50), st.integers(0, 99))
def test_steps_fit_in_their_order(rows: list[int], beside: int):
    """The first steps are taken, at least one; more than one only if they fit; and as many as fit, up to 30."""
    steps = steps_of(*rows)

    taken = fitting(steps, beside=beside)

    def size(number: int) -> int:
        return beside + sum(1 + len(step.usage_rows) for step in steps[:number])

    number = len(taken)
    assert steps[:number] == taken
    assert number >= min(1, len(steps))
    assert number <= 1 or (size(number) <= MAX_ADDED_ROWS and number <= 30)
    assert number == len(steps) or number == 30 or size(number + 1) > MAX_ADDED_ROWS
