"""`watch` shows the states of jobs, and follows them until all jobs have ended."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aijobs.console import Screen, can_redraw, terminal_size, warn
from aijobs.job_view import MAX_ROWS, NOT_FOUND, JobView, state_of
from aijobs.report import Report
from aijobs.selection import READ_CONCURRENCY, JobKey, read_newest, read_some, select_jobs
from aijobs.settings import open_services
from shared.contract.documents import ENDED, JobDocument
from shared.jobs.status import document_of
from shared.services import Services


async def watch(args: argparse.Namespace) -> Report:
    """Run `watch FILE` or `watch --customer ID`. The exit code is 1 if a job has failed or was not found."""
    async with open_services(args.settings) as services:
        keys = select_jobs(args, services)
        if keys is None:
            newest = await read_newest(services, args.customer, MAX_ROWS)
            keys = [JobKey(record.customer, record.job_id) for record in newest]
        jobs = _WatchedJobs(keys)
        await jobs.refresh(services)
        if not args.once:
            await _follow(jobs, services, args.every)
    if not keys:
        owner = f"Customer {args.customer}" if args.file is None else str(args.file)
        return Report(jobs.document(), [f"{owner} has no jobs."])
    return Report(jobs.document(), jobs.view().text(), 1 if jobs.any_failed else 0)


async def _follow(jobs: _WatchedJobs, services: Services, interval_s: float) -> None:
    if not can_redraw(sys.stderr):  # a pipe or a file gets one line per change
        last = ""
        while not jobs.all_ended:
            line = jobs.view().summary()
            if line != last:
                warn(line)
            last = line
            await jobs.wait(services, interval_s)
        return
    screen = Screen()
    while not jobs.all_ended:
        size = terminal_size(sys.stderr)
        screen.draw(jobs.view().screen(size), size)
        await jobs.wait(services, interval_s)
    screen.clear()  # the report replaces it; after Ctrl-C it stays


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
        return any(state_of(document) in {"failed", NOT_FOUND} for document in self.documents.values())

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

    def view(self) -> JobView:
        """Return the jobs as they are shown."""
        return JobView([(key, self.documents[key]) for key in self.keys])

    def document(self) -> dict[str, object]:
        """Return the number of jobs in each state, and the jobs in the order of selection."""
        documents = [self.documents[key] for key in self.keys]
        counts = Counter(map(state_of, documents))
        return {
            "counts": {state.replace(" ", "_"): count for state, count in sorted(counts.items())},
            "jobs": [document for document in documents if document is not None],
            "not_found": [key for key in self.keys if self.documents[key] is None],
        }

    def _unfinished(self) -> Iterable[JobKey]:
        for key in self.keys:
            document = self.documents.get(key)
            if key not in self.documents or (document is not None and document.status not in ENDED):
                yield key
