"""From the lines of a file to jobs that can be submitted, each with an id that is the same in every run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from aijobs.job_file import Line
from shared.actions.base import action_named
from shared.contract.job import Job, decode_job, named_blob
from shared.errors import InvalidJob
from shared.jobs.fingerprint import fingerprint

MAX_BATCH_NAME = 60
_HASH_CHARS = 20
is_batch_name = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_BATCH_NAME - 1}}}").fullmatch


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job, and its line in the file."""

    line: int
    job: Job
    resubmits: str = ""
    """See Entry."""

    @property
    def key(self) -> tuple[str, str]:
        """Customer and job id."""
        return self.job.customer, self.job.id


@dataclass(frozen=True, slots=True)
class SubmitPlan:
    """The jobs of a file, and the errors of its other lines by line number."""

    jobs: list[PlannedJob]
    errors: list[tuple[int, str]]


def make_plan(
    lines: Iterable[Line], defaults: Mapping[str, str], batch: str, check: Callable[[Job], None] = lambda _: None
) -> SubmitPlan:
    """
    Return the jobs in the lines. `defaults` are the members of jobs that don't set them.

    A job without a `job_id` gets `{batch}-{hash of its content}`; if the content occurs again in the file, `-2`, `-3`
    and so on follow. So the id stays the same if lines are added, removed or moved. `check` raises InvalidJob for
    a job that the deployment would reject.
    """
    plan = SubmitPlan([], [])
    occurrences: Counter[str] = Counter()
    line_of: dict[tuple[str, str], int] = {}
    for line in lines:
        try:
            if line.error:
                raise InvalidJob(line.error)
            planned = PlannedJob(line.number, _make_job(line, defaults, batch, occurrences))
            check(planned.job)
            if planned.key in line_of:
                raise InvalidJob(f"the `job_id` {planned.job.id} is also that of line {line_of[planned.key]}.")
        except InvalidJob as exc:
            plan.errors.append((line.number, str(exc)))
            continue
        line_of[planned.key] = line.number
        plan.jobs.append(planned)
    return plan


def _make_job(line: Line, defaults: Mapping[str, str], batch: str, occurrences: Counter[str]) -> Job:
    members = {name: msgspec.Raw(msgspec.json.encode(text)) for name, text in defaults.items()}
    job = decode_job(msgspec.json.encode({**members, **line.members}), default_id="")
    if named_blob(job) is None and isinstance(job.input, msgspec.Raw):
        action_named(job.action).decode(job.input)
    if job.id:
        return job
    content = fingerprint(job)
    occurrences[content] += 1
    suffix = f"-{occurrences[content]}" if occurrences[content] > 1 else ""
    return msgspec.structs.replace(job, job_id=f"{batch}-{content[:_HASH_CHARS]}{suffix}")
