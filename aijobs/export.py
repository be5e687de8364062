"""`export` writes all data of a customer to a directory; `erase` deletes it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from aijobs.console import confirm, echo, plural
from aijobs.settings import open_services
from shared.retention.customer_data import CustomerData


async def export(args: argparse.Namespace) -> int:
    """Run `export CUSTOMER --to DIR`."""
    async with open_services(args.settings) as services:
        data = CustomerData(services.table, services.blobs, services.settings, args.customer)
        counts = await data.export(args.to)
    echo(f"Exported {args.customer} to {args.to}: {plural(counts.rows, 'row')}, {_describe(counts.blobs)}.")
    return 0


async def erase(args: argparse.Namespace) -> int:
    """Run `erase CUSTOMER`. Return 1 if it was not confirmed, or if new data kept arriving."""
    async with open_services(args.settings) as services:
        data = CustomerData(services.table, services.blobs, services.settings, args.customer)
        if not args.yes and not confirm(_consequence(data), args.customer):
            echo("Nothing was deleted.")
            return 1
        counts = await data.erase()
    echo(f"Erased {args.customer}: {plural(counts.rows, 'row')}, {_describe(counts.blobs)}.")
    if counts.unfinished:
        echo(f"Not ended: {plural(counts.unfinished, 'job')}. Messages may still be in the queue.")
    if not counts.nothing_left:
        echo("New data keeps arriving. Stop submitting jobs, wait until they have ended, and erase again.")
        return 1
    return 0


def _consequence(data: CustomerData) -> str:
    containers = ", ".join(data.containers)
    return (
        f"This permanently deletes all rows of {data.customer}, including usage records, and its blobs in {containers}."
    )


def _describe(blobs: Mapping[str, int | None]) -> str:
    return ", ".join(
        f"no container {container}" if count is None else f"{plural(count, 'blob')} in {container}"
        for container, count in blobs.items()
    )
