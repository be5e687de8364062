"""`watch` shows the states of jobs in a table, and follows them until all jobs have ended."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.live import Live
from rich.text import Text

from aijobs.console import make_table, printable, stderr_console, warn
from aijobs.diagnostics import CommandError
from aijobs.report import Report
from aijobs.selection import READ_CONCURRENCY, JobKey, read_newest, read_some, select_jobs
from aijobs.settings import open_services
from shared.contract.documents import ENDED, STATES, JobDocument
from shared.jobs.status import document_of
from shared.services import Services

MAX_JOB_ROWS = 20
"""More jobs than this get one row per customer instead of one row per job."""
_MAX_ERRORS = 5
_NOT_FOUND = "not_found"


async def watch(args: argparse.Namespace) -> Report:
    """Run `watch FILE` or `watch --customer ID`. The exit code is 1 if a job has failed or was not found."""
    async with open_services(args.settings) as services:
        keys = select_jobs(args, services)
        if keys is None:
            newest = await read_newest(services, args.customer, MAX_JOB_ROWS)
            keys = [JobKey(record.customer, record.job_id) for record in newest]
        if not keys:
            raise CommandError("There are no jobs.")
        jobs = _WatchedJobs(keys)
        await jobs.refresh(services)
        if not args.once:
            await _follow(jobs, services, args.every)
    return Report(jobs.document(), [jobs.render()], 1 if jobs.any_failed else 0)


async def _follow(jobs: _WatchedJobs, services: Services, interval_s: float) -> None:
    if not sys.stderr.isatty():  # a pipe or a file gets one line per change
        last = ""
        while not jobs.all_ended:
            last = _write_change(jobs, last)
            await jobs.wait(services, interval_s)
        return
    # Live can only redraw what fits the window: a taller table is cut here, and printed in full at the end.
    with Live(jobs.render(), console=stderr_console(), auto_refresh=False, transient=True) as live:
        while not jobs.all_ended:
            await jobs.wait(services, interval_s)
            live.update(jobs.render(), refresh=True)


def _write_change(jobs: _WatchedJobs, last: str) -> str:
    line = ", ".join(f"{count} {_words(state)}" for state, count in jobs.count_states().items())
    if line != last:
        warn(line)
    return line


@dataclass(slots=True)
class _WatchedJobs:
    keys: Sequence[JobKey]
    documents: dict[JobKey, JobDocument | None] = field(default_factory=dict)
    refresh_s: float = 0.0
    """How long the last refresh took."""

    @property
    def all_ended(self) -> bool:
        """Whether no job can change any more."""
        return not any(True for _ in self._unfinished())

    @property
    def any_failed(self) -> bool:
        """Whether any job has failed or was not found."""
        return any(document is None or document.status == "failed" for document in self.documents.values())

    async def wait(self, services: Services, interval_s: float) -> None:
        """Wait for the interval, or as long as the last refresh took, and refresh."""
        await asyncio.sleep(max(interval_s, self.refresh_s))
        await self.refresh(services)

    async def refresh(self, services: Services) -> None:
        """Read the records of all jobs that had not ended."""
        start = time.monotonic()
        keys = list(self._unfinished())
        for first in range(0, len(keys), READ_CONCURRENCY):
            some = keys[first : first + READ_CONCURRENCY]
            for key, record in zip(some, await read_some(services, some), strict=True):
                self.documents[key] = None if record is None else document_of(record)
        self.refresh_s = time.monotonic() - start

    def count_states(self) -> dict[str, int]:
        """Return the number of jobs in each state, in the order of a job's life."""
        counts = Counter(_state(document) for document in self.documents.values())
        return {state: counts[state] for state in (*STATES, _NOT_FOUND) if counts[state]}

    def document(self) -> dict[str, object]:
        """Return the number of jobs in each state, the jobs on record in the order of selection, and the others."""
        missing = [key for key, document in self.documents.items() if document is None]
        return {
            "counts": self.count_states(),
            "jobs": [document for key in self.keys if (document := self.documents[key]) is not None],
            "not_found": missing,
        }

    def render(self) -> Group:
        """Return a table with a row per job or per customer, and the most frequent errors."""
        if len(self.keys) <= MAX_JOB_ROWS:
            rows = [_row(key, self.documents[key]) for key in self.keys]
            return Group(make_table(("customer", "job", "status", "attempts", "error"), rows))
        states = list(self.count_states())
        counts: dict[str, Counter[str]] = {}
        for key, document in self.documents.items():
            counts.setdefault(key.customer, Counter())[_state(document)] += 1
        lines = [(name, *(count[state] for state in states), count.total()) for name, count in sorted(counts.items())]
        if len(lines) > 1:
            total = sum(counts.values(), Counter())
            lines.append(("all", *(total[state] for state in states), total.total()))
        table = make_table(("customer", *states, "jobs"), lines, numeric=frozenset({*states, "jobs"}))
        return Group(table, *self._frequent_errors())

    def _frequent_errors(self) -> list[Text]:
        errors = [
            (job.job_id, job.error) for job in self.documents.values() if job is not None and job.error is not None
        ]
        counts = Counter(error.code for _, error in errors)
        lines = []
        for code, count in counts.most_common(_MAX_ERRORS):
            job_id, first = next((job_id, error) for job_id, error in errors if error.code == code)
            lines.append(Text(printable(f"{count} {code}, for example {job_id}: {first.message}")))
        return lines

    def _unfinished(self) -> Iterable[JobKey]:
        for key in self.keys:
            document = self.documents.get(key)
            if key not in self.documents or (document is not None and document.status not in ENDED):
                yield key


def _words(state: str) -> str:
    return state.replace("_", " ")


def _state(document: JobDocument | None) -> str:
    return _NOT_FOUND if document is None else document.status


def _row(key: JobKey, document: JobDocument | None) -> tuple[object, ...]:
    if document is None:
        return key.customer, key.job_id, _words(_NOT_FOUND), None, None
    error = "" if document.error is None else f"{document.error.code}: {document.error.message}"
    return document.customer, document.job_id, document.status, str(document.attempts), error
