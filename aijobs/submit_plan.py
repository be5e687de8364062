"""Lines to jobs that can be submitted, each with an id that is the same in every run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from aijobs.job_file import Line
from shared.actions.base import action_named
from shared.contract.job import Job, decode_job, named_blob, request_hash
from shared.errors import InvalidJob

BATCH_LIMIT = 60
_HASH = 20
is_batch = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{BATCH_LIMIT - 1}}}").fullmatch


@dataclass(frozen=True, slots=True)
class Planned:
    """A job, and the line that it stands in."""

    number: int
    job: Job

    @property
    def key(self) -> tuple[str, str]:
        """Customer and id."""
        return self.job.customer, self.job.id


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs of a file, and what is wrong with the other lines, by number."""

    jobs: list[Planned]
    faults: list[tuple[int, str]]


def make_plan(
    lines: Iterable[Line], defaults: Mapping[str, str], batch: str, check: Callable[[Job], None] = lambda _: None
) -> Plan:
    """
    The jobs in the lines. `defaults` are members of jobs that do not have them.

    A job without a `job_id` gets `{batch}-{what it asks for}`, and where a file asks for the same more than once,
    `-2`, `-3` behind it: the id stays when lines come, go or move. `check` raises InvalidJob for what the
    deployment would refuse.
    """
    plan = Plan([], [])
    asked: Counter[str] = Counter()
    seen: dict[tuple[str, str], int] = {}
    for line in lines:
        try:
            if line.fault:
                raise InvalidJob(line.fault)
            planned = Planned(line.number, _job(line, defaults, batch, asked))
            check(planned.job)
            if planned.key in seen:
                raise InvalidJob(f"the id {planned.job.id} is that of line {seen[planned.key]}.")
        except InvalidJob as exc:
            plan.faults.append((line.number, str(exc)))
            continue
        seen[planned.key] = line.number
        plan.jobs.append(planned)
    return plan


def _job(line: Line, defaults: Mapping[str, str], batch: str, asked: Counter[str]) -> Job:
    given = {name: msgspec.Raw(msgspec.json.encode(text)) for name, text in defaults.items()}
    job = decode_job(msgspec.json.encode({**given, **line.members}), default_id="")
    if job.put_back is not None:
        raise InvalidJob("`_put_back` is not a known member.")
    if named_blob(job) is None and isinstance(job.input, msgspec.Raw):
        action_named(job.action).decode(job.input)
    if job.id:
        return job
    what = request_hash(job)
    asked[what] += 1
    again = f"-{asked[what]}" if asked[what] > 1 else ""
    return msgspec.structs.replace(job, job_id=f"{batch}-{what[:_HASH]}{again}")
