"""A customer's whole data: `export` hands it out, `erase` deletes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aijobs.settings import add_settings, opened
from shared.customer_data import CustomerData


def add_commands(commands: Any) -> None:
    """Adds the commands of this room."""
    export = commands.add_parser("export", help="write everything that is kept of a customer into a directory")
    export.add_argument("customer", metavar="CUSTOMER")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    export.set_defaults(run=_export)
    erase = commands.add_parser("erase", help="delete everything that is kept of a customer, usage too, for good")
    erase.add_argument("customer", metavar="CUSTOMER")
    erase.add_argument("--yes", action="store_true", help="do not ask for the customer's name again")
    erase.set_defaults(run=_erase)
    for parser in (export, erase):
        add_settings(parser)


async def _export(asked: argparse.Namespace) -> int:
    async with opened(asked.settings) as services:
        data = CustomerData(services.table, services.blobs, services.pipeline.settings, asked.customer)
        counts = await data.export(asked.to)
    _tell(f"Exported {asked.customer} to {asked.to}: {counts.rows} rows, {_blobs(counts.blobs)}.")
    return 0


async def _erase(asked: argparse.Namespace) -> int:
    async with opened(asked.settings) as services:
        data = CustomerData(services.table, services.blobs, services.pipeline.settings, asked.customer)
        if not asked.yes and not _confirmed(asked.customer, data.containers):
            _tell("Nothing was deleted.")
            return 1
        counts = await data.erase()
    _tell(f"Erased {asked.customer}: {counts.rows} rows, {_blobs(counts.blobs)}.")
    if counts.unfinished:
        _tell(f"{counts.unfinished} of its jobs had not ended: their messages may still be in the queue.")
    if not counts.nothing_left:
        _tell("More keeps coming: stop what submits its jobs, wait until they have ended, and erase again.")
        return 1
    return 0


def _confirmed(customer: str, containers: tuple[str, ...]) -> bool:
    _tell(f"This deletes all rows of {customer}, usage too, and its blobs in {', '.join(containers)}, for good.")
    sys.stdout.write("Type the customer's name to go on: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip() == customer


def _blobs(counts: Mapping[str, int | None]) -> str:
    told = [
        f"no container {container}" if count is None else f"{count} blobs in {container}"
        for container, count in counts.items()
    ]
    return ", ".join(told)


def _tell(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
