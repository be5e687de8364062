"""`submit`: jobs on record and into the queue, one from the command line or those of a file, each once."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from aijobs.console import progress, tell, warn
from aijobs.diagnostics import Refused
from aijobs.job_file import Line, read_batch
from aijobs.settings import opened
from aijobs.submission_log import Acks, acks_of, deployment_of
from aijobs.submit_plan import BATCH_LIMIT, Plan, Planned, is_batch, make_plan
from shared.contract.job import Job
from shared.errors import AlreadyRunning, InvalidJob, JobConflict, RetryLater
from shared.jobs.submission import Submissions
from shared.services import Services

_TOLD = 20
"""Faults that are told one by one."""
_BUSY_TRIES = 3


async def submit(asked: argparse.Namespace) -> int:
    """`submit FILE`, or `submit --customer … --action … --prompt …`."""
    single = {"--prompt": asked.prompt, "--input": asked.input, "--job-id": asked.job_id}
    if asked.file is None:
        return await _submit_one(asked)
    if given := [name for name, value in single.items() if value is not None]:
        raise Refused(f"{given[0]} is for one job, and a file was named.")
    return await _submit_file(asked)


async def _submit_one(asked: argparse.Namespace) -> int:
    if asked.batch is not None or asked.check:
        raise Refused("--batch and --check are for a file, and none was named.")
    members = {"job_id": asked.job_id or uuid.uuid4().hex}
    line = Line(1, {**_raw(members), **_input(asked)})
    async with opened(asked.settings) as services:
        plan = make_plan([line], _defaults(asked), "", _check(services))
        if plan.faults:
            raise InvalidJob(plan.faults[0][1])
        (planned,) = plan.jobs
        record = await _submissions(services).submit(planned.job)
    if record.state != "queued":
        tell(f"Job {record.job_id} of {record.customer} was submitted before: it is {record.state}.")
    else:
        tell(f"Submitted job {record.job_id} of {record.customer}.")
    return 0


async def _submit_file(asked: argparse.Namespace) -> int:
    batch = asked.batch or _stem(asked.file.stem)
    if not is_batch(batch):
        raise Refused(
            f"--batch must be 1 to {BATCH_LIMIT} letters, digits, `.`, `_` or `-`, beginning with a letter or digit."
        )
    lines = read_batch(asked.file)
    async with opened(asked.settings) as services:
        plan = make_plan(lines, _defaults(asked), batch, _check(services))
        if not _is_sound(asked, plan):
            return 1
        if asked.check:
            tell(f"{len(plan.jobs)} jobs, and nothing wrong with them. Nothing was sent.")
            return 0
        to = deployment_of(services.settings)
        with Acks(asked.file, batch=batch, to=to) as acks:
            known = {(ack.customer, ack.job_id) for ack in acks.known}
            left = [planned for planned in plan.jobs if planned.key not in known]
            run = _Run(_submissions(services), acks, left, before=len(plan.jobs) - len(left))
            return await run.all(asked)


def _is_sound(asked: argparse.Namespace, plan: Plan) -> bool:
    for number, fault in plan.faults[:_TOLD]:
        warn(f"{asked.file}, line {number}: {fault}")
    if len(plan.faults) > _TOLD:
        warn(f"… and {len(plan.faults) - _TOLD} lines more.")
    if plan.faults:
        warn(f"{len(plan.faults)} lines are no jobs, {len(plan.jobs)} are. Nothing was sent.")
        return False
    if not plan.jobs:
        warn(f"{asked.file} holds no jobs.")
        return False
    return True


@dataclass(slots=True)
class _Run:
    submissions: Submissions
    acks: Acks
    left: list[Planned]
    before: int
    """Jobs that were submitted before: by the file beside, and then by the ledger."""
    sent: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    stopped: RetryLater | None = None

    async def all(self, asked: argparse.Namespace) -> int:
        """Submits what is left, so many at once, and tells what came of it."""
        with progress() as bar:
            task = bar.add_task("submitting", total=len(self.left) + self.before, completed=self.before)
            waiting = iter(self.left)
            try:
                await asyncio.gather(*(self._some(waiting, lambda: bar.advance(task)) for _ in range(asked.at_once)))
            except asyncio.CancelledError:
                bar.stop()
                warn(f"{self.sent} jobs were submitted. The same command goes on with the others.")
                raise
        for number, fault in sorted(self.faults)[:_TOLD]:
            warn(f"{asked.file}, line {number}: {fault}")
        again = f", {self.before} had been before" if self.before else ""
        tell(f"Submitted {self.sent} jobs{again}. {acks_of(asked.file)} has their ids: `watch {asked.file}`.")
        if self.stopped is not None:
            left = len(self.left) - self.sent - len(self.faults)
            warn(f"{left} jobs were not submitted; the same command goes on with them.")
            raise self.stopped
        if self.faults:
            warn(f"{len(self.faults)} jobs were refused.")
        return 1 if self.faults else 0

    async def _some(self, waiting: Iterator[Planned], advance: Callable[[], None]) -> None:
        for planned in waiting:
            if self.stopped is not None:
                return
            try:
                state = await self._one(planned.job)
            except JobConflict as exc:
                self.faults.append((planned.number, str(exc)))
            except RetryLater as exc:
                self.stopped = exc
                return
            else:
                new = state == "queued"
                self.sent, self.before = self.sent + new, self.before + (not new)
                self.acks.add(planned.number, *planned.key)
            advance()

    async def _one(self, job: Job) -> str:
        for _ in range(_BUSY_TRIES):
            with contextlib.suppress(AlreadyRunning):
                return (await self.submissions.submit(job)).state
            await asyncio.sleep(1)
        return (await self.submissions.submit(job)).state


def _submissions(services: Services) -> Submissions:
    return Submissions(services.settings, services.ledger, services.queues, services.outputs)


def _check(services: Services) -> Callable[[Job], None]:
    outputs = services.outputs
    return lambda job: outputs.check(job.output)


def _defaults(asked: argparse.Namespace) -> dict[str, str]:
    named = {name: getattr(asked, name) for name in ("customer", "action", "connection", "model")}
    return {name: text for name, text in named.items() if text is not None}


def _input(asked: argparse.Namespace) -> dict[str, msgspec.Raw]:
    if (asked.prompt is None) == (asked.input is None):
        raise Refused("Name a file of jobs, or give one job its --prompt or its --input.")
    if asked.prompt is not None:
        return _raw({"input": {"prompt": asked.prompt}})
    try:
        return _raw({"input": msgspec.json.decode(asked.input)})
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise Refused("--input is not valid JSON.") from None


def _raw(members: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:BATCH_LIMIT] or "jobs"
