"""
The creations of responses that have no answer yet: `w_{connection}~{creation}`, in the customer's partition.

A row is inserted before its response is created, with the step that says so. Once the provider has said which response
it is, another row takes its place (see `jobs.waiting_rows`). Until then, what providers' events name and nobody knows
is noted in it. What a job leaves behind is deleted with its end, or by the sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from shared.billing.usage import metered_name
from shared.billing.usage_records import metered_key
from shared.clock import now
from shared.jobs.records import job_key
from shared.jobs.response_looks import next_look
from shared.jobs.schedule import Schedule
from shared.jobs.waiting_rows import LAST, PREFIX, look_key, names_of, response_key
from shared.storage.base import Row, RowChanged, Table
from shared.storage.bulk import delete_rows, read_pages

MAX_CANDIDATES = 10
"""Responses that one creation without an answer looks at."""
MAX_AGE = timedelta(days=31)
"""Providers keep responses for 30 days."""


def name_creation(customer: str, job_id: str, incarnation: str, number: int) -> str:
    """Return what a response's metadata says about its creation, so that nothing else is taken for it."""
    names = "\0".join((customer, job_id, incarnation, str(number)))
    return hashlib.sha256(names.encode()).hexdigest()[:40]


def creation_row(customer: str, connection: str, creation: str, job_id: str) -> Row:
    """Return the row of a response that is about to be created."""
    values = {"job_id": job_id, "at": now(), "response": "", "candidates": "", "looked_at": 0}
    return Row(customer, creation_key(connection, creation), values)


def creation_key(connection: str, creation: str) -> str:
    """Return the key of a creation's row."""
    return f"{PREFIX}{connection}~{creation}"


@dataclass(frozen=True, slots=True)
class ResponseRows:
    """The rows of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def answered(self, customer: str, connection: str, creation: str) -> None:
        """Delete the row of a creation whose response is known: few are left for events that name another one."""
        await delete_rows(self.table, [Row(customer, creation_key(connection, creation), {})])

    async def candidates(self, customer: str, connection: str, creation: str) -> Sequence[str]:
        """Return the responses that events have named, that may be the creation's, and that were not looked at."""
        row = await self.table.read(customer, creation_key(connection, creation))
        return [] if row is None else row.values["candidates"].split()[row.values["looked_at"] :]

    async def add_candidate(self, customer: str, connection: str, creation: str, response_id: str) -> None:
        """Note a response that may be the creation's, if that has no answer, and not too many are noted already."""
        key = creation_key(connection, creation)
        while (row := await self.table.read(customer, key)) is not None and not row.values["response"]:
            candidates = row.values["candidates"].split()
            if response_id in candidates or len(candidates) >= MAX_CANDIDATES:
                return
            values = {"candidates": " ".join([*candidates, response_id])}
            try:
                await self.table.merge(Row(customer, key, values, row.etag))
            except RowChanged:  # by its job, or another event
                continue
            return

    async def looked_at(self, customer: str, connection: str, creation: str, number: int) -> None:
        """Say that so many more of them were looked at, and are others."""
        while (row := await self.table.read(customer, creation_key(connection, creation))) is not None:
            values = {"looked_at": row.values["looked_at"] + number}
            try:
                await self.table.merge(Row(customer, row.key, values, row.etag))
            except RowChanged:  # by an event
                continue
            return

    async def forget(self, customer: str, connection: str, created: Sequence[tuple[str, str]]) -> None:
        """Delete the rows of a job that has ended: of its creations, each with its response if that was waited for."""
        keys = [
            response_key(connection, response_id) if response_id else creation_key(connection, creation)
            for creation, response_id in created
        ]
        await delete_rows(self.table, [Row(customer, key, {}) for key in keys])

    async def remove(self, customer: str, after: str, *, keeps_all: bool = False) -> str:
        """Delete a page of rows whose responses are not kept any more, as the sweep does (see `retention.expiry`)."""
        if keeps_all:
            return ""
        page = await self.table.page(customer, PREFIX, LAST, older={"at": now() - MAX_AGE}, columns=(), after=after)
        await delete_rows(self.table, [Row(row.partition, row.key, {}) for row in page.rows])
        return page.after


@dataclass(frozen=True, slots=True)
class ResponseEvents:
    """What providers' events about responses do: they wake jobs in the schedule, and let responses be adopted."""

    table: Table
    schedule: Schedule

    async def ended(self, customer: str, connection: str, response_id: str) -> None:
        """
        Wake the job that waits for a response; one that nobody knows is noted for each creation of the connection that
        has no answer. A job that has just ended with it does not wait any more. Raises StorageUnavailable.
        """
        row = await self.table.read(customer, response_key(connection, response_id))
        if row is not None:
            look = look_key(connection, next_look(row.values["at"], now()), row.values["creation"])
            if not await wake(self.schedule, row, look=look):
                await delete_rows(self.table, [Row(customer, row.key, {})])
            return
        keys, where = (creation_key(connection, ""), creation_key(connection, "~")), {"response eq": ""}
        pages = read_pages(self.table, customer, *keys, where=where, columns=())
        unanswered = [names_of(each)[1] async for page in pages for each in page]
        if unanswered and not await self._is_on_record(customer, response_id):
            for creation in unanswered:
                await ResponseRows(self.table).add_candidate(customer, connection, creation, response_id)

    async def _is_on_record(self, customer: str, response_id: str) -> bool:
        return await self.table.read(customer, metered_key(metered_name("response", response_id))) is not None


async def wake(schedule: Schedule, row: Row, *, look: str = "") -> bool:
    """
    Have the job in a row go on, which says so itself if it waits again. Return False if it has ended, and left the row.

    A job without a message for that is under way. `look`: the key of the next look, which is made no more, if it is
    that. Raises StorageUnavailable.
    """
    job = await schedule.table.read(row.partition, job_key(row.values["job_id"]))
    if job is None or job.values["state"] == "done":
        return False
    if job.values.get("wakeup"):
        if look:  # before the job can write it again
            await schedule.table.delete([Row(row.partition, look, {})])
        await schedule.queues.send(schedule.jobs_queue, job.values["wakeup"])
    return True
