"""
`poison` lists the jobs that the host gave up, with what the ledger knows of them, and requeues them.

The app handles these messages itself (`dead_letter_job`), so one stays only if the app is not running, or failed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import msgspec

from aijobs.console import plural, warn
from aijobs.diagnostics import CommandError
from aijobs.queues import MAX_PEEKED, Message, Queue, open_queue
from aijobs.report import Report
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.clock import rfc3339
from shared.errors import AlreadyRunning, InvalidJob
from shared.jobs.envelope import QueuedJob, decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.records import JobRecord
from shared.services import Services


@dataclass(frozen=True, slots=True)
class _PoisonedJob:
    """A message, the job in it and the job's record, as far as they exist. `reason` says why the job is here."""

    message: Message
    job: QueuedJob | None
    record: JobRecord | None
    reason: str


async def list_all(args: argparse.Namespace) -> Report:
    """Run `poison list`."""
    async with open_services(args.settings) as services:
        name = services.settings.poison_queue
        async with open_queue(services, name) as queue:
            count, _ = await queue.count()
            jobs = [await _read(services, message) for message in await queue.peek()]
    document = {"queue": name, "count": count, "messages": [_document(job) for job in jobs]}
    if not jobs:
        hidden = f"{name} holds {plural(count, 'message')}, hidden while other readers have them."
        return Report(document, [hidden if count else f"{name} is empty."])
    columns = ("message", "since", "customer", "job", "action", "status", "reason")
    table = make_table(columns, [_row(job) for job in jobs], prose="reason")
    more = len(jobs) == MAX_PEEKED and count > MAX_PEEKED
    return Report(
        document, [table, *([f"These are the first {MAX_PEEKED} of about {count} messages."] if more else [])]
    )


async def retry(args: argparse.Namespace) -> Report:
    """Run `poison retry`. The exit code is 1 if a selected message could not be requeued, or if there is none."""
    requeued, failed = 0, []
    async with open_services(args.settings) as services:
        settings = services.settings
        async with open_queue(services, settings.poison_queue) as queue:
            skipped: list[Message] = []
            async for message in queue.receive():
                if any(message.id == other.id for other in skipped):  # visible again: all have been seen
                    break
                poisoned = await _read(services, message)
                if not _is_selected(poisoned, args):
                    skipped.append(message)
                    continue
                try:
                    await _requeue(services, queue, poisoned)
                except CommandError as exc:
                    warn(f"{message.id}: {exc}")
                    skipped.append(message)
                    failed.append({"message": message.id, "reason": str(exc)})
                else:
                    requeued += 1
            for message in skipped:
                await queue.release(message)
    if not requeued and not failed:
        warn(f"{settings.poison_queue} holds no such message.")
    summary = f"Requeued {plural(requeued, 'job')} to {settings.jobs_queue}."
    return Report({"requeued": requeued, "failed": failed}, [summary], 0 if requeued and not failed else 1)


async def _read(services: Services, message: Message) -> _PoisonedJob:
    try:
        job = decode_queued_job(message.body, default_id=message.id)
    except InvalidJob as exc:
        return _PoisonedJob(message, None, None, str(exc))
    if job.id == message.id:  # the host's move gave the message a new id; the job is found by its content
        try:
            job_id = await services.queries.find_unfinished(job.customer, fingerprint(job))
        except AlreadyRunning as exc:
            return _PoisonedJob(message, job, None, str(exc))
        job = msgspec.structs.replace(job, job_id=job_id or job.id)
    record = await services.queries.get(job.customer, job.id)
    return _PoisonedJob(message, job, record, _reason(record))


def _reason(record: JobRecord | None) -> str:
    if record is None:
        return "No attempt was recorded."
    if record.state == "done":
        return "The job has ended. A retry publishes its stored result again."
    return record.reason or "Its attempts recorded no reason."


def _row(poisoned: _PoisonedJob) -> tuple[str | None, ...]:
    message, job, record = poisoned.message, poisoned.job, poisoned.record
    state = None if record is None else record.state
    names = (None, None, None) if job is None else (job.customer, job.id, job.action)
    return (message.id, rfc3339(message.inserted_at)[:19], *names, state, poisoned.reason)


def _document(poisoned: _PoisonedJob) -> dict[str, object]:
    names = ("message", "inserted_at", "customer", "job_id", "action", "status", "reason")
    values = zip(names, _row(poisoned), strict=True)
    return {name: value for name, value in values if value is not None}


def _is_selected(poisoned: _PoisonedJob, args: argparse.Namespace) -> bool:
    if args.message is not None:
        return bool(poisoned.message.id == args.message)
    if args.customer is not None:
        return poisoned.job is not None and poisoned.job.customer == args.customer
    return True


async def _requeue(services: Services, queue: Queue, poisoned: _PoisonedJob) -> None:
    """Move a job to the jobs queue. Raises CommandError if it has to stay."""
    body = await _prepare(services, poisoned)
    # Send first: after a crash in between, both queues hold the job, and the ledger runs it once.
    await services.queues.send(services.settings.jobs_queue, body)
    await queue.delete(poisoned.message)


async def _prepare(services: Services, poisoned: _PoisonedJob) -> bytes:
    """Return the job's message with its original id and submission time, and reset the job's failure count."""
    job, record = poisoned.job, poisoned.record
    if job is None:
        raise CommandError(f"The message is not a valid job and stays in the queue. {poisoned.reason}")
    submitted_at = poisoned.message.inserted_at
    if job.envelope is not None:
        submitted_at = job.envelope.submitted_at
    if record is not None:
        submitted_at = record.submitted_at
        if record.state != "done":
            try:  # without this, the ledger would give the job up again at once
                await services.updates.reset_failed_attempts(record.customer, record.job_id)
            except AlreadyRunning:
                raise CommandError("A worker is running the job at the moment. Try again later.") from None
    return await services.outputs.message_of(job, submitted_at=submitted_at, traceparent=None)
