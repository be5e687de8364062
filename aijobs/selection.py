"""Which jobs a command is about, and what is on record of them."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aijobs.diagnostics import Refused
from aijobs.submission_log import deployment_of, read_acks
from shared.contract.documents import JobDocument
from shared.contract.names import NAME_RULE, is_job_id, is_name
from shared.jobs.queries import Records
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of
from shared.services import Services

AT_ONCE = 50
"""Jobs that are read at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """A job by its name."""

    customer: str
    job_id: str


def named_targets(asked: argparse.Namespace, services: Services) -> list[Target] | None:
    """The jobs of a file or the customer's that are named; None: all that the customer has. Raises Refused."""
    if (asked.file is None) == (asked.customer is None):
        raise Refused("Name either a file that was submitted, or a --customer.")
    if asked.file is not None:
        if asked.job:
            raise Refused("--job goes with a --customer, not with a file.")
        acks = read_acks(asked.file, deployment_of(services.settings))
        return [Target(ack.customer, ack.job_id) for ack in acks]
    if not is_name(asked.customer):
        raise Refused(f"--customer must be a customer's name: {NAME_RULE}.")
    for job_id in asked.job:
        if not is_job_id(job_id):
            raise Refused("--job must be a job's id: 1 to 100 letters, digits, `.`, `_` or `-`.")
    return [Target(asked.customer, job_id) for job_id in asked.job] or None


async def look(services: Services, targets: Sequence[Target]) -> list[JobRecord | None]:
    """The records of up to AT_ONCE jobs, in their order; None for one that there is none of."""
    records = Records(services.table)
    return list(await asyncio.gather(*(records.look(one.customer, one.job_id) for one in targets)))


async def records_of(
    services: Services, asked: argparse.Namespace, targets: Sequence[Target] | None
) -> AsyncIterator[tuple[Target, JobRecord | None]]:
    """Each target with its record; without targets, the customer's jobs, newest first."""
    if targets is None:
        after, more = "", True
        while more:
            found, after = await Records(services.table).newest(
                asked.customer, after=after, most=AT_ONCE, wanted=lambda _: True
            )
            for record in found:
                yield Target(record.customer, record.job_id), record
            more = bool(after)
        return
    for first in range(0, len(targets), AT_ONCE):
        some = targets[first : first + AT_ONCE]
        for target, one in zip(some, await look(services, some), strict=True):
            yield target, one


def document(record: JobRecord) -> JobDocument:
    """The status document, as the HTTP route gives it."""
    return document_of(record)
