"""`export` writes all data of a customer to a directory; `erase` deletes it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from aijobs.confirmation import is_confirmed
from aijobs.console import plural
from aijobs.person import person
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services
from shared.billing.audit import AuditTrail
from shared.exports.resolution import Outboxes
from shared.retention.customer_data import CustomerData
from shared.services import Services


async def export(args: argparse.Namespace) -> Report:
    """Run `export CUSTOMER --to DIR`."""
    check_customer(args.customer)
    async with open_services(args.settings) as services:
        data = CustomerData(services.table, services.blobs, services.settings, args.customer)
        counts = await data.export(args.to)
    document = {"customer": args.customer, "directory": str(args.to), "rows": counts.rows, "blobs": counts.blobs}
    summary = f"Exported {args.customer} to {args.to}: {plural(counts.rows, 'row')}, {_describe(counts.blobs)}."
    return Report(document, [summary])


async def erase(args: argparse.Namespace) -> Report:
    """Run `erase CUSTOMER`. The exit code is 1 if it was not confirmed, or if new data kept arriving."""
    check_customer(args.customer)
    async with open_services(args.settings) as services:
        data = CustomerData(services.table, services.blobs, services.settings, args.customer)
        unsent = await _unsent(services, args.customer)
        if not is_confirmed(args, services.settings, _consequence(data, unsent), args.customer):
            return Report({"customer": args.customer, "erased": False}, ["Nothing was deleted."], 1)
        counts = await data.erase()
        if counts.kept:  # the erasure is one of the changes of what stays
            sizes = {"rows": counts.rows, "blobs": sum(filter(None, counts.blobs.values()))}
            await AuditTrail(services.table).append(
                args.customer, by=person(), subject="erasure", before=sizes, after=dict.fromkeys(sizes)
            )
    text = [f"Erased {args.customer}: {plural(counts.rows, 'row')}, {_describe(counts.blobs)}."]
    if counts.kept:
        text.append(f"Kept as evidence: {plural(counts.kept, 'row')}, and the documents of closed months.")
    if counts.unfinished:
        text.append(f"Not ended: {plural(counts.unfinished, 'job')}. Messages may still be in the queue.")
    if not counts.nothing_left:
        text.append("New data keeps arriving. Stop submitting jobs, wait until they have ended, and erase again.")
    document = {
        "customer": args.customer,
        "erased": counts.nothing_left,
        "rows": counts.rows,
        "blobs": counts.blobs,
        "kept": counts.kept,
        "unfinished": counts.unfinished,
    }
    return Report(document, text, 0 if counts.nothing_left else 1)


async def _unsent(services: Services, customer: str) -> int:
    """Return how many events of the customer no export has sent for certain."""
    exports, outboxes = services.settings.usage_exports, Outboxes(services.table, services.customer_records)
    return len([event async for event in outboxes.events(customer, exports)]) if exports else 0


def _consequence(data: CustomerData, unsent: int) -> str:
    containers = ", ".join(data.containers)
    waiting = f" {plural(unsent, 'event')} of exports {'was' if unsent == 1 else 'were'} not sent, and never will be."
    return (
        f"This permanently deletes all rows of {data.customer}, including usage records and the profile, and its blobs "
        f"in {containers}. Closed months, credits and debits, and the audit trail stay."
        f"{waiting if unsent else ''}"
    )


def _describe(blobs: Mapping[str, int | None]) -> str:
    return ", ".join(
        f"no container {container}" if count is None else f"{plural(count, 'blob')} in {container}"
        for container, count in blobs.items()
    )
