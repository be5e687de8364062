"""Jobs as `watch` shows them: what runs and what has failed first, what has ended last."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from aijobs.selection import JobKey
from aijobs.table import Table, height_of, make_table
from shared.clock import now
from shared.contract.documents import STATES, JobDocument

MAX_ROWS = 20
"""Rows of a table of jobs or customers, unless more jobs are running."""
NOT_FOUND = "not found"
_MAX_ERRORS = 5
_ORDER = ("running", "failed", NOT_FOUND, "waiting", "queued", "partial", "cancelled", "succeeded")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class JobView:
    """Jobs in the order of selection; those that don't exist are None."""

    jobs: Sequence[tuple[JobKey, JobDocument | None]]

    def summary(self) -> str:
        """Return the number of jobs in each state, in the order of a job's life."""
        counts = Counter(state_of(document) for _, document in self.jobs)
        return ", ".join(f"{counts[state]} {state}" for state in (*STATES, NOT_FOUND) if counts[state])

    def text(self) -> list[str | Table]:
        """Return all that is printed once: counts, the jobs that matter, the most frequent errors."""
        if len(self.jobs) <= MAX_ROWS:
            return [self.summary(), self._table(len(self.jobs)), *self._frequent_errors()]
        succeeded = sum(state_of(document) == "succeeded" for _, document in self.jobs)
        count = min(max(MAX_ROWS, self._running), len(self.jobs) - succeeded)
        customers = [self._customers()] if self._has_several_customers else []
        table = [self._table(count)] if count else []
        rest = self._rest(count) if count else []
        return [self.summary(), *customers, *table, *rest, *self._frequent_errors()]

    def screen(self, size: os.terminal_size) -> list[str | Table]:
        """
        Return what fits a screen of that size: counts, as many rows as possible, the most frequent errors.

        All running jobs come first. If there are more than rows, several share a line.
        """
        errors = self._frequent_errors()[:2]
        for shown in (errors, []):  # running jobs need the room more than errors do
            for count in range(min(len(self.jobs), size.lines), max(self._running, 1) - 1, -1):
                text: list[str | Table] = [self.summary(), self._table(count), *self._rest(count), *shown]
                if height_of(text, size.columns) < size.lines:
                    return text
        for count in range(self._running, 0, -1):
            text = [self.summary(), *self._running_lines(count, size.columns), *self._rest(count)]
            if height_of(text, size.columns) < size.lines:
                return text
        return [self.summary()]

    @cached_property
    def _sorted(self) -> list[tuple[JobKey, JobDocument | None]]:
        return sorted(self.jobs, key=lambda job: _rank(job[1]))

    @property
    def _running(self) -> int:
        return sum(state_of(document) == "running" for _, document in self.jobs)

    @property
    def _has_several_customers(self) -> bool:
        return len({key.customer for key, _ in self.jobs}) > 1

    def _table(self, count: int) -> Table:
        rows = [_row(key, document) for key, document in self._sorted[:count]]
        return make_table(("customer", "job", "status", "time", "attempts", "error"), rows)

    def _running_lines(self, count: int, width: int) -> list[str]:
        cells = [f"{key.job_id} {_time(job)}" for key, job in self._sorted[:count] if job is not None]
        widest = max(map(len, cells)) + 2
        a_line = max(width // widest, 1)
        lines = [cells[first : first + a_line] for first in range(0, len(cells), a_line)]
        return ["".join(cell.ljust(widest) for cell in line).rstrip() for line in lines]

    def _rest(self, count: int) -> list[str]:
        rest = self._sorted[count:]
        return [f"And {len(rest)} more: {JobView(rest).summary()}."] if rest else []

    def _customers(self) -> Table:
        counts: dict[str, Counter[str]] = {}
        for key, document in self.jobs:
            counts.setdefault(key.customer, Counter())[state_of(document)] += 1
        total = sum(counts.values(), Counter())
        states = [state for state in (*STATES, NOT_FOUND) if total[state]]
        by_failures = sorted(counts.items(), key=lambda item: (-item[1]["failed"], item[0]))
        lines = [*by_failures[:MAX_ROWS], ("all", total)]
        rows = [(name, *(count[state] for state in states), count.total()) for name, count in lines]
        return make_table(("customer", *states, "jobs"), rows, numeric=frozenset({*states, "jobs"}))

    def _frequent_errors(self) -> list[str]:
        errors = [(job.job_id, job.error) for _, job in self._sorted if job is not None and job.error is not None]
        counts = Counter(error.code for _, error in errors)
        sentences = []
        for code, count in counts.most_common(_MAX_ERRORS):
            job_id, first = next((job_id, error) for job_id, error in errors if error.code == code)
            sentences.append(f"{count} {code}, for example {job_id}: {first.message}")
        return sentences


def state_of(document: JobDocument | None) -> str:
    """Return the state of a job, or `not found`."""
    return NOT_FOUND if document is None else document.status


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as "12s", "5m", "3h" or "2d"."""
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{letter}"
    return f"{max(seconds, 0) // 1:.0f}s"


def _rank(document: JobDocument | None) -> tuple[int, float]:
    """Return what jobs are sorted by: state, then what has been in it longest or, of what has ended, what is newest."""
    state = state_of(document)
    since = _since(document)
    age_s = 0.0 if since is None else (now() - since).total_seconds()
    return _ORDER.index(state), age_s if document is not None and document.finished_at else -age_s


def _since(document: JobDocument | None) -> datetime | None:
    """Return when a job ended, when its newest attempt started or, before all attempts, when it was submitted."""
    if document is None:
        return None
    return datetime.fromisoformat(document.finished_at or document.started_at or document.submitted_at)


def _time(document: JobDocument) -> str:
    if document.due_at is not None:
        return f"in {duration((datetime.fromisoformat(document.due_at) - now()).total_seconds())}"
    since = _since(document)
    return "" if since is None else duration((now() - since).total_seconds())


def _row(key: JobKey, document: JobDocument | None) -> tuple[object, ...]:
    if document is None:
        return key.customer, key.job_id, NOT_FOUND, None, None, None
    attempts = str(document.attempts) if document.attempts > 1 else None
    code = document.error.code if document.error else "in a batch" if document.batch else None
    return document.customer, document.job_id, document.status, _time(document), attempts, code
