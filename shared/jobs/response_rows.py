"""
The responses that jobs wait for, or are about to create: `w_{connection}~{creation}`, in the customer's partition. The
poll of the connection looks at them (see `jobs.polls`), and providers' events, which name nothing else, find the job.

A row is inserted before its response is created, says what the job waits for while it does, and is deleted with the end
of its job; the sweep deletes what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from shared.billing.usage import metered_name
from shared.billing.usage_records import metered_key
from shared.clock import now
from shared.jobs.records import job_key
from shared.jobs.schedule import Schedule
from shared.storage.base import Row, RowChanged, RowExists, Table
from shared.storage.bulk import delete_rows, read_pages

MAX_CANDIDATES = 10
"""Responses that one creation without an answer looks at."""
MAX_AGE = timedelta(days=31)
"""Providers keep responses for 30 days."""
PREFIX, LAST = "w_", "w`"
State = Literal["creating", "waiting", "woken"]
"""What its job does: it creates the response, waits for it, or goes on."""


def name_creation(customer: str, job_id: str, incarnation: str, number: int) -> str:
    """Return what a response's metadata says about its creation, so that nothing else is taken for it."""
    names = "\0".join((customer, job_id, incarnation, str(number)))
    return hashlib.sha256(names.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class ResponseRows:
    """The rows of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def begin(self, customer: str, connection: str, creation: str, job_id: str) -> None:
        """Say that a response is about to be created."""
        state: State = "creating"
        values = {"job_id": job_id, "at": now(), "state": state, "response": "", "candidates": "", "looked_at": 0}
        with suppress(RowExists):
            await self.table.insert(Row(customer, row_key(connection, creation), values))

    async def wait(
        self, customer: str, connection: str, creation: str, *, job_id: str, at: datetime, **values: Any
    ) -> None:
        """
        Say that the job waits: for which response (`response`, empty if that is not known), of which `account` and
        `model`, and when it is woken at the latest (`wake_at`).
        """
        state: State = "waiting"
        values, key = {**values, "state": state}, row_key(connection, creation)
        while True:
            row = await self.table.read(customer, key)
            try:
                if row is not None:
                    await self.table.merge(Row(customer, key, values, row.etag))
                else:
                    begun = {"job_id": job_id, "at": at, "candidates": "", "looked_at": 0}
                    await self.table.insert(Row(customer, key, {**begun, **values}))
            except (RowChanged, RowExists):  # by an event, or a look
                continue
            return

    async def candidates(self, customer: str, connection: str, creation: str) -> Sequence[str]:
        """Return the responses that events have named, that may be the creation's, and that were not looked at."""
        row = await self.table.read(customer, row_key(connection, creation))
        return [] if row is None else row.values["candidates"].split()[row.values["looked_at"] :]

    async def looked_at(self, customer: str, connection: str, creation: str, number: int) -> None:
        """Say that so many more of them were looked at, and are others."""
        while (row := await self.table.read(customer, row_key(connection, creation))) is not None:
            values = {"looked_at": row.values["looked_at"] + number}
            try:
                await self.table.merge(Row(customer, row.key, values, row.etag))
            except RowChanged:  # by an event
                continue
            return

    async def forget(self, customer: str, connection: str, creations: Sequence[str]) -> None:
        """Delete the rows of a job that has ended."""
        await delete_rows(self.table, [Row(customer, row_key(connection, each), {}) for each in creations])

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
        rows = await self._rows(customer, connection, response_id)
        for row in rows:
            await wake(self.schedule, row)
        unanswered = [] if rows else await self._rows(customer, connection, "")
        if unanswered and not await self._is_on_record(customer, response_id):
            for row in unanswered:
                await self._add_candidate(row, response_id)

    async def _is_on_record(self, customer: str, response_id: str) -> bool:
        return await self.table.read(customer, metered_key(metered_name("response", response_id))) is not None

    async def _rows(self, customer: str, connection: str, response_id: str) -> list[Row]:
        keys, where = (f"{PREFIX}{connection}~", f"{PREFIX}{connection}~~"), {"response eq": response_id}
        return [row async for rows in read_pages(self.table, customer, *keys, where=where) for row in rows]

    async def _add_candidate(self, row: Row | None, response_id: str) -> None:
        while row is not None and not row.values["response"]:
            candidates = row.values["candidates"].split()
            if response_id in candidates or len(candidates) >= MAX_CANDIDATES:
                return
            values = {"candidates": " ".join([*candidates, response_id])}
            try:
                await self.table.merge(Row(row.partition, row.key, values, row.etag))
            except RowChanged:  # by its job, or another event
                row = await self.table.read(row.partition, row.key)
                continue
            return


def has_candidate(row: Row) -> bool:
    """Return whether an event has named what may be the creation's, and was not looked at."""
    return not row.values["response"] and len(row.values["candidates"].split()) > row.values["looked_at"]


async def wake(schedule: Schedule, row: Row) -> None:
    """
    Have the job in a row go on, which says so itself if it waits again. A job that has ended has left the row.

    A job without a message for that is under way. Raises StorageUnavailable.
    """
    job = await schedule.table.read(row.partition, job_key(row.values["job_id"]))
    if job is None or job.values["state"] == "done":
        await schedule.table.delete([Row(row.partition, row.key, {})])
        return
    if job.values.get("wakeup"):
        await schedule.queues.send(schedule.jobs_queue, job.values["wakeup"])
    state: State = "woken"
    with suppress(RowChanged):  # it has gone on, or an event was here
        await schedule.table.merge(Row(row.partition, row.key, {"state": state}, row.etag))


def row_key(connection: str, creation: str) -> str:
    """Return the key of a row."""
    return f"{PREFIX}{connection}~{creation}"


def names_of(row: Row) -> tuple[str, str]:
    """Return which connection a row is of, and which creation; no creation if it is the connection's poll."""
    connection, _, creation = row.key.removeprefix(PREFIX).partition("~")
    return connection, creation
