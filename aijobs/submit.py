"""`submit` records jobs in the ledger and queues them: one from the command line, or those in a file, each once."""

from __future__ import annotations

import argparse
import re
import uuid
from collections.abc import Mapping

import msgspec

from aijobs.console import plural, warn
from aijobs.diagnostics import InvalidArguments
from aijobs.job_file import Line, read_job_file
from aijobs.report import Report
from aijobs.settings import open_services
from aijobs.submission_log import SubmissionLog, deployment_name
from aijobs.submit_plan import MAX_BATCH_NAME, SubmitPlan, is_batch_name, make_plan
from aijobs.submit_run import SubmitRun, errors_document, warn_errors
from shared.errors import InvalidJob
from shared.jobs.status import document_of


async def submit(args: argparse.Namespace) -> Report:
    """Run `submit FILE`, or `submit --customer … --action … --prompt …`. The code is 1 if a job was not submitted."""
    if args.file is None:
        return await _submit_one(args)
    for option, value in {"--prompt": args.prompt, "--input": args.input, "--job-id": args.job_id}.items():
        if value is not None:
            raise InvalidArguments(f"{option} can't be used with a file of jobs.")
    return await _submit_file(args)


async def _submit_one(args: argparse.Namespace) -> Report:
    if args.batch is not None or args.check:
        raise InvalidArguments("--batch and --check need a file of jobs.")
    members = _encode_members({"job_id": args.job_id or uuid.uuid4().hex})
    line = Line(1, {**members, **_input_member(args)})
    async with open_services(args.settings) as services:
        plan = make_plan([line], job_defaults(args), "", services.outputs.check)
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
        raise InvalidArguments(
            f"--batch must be 1 to {MAX_BATCH_NAME} letters, digits, `.`, `_` or `-`, starting with a letter or digit."
        )
    lines = read_job_file(args.file)
    async with open_services(args.settings) as services:
        plan = make_plan(lines, job_defaults(args), batch, services.outputs.check)
        if not _report_plan(args, plan):
            return Report({"submitted": 0, "valid": len(plan.jobs), **errors_document(plan.errors)}, [], 1)
        if args.check:
            summary = f"Checked {plural(len(plan.jobs), 'job')}: no errors. Nothing was submitted."
            return Report({"submitted": 0, "valid": len(plan.jobs), **errors_document([])}, [summary])
        deployment = deployment_name(services.settings)
        with SubmissionLog(args.file, batch=batch, deployment=deployment) as log:
            logged = {(entry.customer, entry.job_id) for entry in log.entries}
            pending = [planned for planned in plan.jobs if planned.key not in logged]
            run = SubmitRun(services.submissions, log, pending, already_submitted=len(plan.jobs) - len(pending))
            return await run.submit_all(args)


def _report_plan(args: argparse.Namespace, plan: SubmitPlan) -> bool:
    """Print the errors of a plan, and return whether it can be submitted."""
    warn_errors(args.file, plan.errors)
    if plan.errors:
        warn(
            f"Nothing was submitted: {plural(len(plan.errors), 'invalid line')}, {plural(len(plan.jobs), 'valid job')}."
        )
        return False
    if not plan.jobs:
        warn(f"{args.file} holds no jobs.")
        return False
    return True


def job_defaults(args: argparse.Namespace) -> dict[str, str]:
    """Return the members of jobs without them."""
    members = {name: getattr(args, name) for name in ("customer", "action", "connection", "model")}
    return {name: text for name, text in members.items() if text is not None}


def _input_member(args: argparse.Namespace) -> dict[str, msgspec.Raw]:
    if (args.prompt is None) == (args.input is None):
        raise InvalidArguments("Name a file of jobs, or use --prompt or --input for one job.")
    if args.prompt is not None:
        return _encode_members({"input": {"prompt": args.prompt}})
    try:
        return _encode_members({"input": msgspec.json.decode(args.input)})
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise InvalidArguments("--input is not valid JSON.") from None


def _encode_members(members: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def _batch_name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:MAX_BATCH_NAME] or "jobs"
