"""
`resubmit` submits the failed jobs of a file again, each under an id that follows from its own.

A job's id is its idempotency key: under the same id, the app returns the failed result again. So the job `a` gets the
id `a.2`, then `a.3`. Since the id doesn't depend on the run, an interrupted command that is repeated doubles nothing.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence

import msgspec

from aijobs.console import plural, warn
from aijobs.diagnostics import InvalidArguments
from aijobs.job_file import read_job_file
from aijobs.program import command
from aijobs.report import Report
from aijobs.selection import READ_CONCURRENCY, JobKey, read_some, warn_not_found
from aijobs.settings import open_services
from aijobs.submission_log import Entry, SubmissionLog, deployment_name, read_log
from aijobs.submit import job_defaults
from aijobs.submit_plan import PlannedJob, make_plan
from aijobs.submit_run import SubmitRun, warn_errors
from shared.errors import JobCancelled, JobError
from shared.jobs.status import document_of
from shared.services import Services

_MAX_ID = 100
_HASH_CHARS = 8


def _codes(kind: type[JobError]) -> Iterator[str]:
    yield kind.code
    for inner in kind.__subclasses__():
        yield from _codes(inner)


_CODES = frozenset(_codes(JobError)) - {JobCancelled.code}
"""What a failed job's error can have."""


async def resubmit(args: argparse.Namespace) -> Report:
    """Run `resubmit FILE`. The exit code is 1 if a failed job was not submitted."""
    if not _CODES.issuperset(args.code):
        raise InvalidArguments(f"--code must be one of {', '.join(sorted(_CODES))}.")
    lines = read_job_file(args.file)
    async with open_services(args.settings) as services:
        deployment = deployment_name(services.settings)
        submitted = read_log(args.file, deployment)
        plan = make_plan(lines, job_defaults(args), submitted.batch, services.outputs.check)
        planned = {job.key: job for job in plan.jobs}
        failed, not_found = await _failed(services, submitted.current(), args.code)
        warn_not_found(not_found)
        used = planned.keys() | {(entry.customer, entry.job_id) for entry in submitted.entries}
        pending = [again for entry in failed if (again := _again(entry, planned, used)) is not None]
        missing = len(failed) - len(pending)
        if missing:
            warn_errors(args.file, plan.errors)
            warn(
                f"Not in {args.file} as submitted: {plural(missing, 'failed job')}. Use the same --customer, --action, "
                f"--connection and --model as then; a line that has changed is a new job for {command('submit')}."
            )
        if not pending:
            document = {"submitted": 0, "submitted_before": 0, "not_submitted": missing, "errors": []}
            text = ["No failed job to submit again."] if not missing else []
            return Report({**document, "not_found": not_found}, text, 1 if missing or not_found else 0)
        with SubmissionLog(args.file, batch=submitted.batch, deployment=deployment) as log:
            report = await SubmitRun(services.submissions, log, pending, already_submitted=0).submit_all(args)
    document = msgspec.to_builtins(report.document) | {"not_found": not_found}
    return Report(document, report.text, 1 if missing or not_found else report.exit_code)


async def _failed(services: Services, entries: Sequence[Entry], codes: Container[str]) -> tuple[list[Entry], int]:
    """Return the entries whose jobs have failed, with one of the codes if there are any, and how many do not exist."""
    failed, not_found = [], 0
    for first in range(0, len(entries), READ_CONCURRENCY):
        some = entries[first : first + READ_CONCURRENCY]
        keys = [JobKey(entry.customer, entry.job_id) for entry in some]
        for entry, record in zip(some, await read_some(services, keys), strict=True):
            not_found += record is None
            document = None if record is None else document_of(record)
            error = document.error if document is not None and document.status == "failed" else None
            if error is not None and (not codes or error.code in codes):
                failed.append(entry)
    return failed, not_found


def _again(
    entry: Entry, planned: Mapping[tuple[str, str], PlannedJob], used: Container[tuple[str, str]]
) -> PlannedJob | None:
    """Return the job to submit for an entry whose job has failed, or None if the file does not have it any more."""
    first_id = entry.resubmits or entry.job_id
    original = planned.get((entry.customer, first_id))
    if original is None:
        return None
    number = 2
    while (entry.customer, job_id := next_id(first_id, number)) in used:
        number += 1
    return PlannedJob(original.line, msgspec.structs.replace(original.job, job_id=job_id), first_id)


def next_id(job_id: str, number: int) -> str:
    """Return the id of a job that is submitted for once more, `number` times in all. A long id is shortened."""
    suffix = f".{number}"
    if len(job_id) + len(suffix) <= _MAX_ID:
        return f"{job_id}{suffix}"
    suffix = f"-{hashlib.sha256(job_id.encode()).hexdigest()[:_HASH_CHARS]}{suffix}"
    return f"{job_id[: _MAX_ID - len(suffix)]}{suffix}"
