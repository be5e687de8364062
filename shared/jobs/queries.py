"""What is on record of customers' jobs: one by its id, many by time. Reads the ledger's rows, changes none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from shared.contract.names import is_job_id
from shared.jobs.records import JobRecord, job_key, read_record
from shared.storage.base import Row, Table

_READ_AT_ONCE = 50
MOST_LOOKED_AT = 1000
"""Jobs that one page looks at, at most, for those that are wanted."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of all customers' jobs."""

    table: Table

    async def look(self, customer: str, job_id: str) -> JobRecord | None:
        """The job's record, or None where this customer has no such job. Raises StorageUnavailable."""
        row = await self.table.read(customer, job_key(job_id))
        return None if row is None else read_record(row)

    async def newest(
        self, customer: str, *, after: str, most: int, wanted: Callable[[JobRecord], bool]
    ) -> tuple[list[JobRecord], str]:
        """
        The customer's newest jobs that are wanted, `most` at most, after a place that an earlier page gave, or all.

        Gives them and the place where the next page begins, empty at the end. A place is a key, so jobs that
        come meanwhile move nothing, and one is good though its row is gone. Raises StorageUnavailable.
        """
        found: list[JobRecord] = []
        looked_at = 0
        batch: list[Row] = []
        # Right behind it: `!` comes before all that an id can go on with, and Azure takes no control characters.
        first = f"{after}!" if after else "t_"
        async for row in self.table.scan(customer, first, "t`"):
            batch.append(row)
            # The first ones may be all that are wanted. Where they are not, few seem to be: no more is spared.
            if len(batch) < (_READ_AT_ONCE if looked_at else min(_READ_AT_ONCE, most)):
                continue
            looked_at += len(batch)
            place, batch = await self._take(customer, batch, most, found, wanted), []
            if len(found) >= most or looked_at >= MOST_LOOKED_AT:
                return found, place
        place = await self._take(customer, batch, most, found, wanted)
        return found, place if batch and place != batch[-1].key else ""

    async def _take(
        self, customer: str, places: list[Row], most: int, found: list[JobRecord], wanted: Callable[[JobRecord], bool]
    ) -> str:
        """Adds what is wanted, up to `most` in all; gives the last place that it got to."""
        ids = [place.key.split("_", 2)[2] for place in places]
        records = await asyncio.gather(*(self.look(customer, job_id) for job_id in ids))
        reached = ""
        for place, record in zip(places, records, strict=True):
            reached = place.key
            if record is not None and wanted(record):
                found.append(record)
                if len(found) >= most:
                    break
        return reached


def is_place(text: str) -> bool:
    """Whether `text` can be a place that a page gave."""
    kind, _, rest = text.partition("_")
    moment, _, job_id = rest.partition("_")
    return kind == "t" and len(moment) == 14 and moment.isascii() and moment.isdecimal() and is_job_id(job_id)  # noqa: PLR2004
