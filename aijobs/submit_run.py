"""Submits planned jobs concurrently, for `submit` and `resubmit`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aijobs.console import plural, progress_bar, warn
from aijobs.diagnostics import with_remedy
from aijobs.program import command
from aijobs.report import Report
from aijobs.submission_log import Entry, SubmissionLog, log_path
from aijobs.submit_plan import PlannedJob
from shared.contract.job import Job
from shared.errors import AlreadyRunning, JobConflict, RetryLater
from shared.jobs.submission import Submissions

_MAX_ERRORS = 20
"""Errors of a file that are printed one by one."""
_BUSY_RETRIES = 3


@dataclass(slots=True)
class SubmitRun:
    """Submits the jobs of a file, and logs each once it is queued."""

    submissions: Submissions
    log: SubmissionLog
    pending: list[PlannedJob]
    already_submitted: int
    """According to the log and, during the run, to the ledger."""
    submitted: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)
    stopped: RetryLater | None = None

    async def submit_all(self, args: argparse.Namespace) -> Report:
        """Submit the pending jobs concurrently."""
        total = len(self.pending) + self.already_submitted
        with progress_bar() as bar:
            task = bar.add_task("submitting", total=total, completed=self.already_submitted)
            queue = iter(self.pending)
            workers = (self._work(queue, lambda: bar.advance(task)) for _ in range(args.at_once))
            try:
                await asyncio.gather(*workers)
            except asyncio.CancelledError:
                bar.stop()
                warn(f"Submitted {plural(self.submitted, 'job')}. Run the command again to continue.")
                raise
        warn_errors(args.file, self.errors)
        before = f" ({self.already_submitted} submitted before)" if self.already_submitted else ""
        submitted = plural(self.submitted, "job")
        follow = command(f"watch {shlex.quote(str(args.file))}")
        summary = f"Submitted {submitted}{before}. The ids are in {log_path(args.file)}; try {follow}."
        left = total - self.submitted - self.already_submitted - len(self.errors)
        document = {
            "submitted": self.submitted,
            "submitted_before": self.already_submitted,
            "not_submitted": left,
            **errors_document(self.errors),
        }
        if self.errors:
            warn(f"Rejected: {plural(len(self.errors), 'job')}.")
        if self.stopped is not None:
            reason = with_remedy(str(self.stopped))
            warn(f"Not submitted: {plural(left, 'job')}. Run the command again to continue. {reason}")
            document["error"] = {"code": "unavailable", "message": reason}
        return Report(document, [summary], 1 if self.errors or self.stopped is not None else 0)

    async def _work(self, queue: Iterator[PlannedJob], advance: Callable[[], None]) -> None:
        for planned in queue:
            if self.stopped is not None:
                return
            try:
                state = await self._submit(planned.job)
            except JobConflict as exc:
                self.errors.append((planned.line, str(exc)))
            except RetryLater as exc:
                self.stopped = exc
                return
            else:
                if state == "queued":
                    self.submitted += 1
                else:
                    self.already_submitted += 1
                self.log.add(Entry(planned.line, *planned.key, planned.resubmits))
            advance()

    async def _submit(self, job: Job) -> str:
        for _ in range(_BUSY_RETRIES):
            with contextlib.suppress(AlreadyRunning):
                return (await self.submissions.submit(job)).state
            await asyncio.sleep(1)
        return (await self.submissions.submit(job)).state


def warn_errors(file: Path, errors: Iterable[tuple[int, str]]) -> None:
    """Say what is wrong with lines of a file, the first of them one by one."""
    ordered = sorted(errors)
    for number, error in ordered[:_MAX_ERRORS]:
        warn(f"{file}, line {number}: {error}")
    if len(ordered) > _MAX_ERRORS:
        warn(f"… and {plural(len(ordered) - _MAX_ERRORS, 'more line')}.")


def errors_document(errors: Iterable[tuple[int, str]]) -> dict[str, object]:
    """Return what a report's document says about the lines with errors."""
    return {"errors": [{"line": line, "message": message} for line, message in sorted(errors)]}
