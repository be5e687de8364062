"""
`poison`: jobs that the host gave up, with what the ledger knows of them, and put back into the jobs queue.

The app answers them by itself (`dead_letter_job`), so a message stands there only where that does not run, or failed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import msgspec

from aijobs.console import show, table, tell, warn
from aijobs.diagnostics import Refused
from aijobs.queues import PEEKED, Message, opened_queue
from aijobs.settings import opened
from shared.clock import rfc3339
from shared.contract.job import Job, decode_job, encode_job, request_hash
from shared.errors import AlreadyRunning, InvalidJob
from shared.jobs.queries import Records
from shared.jobs.records import JobRecord
from shared.services import Services


@dataclass(frozen=True, slots=True)
class _Found:
    """A message, the job in it and what is on record of it, as far as there are such."""

    message: Message
    job: Job | None
    record: JobRecord | None
    why: str


async def list_all(asked: argparse.Namespace) -> int:
    """`poison list`."""
    async with opened(asked.settings) as services:
        name = services.settings.poison_queue
        async with opened_queue(services, name) as queue:
            count, _ = await queue.count()
            found = [await _look(services, message) for message in await queue.peek()]
    if not found:
        tell(f"Nothing stands in {name}." if not count else f"{count} messages stand in {name}, all taken just now.")
        return 0
    show(table(("message", "since", "customer", "job", "action", "status", "why"), [_row(one) for one in found]))
    if len(found) == PEEKED and count > PEEKED:
        tell(f"These are the first {PEEKED} of about {count}.")
    return 0


async def retry(asked: argparse.Namespace) -> int:
    """`poison retry`: 1 where a message could not be put back."""
    back = kept = 0
    async with opened(asked.settings) as services:
        settings = services.settings
        async with opened_queue(services, settings.poison_queue) as queue:
            passed: list[Message] = []
            async for message in queue.take():
                if any(message.id == one.id for one in passed):  # they begin to come back
                    break
                found = await _look(services, message)
                if not _is_wanted(found, asked):
                    passed.append(message)
                    continue
                try:
                    body = await _made_ready(services, found)
                except Refused as exc:
                    warn(f"{message.id}: {exc}")
                    passed.append(message)
                    kept += 1
                    continue
                # First in, then out: whoever dies between the two leaves it in both, and the ledger runs it once.
                await services.queues.send(settings.jobs_queue, body)
                await queue.delete(message)
                back += 1
            for message in passed:
                await queue.show_again(message)
    tell(f"Put {back} jobs back into {settings.jobs_queue}.")
    if not back and not kept:
        warn(f"No such message stands in {settings.poison_queue}.")
    return 0 if back and not kept else 1


async def _look(services: Services, message: Message) -> _Found:
    if message.body is None:
        return _Found(message, None, None, "Its text is not base64, so nobody can decode it.")
    try:
        job = decode_job(message.body, default_id=message.id)
    except InvalidJob as exc:
        return _Found(message, None, None, str(exc))
    if job.id == message.id:  # the host gave it this id when it moved it: its first one is only known by what it asks
        try:
            known = await services.ledger.find_unfinished(job.customer, request_hash(job))
        except AlreadyRunning as exc:
            return _Found(message, job, None, str(exc))
        job = msgspec.structs.replace(job, job_id=known or job.id)
    record = await Records(services.table).look(job.customer, job.id)
    if record is None:
        return _Found(message, job, None, "It never came to a run.")
    return _Found(message, job, record, _why(record))


def _why(record: JobRecord) -> str:
    if record.state == "done":
        return "It has ended, and its result was told, or is told once more when it is put back."
    return record.reason or "Its runs left no reason."


def _row(found: _Found) -> tuple[str | None, ...]:
    job, record = found.job, found.record
    state = None if record is None else record.state
    named = (None, None, None) if job is None else (job.customer, job.id, job.action)
    return (found.message.id, rfc3339(found.message.inserted_at)[:19], *named, state, found.why)


def _is_wanted(found: _Found, asked: argparse.Namespace) -> bool:
    if asked.message is not None:
        return bool(found.message.id == asked.message)
    if asked.customer is not None:
        return found.job is not None and found.job.customer == asked.customer
    return True


async def _made_ready(services: Services, found: _Found) -> bytes:
    """The job's message under its own id and first time, its failed runs forgiven, so that it is run again."""
    if found.job is None:
        raise Refused(f"It is no job, and stays: {found.why}")
    submitted_at = found.message.inserted_at
    if found.job.put_back is not None:
        submitted_at = found.job.put_back.submitted_at
    if found.record is not None:
        submitted_at = found.record.submitted_at
        if found.record.state != "done":
            try:  # five runs that came to nothing end a job; whoever puts it back wants it run
                await services.ledger.forgive(found.record.customer, found.record.job_id)
            except AlreadyRunning:
                raise Refused("A worker has it just now: try again.") from None
    return encode_job(found.job, submitted_at=submitted_at)
