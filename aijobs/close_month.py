"""`close-month` closes a month, or corrects a closed one: for a customer, or for everybody who has anything in it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from aijobs.confirmation import is_confirmed
from aijobs.console import plural
from aijobs.diagnostics import CommandError, NotFound
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_month, check_optional_customer, customers_of
from aijobs.settings import open_services
from aijobs.table import Table, make_table
from shared.billing.closed_records import ClosedRecords
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.errors import InvalidJob, JobConflict
from shared.jobs.closing_pass import has_activity, is_known, last_closable
from shared.jobs.statement_jobs import job_id_of
from shared.services import Services
from shared.storage.base import Table as Rows
from shared.storage.bulk import gather_limited

_AT_ONCE = 1000
_MAX_SHOWN = 100
"""Customers that a table has. There may be a million, and the JSON document has all of them."""
_STATES = {
    "queued": "queued",
    "running": "queued or running before",
    "closed": "closed before",
    "failed": "failed",
}
_Document = tuple[str, DocumentId]
"""A customer and its document."""
_T = TypeVar("_T")
_U = TypeVar("_U")


async def close_month(args: argparse.Namespace) -> Report:
    """Run `close-month`. The exit code is 1 if it was not confirmed, or if a month can't be closed."""
    month = check_month(args.month or last_closable(now()))
    if month > last_closable(now()):
        raise CommandError(f"{month} can't be closed yet: a month can be closed half an hour after its end, in UTC.")
    customer = check_optional_customer(args.customer)
    async with open_services(args.settings) as services:
        select = _closed if args.correct else _used
        documents = await select(services.table, month, customer)
        if args.check:
            return _checked(month, await _for_each(documents, partial(_preview, services)))
        verb, customers = "corrects" if args.correct else "closes", plural(len(documents), "customer")
        consequence = f"This {verb} {month} for {customers}. What is closed has a number, and never changes."
        word = (month, "the month") if customer is None else (customer,)
        if documents and not is_confirmed(args, services.settings, consequence, *word):
            return Report({"month": month, "queued": 0}, ["Nothing was queued."], 1)
        submitted = await _for_each(documents, partial(_submit, services, args.allow_unpriced))
    return _submitted(month, submitted)


async def _used(table: Rows, month: str, customer: str | None) -> list[_Document]:
    """Return the month's document of the customer, or of everybody who has anything in the month."""
    if customer is not None:
        if not await is_known(table, customer):  # a misspelled id would get a document, and its number forever
            raise NotFound(f"There is no record of a customer {customer}.")
        return [(customer, DocumentId(month))]
    customers = await customers_of(table, None)
    used = await _for_each(customers, lambda name: has_activity(table, name, month))
    return [(name, DocumentId(month)) for name, is_used in zip(customers, used, strict=True) if is_used]


async def _closed(table: Rows, month: str, customer: str | None) -> list[_Document]:
    """Return the next correction of the customer, or of everybody whose month is closed."""
    customers = await customers_of(table, customer)
    records = await _for_each(customers, lambda name: ClosedRecords(table).list(name, month))
    if customer is not None and not records[0]:
        raise NotFound(f"{month} of {customer} is not closed, so there is nothing to correct.")
    return [(name, DocumentId(month, len(each))) for name, each in zip(customers, records, strict=True) if each]


async def _submit(services: Services, allow_unpriced: bool, selected: _Document) -> dict[str, Any]:
    customer, document = selected
    line = {"customer": customer, "job_id": job_id_of(document)}
    try:
        jobs = services.statement_jobs
        state = await jobs.submit(customer, document, again=True, allow_unpriced=allow_unpriced)
    except JobConflict as exc:
        return {**line, "state": "failed", "message": str(exc)}
    return {**line, "state": state}


async def _preview(services: Services, selected: _Document) -> dict[str, Any]:
    """Return what closing would come to. Changes nothing."""
    customer, document = selected
    line: dict[str, Any] = {"customer": customer}
    record = await services.closing.records.read(customer, document)
    if record is not None:
        amounts = {"total": record.total, "currency": record.currency}
        return {**line, "state": "closed", "number": record.printed_number, **amounts}
    try:
        made = await services.closing.preview(customer, document)
    except InvalidJob as exc:
        return {**line, "state": "failed", "message": str(exc)}
    if made is None:
        return {**line, "state": "nothing_to_correct"}
    missing = [
        {"model": each.model, "records": each.records, **({"reason": each.reason} if each.reason else {})}
        for each in made.unpriced
    ]
    return {
        **line,
        "state": "unpriced" if missing else "ready",
        "total": made.total,
        "currency": made.currency,
        **({"unpriced": missing} if missing else {}),
    }


async def _for_each(items: Sequence[_T], work: Callable[[_T], Awaitable[_U]]) -> list[_U]:
    """Return what `work` returns for each item. However many there are, only some are begun at a time."""
    results: list[_U] = []
    for first in range(0, len(items), _AT_ONCE):
        results += await gather_limited(work(item) for item in items[first : first + _AT_ONCE])
    return results


def _checked(month: str, lines: list[dict[str, Any]]) -> Report:
    document = {"month": month, "customers": lines}
    if not lines:
        return Report(document, [f"There is nothing to close in {month}."])
    columns = ("customer", "state", "number", "total", "currency")
    text: list[str | Table] = [
        make_table(
            columns,
            [[line.get(name, "-").replace("_", " ") for name in columns] for line in lines[:_MAX_SHOWN]],
            numeric=frozenset({"total"}),
        )
    ]
    if len(lines) > _MAX_SHOWN:
        text.append(f"And {plural(len(lines) - _MAX_SHOWN, 'more customer')}: `--json` shows all.")
    for line in lines[:_MAX_SHOWN]:
        if "message" in line:
            text.append(f"{line['customer']}: {line['message']}")
        text += [
            f"{line['customer']}: no price for {plural(each['records'], 'record')} of {each['model'] or 'no model'}: "
            f"{each.get('reason') or 'unknown'}."
            for each in line.get("unpriced", ())
        ]
    return Report(document, text, int(any(line["state"] in {"failed", "unpriced"} for line in lines)))


def _submitted(month: str, lines: list[dict[str, Any]]) -> Report:
    counts = Counter(line["state"] for line in lines)
    document = {"month": month, **{name: counts[name] for name in _STATES}, "customers": lines}
    if not lines:
        return Report(document, [f"There is nothing to close in {month}."])
    summary = ", ".join(f"{words}: {counts[name]:,}" for name, words in _STATES.items() if counts[name])
    text = [f"{summary[:1].upper()}{summary[1:]}."]
    queued = next((line for line in lines if line["state"] == "queued"), None)
    if queued is not None:
        watch = command(f"watch --customer {queued['customer']} --job {queued['job_id']}")
        text.append(f"To follow a job, try {watch}.")
    text += [line["message"] for line in lines if "message" in line][:_MAX_SHOWN]
    return Report(document, text, int(bool(counts["failed"])))
