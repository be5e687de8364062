"""What is on record of customers' jobs: one by its id, many by time. Reads the ledger's rows, changes none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from shared.contract.decoding import is_job_id
from shared.rows import JobRecord, job_key, read_record
from shared.stores import Row, Table

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
        The customer's newest jobs that are wanted, `most` at most, after a place that an earlier page gave.

        Gives them and the place where the next page begins, empty at the end. A place is a key, so jobs that
        come meanwhile move nothing; one that is none counts as the beginning. Raises StorageUnavailable.
        """
        found: list[JobRecord] = []
        looked_at = 0
        batch: list[Row] = []
        first = f"{after}\x00" if _is_place(after) else "t_"
        places = self.table.scan(customer, first, "t`")
        place = ""
        async for row in places:
            batch.append(row)
            if len(batch) < min(_READ_AT_ONCE, most - len(found)):
                continue
            place, batch = await self._take(customer, batch, found, wanted), []
            looked_at += _READ_AT_ONCE
            if len(found) >= most or looked_at >= MOST_LOOKED_AT:
                return found, place
        await self._take(customer, batch, found, wanted)
        return found, ""

    async def _take(
        self, customer: str, places: list[Row], found: list[JobRecord], wanted: Callable[[JobRecord], bool]
    ) -> str:
        ids = [place.key.split("_", 2)[2] for place in places]
        records = await asyncio.gather(*(self.look(customer, job_id) for job_id in ids))
        found += [record for record in records if record is not None and wanted(record)]
        return places[-1].key if places else ""


def _is_place(text: str) -> bool:
    kind, _, rest = text.partition("_")
    moment, _, job_id = rest.partition("_")
    return kind == "t" and len(moment) == 14 and moment.isascii() and moment.isdecimal() and is_job_id(job_id)  # noqa: PLR2004
