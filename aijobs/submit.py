"""`submit` records jobs in the ledger and queues them: one from the command line, or those in a file, each once."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from aijobs.console import plural, progress_bar, warn
from aijobs.diagnostics import CommandError, with_remedy
from aijobs.job_file import Line, read_job_file
from aijobs.report import Report
from aijobs.settings import open_services
from aijobs.submission_log import SubmissionLog, deployment_name, log_path
from aijobs.submit_plan import MAX_BATCH_NAME, PlannedJob, SubmitPlan, is_batch_name, make_plan
from shared.contract.job import Job
from shared.errors import AlreadyRunning, InvalidJob, JobConflict, RetryLater
from shared.jobs.status import document_of
from shared.jobs.submission import Submissions

_MAX_ERRORS = 20
"""Errors of a file that are printed one by one."""
_BUSY_RETRIES = 3


async def submit(args: argparse.Namespace) -> Report:
    """Run `submit FILE`, or `submit --customer … --action … --prompt …`. The code is 1 if a job was not submitted."""
    if args.file is None:
        return await _submit_one(args)
    for option, value in {"--prompt": args.prompt, "--input": args.input, "--job-id": args.job_id}.items():
        if value is not None:
            raise CommandError(f"{option} can't be used with a file of jobs.")
    return await _submit_file(args)


async def _submit_one(args: argparse.Namespace) -> Report:
    if args.batch is not None or args.check:
        raise CommandError("--batch and --check need a file of jobs.")
    members = _encode_members({"job_id": args.job_id or uuid.uuid4().hex})
    line = Line(1, {**members, **_input_member(args)})
    async with open_services(args.settings) as services:
        plan = make_plan([line], _defaults(args), "", services.outputs.check)
        if plan.errors:
            raise InvalidJob(plan.errors[0][1])
        (planned,) = plan.jobs
        record = await services.submissions.submit(planned.job)
    summary = f"Submitted job {record.job_id} of {record.customer}."
    if record.state != "queued":
        summary = f"Job {record.job_id} of {record.customer} was submitted before; its state is {record.state}."
    return Report(document_of(record), [summary])


async def _submit_file(args: argparse.Namespace) -> Report:
    batch = args.batch or _batch_name(args.file.stem)
    if not is_batch_name(batch):
        raise CommandError(
            f"--batch must be 1 to {MAX_BATCH_NAME} letters, digits, `.`, `_` or `-`, starting with a letter or digit."
        )
    lines = read_job_file(args.file)
    async with open_services(args.settings) as services:
        plan = make_plan(lines, _defaults(args), batch, services.outputs.check)
        if not _report_plan(args, plan):
            return Report({"submitted": 0, "valid": len(plan.jobs), **_errors_document(plan.errors)}, [], 1)
        if args.check:
            summary = f"Checked {plural(len(plan.jobs), 'job')}: no errors. Nothing was submitted."
            return Report({"submitted": 0, "valid": len(plan.jobs), **_errors_document([])}, [summary])
        deployment = deployment_name(services.settings)
        with SubmissionLog(args.file, batch=batch, deployment=deployment) as log:
            logged = {(entry.customer, entry.job_id) for entry in log.entries}
            pending = [planned for planned in plan.jobs if planned.key not in logged]
            run = _Run(services.submissions, log, pending, already_submitted=len(plan.jobs) - len(pending))
            return await run.submit_all(args)


def _report_plan(args: argparse.Namespace, plan: SubmitPlan) -> bool:
    """Print the errors of a plan, and return whether it can be submitted."""
    for number, error in plan.errors[:_MAX_ERRORS]:
        warn(f"{args.file}, line {number}: {error}")
    if len(plan.errors) > _MAX_ERRORS:
        warn(f"… and {plural(len(plan.errors) - _MAX_ERRORS, 'more line')}.")
    if plan.errors:
        warn(
            f"Nothing was submitted: {plural(len(plan.errors), 'invalid line')}, {plural(len(plan.jobs), 'valid job')}."
        )
        return False
    if not plan.jobs:
        warn(f"{args.file} holds no jobs.")
        return False
    return True


@dataclass(slots=True)
class _Run:
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
        for number, error in sorted(self.errors)[:_MAX_ERRORS]:
            warn(f"{args.file}, line {number}: {error}")
        before = f" ({self.already_submitted} submitted before)" if self.already_submitted else ""
        submitted = plural(self.submitted, "job")
        summary = f"Submitted {submitted}{before}. The ids are in {log_path(args.file)}; try `watch {args.file}`."
        left = total - self.submitted - self.already_submitted - len(self.errors)
        document = {
            "submitted": self.submitted,
            "submitted_before": self.already_submitted,
            "not_submitted": left,
            **_errors_document(self.errors),
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
                self.log.add(planned.line, *planned.key)
            advance()

    async def _submit(self, job: Job) -> str:
        for _ in range(_BUSY_RETRIES):
            with contextlib.suppress(AlreadyRunning):
                return (await self.submissions.submit(job)).state
            await asyncio.sleep(1)
        return (await self.submissions.submit(job)).state


def _errors_document(errors: Iterable[tuple[int, str]]) -> dict[str, object]:
    return {"errors": [{"line": line, "message": message} for line, message in sorted(errors)]}


def _defaults(args: argparse.Namespace) -> dict[str, str]:
    members = {name: getattr(args, name) for name in ("customer", "action", "connection", "model")}
    return {name: text for name, text in members.items() if text is not None}


def _input_member(args: argparse.Namespace) -> dict[str, msgspec.Raw]:
    if (args.prompt is None) == (args.input is None):
        raise CommandError("Name a file of jobs, or use --prompt or --input for one job.")
    if args.prompt is not None:
        return _encode_members({"input": {"prompt": args.prompt}})
    try:
        return _encode_members({"input": msgspec.json.decode(args.input)})
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise CommandError("--input is not valid JSON.") from None


def _encode_members(members: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def _batch_name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:MAX_BATCH_NAME] or "jobs"
