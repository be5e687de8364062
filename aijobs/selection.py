"""The jobs that a command selects, and their records."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aijobs.console import plural, warn
from aijobs.diagnostics import InvalidArguments
from aijobs.submission_log import deployment_name, read_log
from shared.contract.names import NAME_RULE, is_job_id, is_name
from shared.jobs.records import JobRecord
from shared.services import Services

READ_CONCURRENCY = 50


@dataclass(frozen=True, slots=True)
class JobKey:
    """The key of a job."""

    customer: str
    job_id: str


def select_jobs(args: argparse.Namespace, services: Services) -> list[JobKey] | None:
    """Return the jobs of a file, or the customer's that are named; None means all of them. Raises InvalidArguments."""
    if (args.file is None) == (args.customer is None):
        raise InvalidArguments("Name either a file that was submitted, or a --customer.")
    if args.file is not None:
        if args.job:
            raise InvalidArguments("--job needs a --customer and no file.")
        submitted = read_log(args.file, deployment_name(services.settings))
        return [JobKey(entry.customer, entry.job_id) for entry in submitted.current()]
    if not is_name(args.customer):
        raise InvalidArguments(f"--customer must be a customer's id: {NAME_RULE}.")
    for job_id in args.job:
        if not is_job_id(job_id):
            raise InvalidArguments("--job must be a job's id: 1 to 100 letters, digits, `.`, `_` or `-`.")
    return [JobKey(args.customer, job_id) for job_id in dict.fromkeys(args.job)] or None


def describe_selection(args: argparse.Namespace) -> tuple[str, str]:
    """Return the word that confirms a command on these jobs, and what it is."""
    if args.file is not None:
        return args.file.name, "the file's name"
    return args.customer, "the customer's id"


def warn_not_found(count: int) -> None:
    """Say how many selected jobs do not exist, if any."""
    if count:
        warn(f"Not found: {plural(count, 'job')}, never submitted or past the retention period.")


async def read_newest(services: Services, customer: str, count: int) -> list[JobRecord]:
    """Return the records of a customer's newest jobs, newest first."""
    records, _ = await services.queries.newest(customer, after="", limit=count, wanted=lambda _: True)
    return records


async def read_some(services: Services, keys: Sequence[JobKey]) -> list[JobRecord | None]:
    """Return the records of up to READ_CONCURRENCY jobs, in their order; None for a job without a record."""
    queries = services.queries
    return list(await asyncio.gather(*(queries.get(key.customer, key.job_id) for key in keys)))


async def read_selection(
    services: Services, args: argparse.Namespace, keys: Sequence[JobKey] | None
) -> AsyncIterator[tuple[JobKey, JobRecord | None]]:
    """Yield each job with its record; if `keys` is None, all jobs of the customer, newest first."""
    if keys is None:
        after, more = "", True
        while more:
            page, after = await services.queries.newest(
                args.customer, after=after, limit=READ_CONCURRENCY, wanted=lambda _: True
            )
            for record in page:
                yield JobKey(record.customer, record.job_id), record
            more = bool(after)
        return
    for first in range(0, len(keys), READ_CONCURRENCY):
        some = keys[first : first + READ_CONCURRENCY]
        for pair in zip(some, await read_some(services, some), strict=True):
            yield pair
