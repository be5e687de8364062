"""The steps and blobs of jobs, which are removed before their jobs' rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.storage.base import Blobs, ContainerMissing, Row, Table
from shared.storage.bulk import delete_rows, gather_limited


@dataclass(frozen=True, slots=True)
class JobData:
    """Those of all customers' jobs. Every method raises StorageUnavailable. Repeating one does no harm."""

    table: Table
    blobs: Blobs
    container: str

    async def remove_steps(self, customer: str, job_ids: Collection[str], older: Mapping[str, datetime]) -> int:
        """Remove the steps of jobs that are `older`, as Storage filters them; return how many there were."""
        starts = sorted(f"s_{job_id}~" for job_id in job_ids)
        removed, after = 0, ""
        while starts:
            page = await self.table.page(customer, starts[0], f"{starts[-1]}~", older=older, columns=(), after=after)
            own = [row for row in page.rows if row.key[2:].partition("~")[0] in job_ids]
            removed += await delete_rows(self.table, [Row(row.partition, row.key, {}) for row in own])
            after = page.after
            if not after:
                break
        return removed

    async def remove_blobs(self, customer: str, job_id: str) -> int:
        """Remove the blobs of a job, however young they are; return how many there were."""
        removed, after = 0, ""
        while True:
            try:
                page = await self.blobs.page(self.container, f"{customer}/{job_id}/", after)
            except ContainerMissing:
                return removed
            await gather_limited(self.blobs.delete(self.container, blob.name) for blob in page.blobs)
            removed += len(page.blobs)
            after = page.after
            if not after:
                return removed
