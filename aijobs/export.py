"""A customer's whole data: `export` hands it out, `erase` deletes it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from aijobs.console import confirmed, tell
from aijobs.settings import opened
from shared.retention.customer_data import CustomerData


async def export(asked: argparse.Namespace) -> int:
    """`export CUSTOMER --to DIR`."""
    async with opened(asked.settings) as services:
        data = CustomerData(services.table, services.blobs, services.settings, asked.customer)
        counts = await data.export(asked.to)
    tell(f"Exported {asked.customer} to {asked.to}: {counts.rows} rows, {_blobs(counts.blobs)}.")
    return 0


async def erase(asked: argparse.Namespace) -> int:
    """`erase CUSTOMER`."""
    async with opened(asked.settings) as services:
        data = CustomerData(services.table, services.blobs, services.settings, asked.customer)
        if not asked.yes and not confirmed(_warning(data), asked.customer):
            tell("Nothing was deleted.")
            return 1
        counts = await data.erase()
    tell(f"Erased {asked.customer}: {counts.rows} rows, {_blobs(counts.blobs)}.")
    if counts.unfinished:
        tell(f"{counts.unfinished} of its jobs had not ended: their messages may still be in the queue.")
    if not counts.nothing_left:
        tell("More keeps coming: stop what submits its jobs, wait until they have ended, and erase again.")
        return 1
    return 0


def _warning(data: CustomerData) -> str:
    kept = ", ".join(data.containers)
    return f"This deletes all rows of {data.customer}, usage too, and its blobs in {kept}, for good."


def _blobs(counts: Mapping[str, int | None]) -> str:
    told = [
        f"no container {container}" if count is None else f"{count} blobs in {container}"
        for container, count in counts.items()
    ]
    return ", ".join(told)
