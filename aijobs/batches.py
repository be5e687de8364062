"""`batches` shows what waits at customers' providers: the batches, and what became of a batch's lines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from aijobs.console import plural
from aijobs.diagnostics import InvalidArguments, NotFound
from aijobs.job_view import MAX_ROWS, duration
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer, check_optional_customer, customers_of
from aijobs.settings import open_services
from aijobs.table import Table, make_table
from shared.batches.queries import BatchQueries, LineCounts, describe, is_batch_id
from shared.batches.records import BatchRecord
from shared.batches.savings import saved_by
from shared.billing.customer_pricing import CustomerPricing
from shared.clock import now
from shared.services import Services

_COLUMNS = ("customer", "batch", "state", "model", "lines", "done", "failed", "age", "left", "saved", "note")
_NUMERIC = frozenset({"lines", "done", "failed", "saved"})
_JOB_COLUMNS = ("job", "lines", "answered", "failed", "")


async def list_all(args: argparse.Namespace) -> Report:
    """Run `batches list`: those that were opened in the last days, newest first."""
    customer = check_optional_customer(args.customer)
    since = now() - timedelta(days=args.days)
    listed: list[tuple[BatchRecord, dict[str, Any]]] = []
    async with open_services(args.settings) as services:
        for name in await customers_of(services.table, customer):
            batches = await BatchQueries(services.table).since(name, since)
            listed += await _with_savings(services, [each for each in batches if args.all or each.state != "done"])
    document = {"batches": [_members(batch, money) for batch, money in listed]}
    if not listed:
        which = "No batch was opened" if args.all else "No batch is under way that was opened"
        return Report(document, [f"{which} in the last {plural(args.days, 'day')}."])
    rows = [_row(batch, money) for batch, money in listed]
    return Report(document, [make_table(_COLUMNS, rows, numeric=_NUMERIC, prose="note"), *_lateness(listed)])


async def show(args: argparse.Namespace) -> Report:
    """Run `batches show`. Raises NotFound if the customer has no such batch."""
    customer = check_customer(args.customer)
    if not is_batch_id(args.batch):
        raise InvalidArguments(f"The batch's id must be one that {command('batches list')} shows.")
    async with open_services(args.settings) as services:
        queries = BatchQueries(services.table)
        batch = await queries.get(customer, args.batch)
        if batch is None:
            raise NotFound(f"{customer} has no batch {args.batch}.")
        counts = await queries.count_lines(batch)
        ((_, money),) = await _with_savings(services, [batch])
    members = _members(batch, money)
    jobs = [
        {"job_id": job.job_id, "lines": job.lines, "answered": job.answered, "failed": job.failed}
        | ({"cancelled": True} if job.is_cancelled else {})
        for job in counts.jobs
    ]
    facts = [(name.replace("_", " "), str(value)) for name, value in members.items()]
    return Report(
        {**members, "errors": dict(counts.errors), "jobs": jobs},
        [make_table(("", ""), facts), *_jobs_text(counts)],
    )


async def _with_savings(services: Services, batches: Sequence[BatchRecord]) -> list[tuple[BatchRecord, dict[str, Any]]]:
    """Return batches of one customer, each with what it has cost and saved so far, if there are prices."""
    pricing = None
    if batches:
        pricing = await CustomerPricing(services.price_books, services.customer_records).read(batches[0].customer)
    saved = {} if pricing is None else await saved_by(services.table, pricing, batches)
    return [(batch, saved.get(batch.batch_id, {})) for batch in batches]


def _members(batch: BatchRecord, money: Mapping[str, Any]) -> dict[str, Any]:
    names = ("amount", "saved", "currency")
    return {**msgspec.to_builtins(describe(batch)), **{name: money[name] for name in names if name in money}}


def _row(batch: BatchRecord, money: Mapping[str, Any]) -> tuple[object, ...]:
    members, at = _members(batch, money), now()
    is_over = batch.state in {"waking", "done"}
    left = "-" if is_over else duration((batch.cancel_at - at).total_seconds())
    saved = f"{money['saved']} {money['currency']}" if money else "-"
    notes = ("late" if members.get("late") else "", members.get("provider_status", ""), members.get("error", ""))
    return (
        *(batch.customer, batch.batch_id, batch.state, batch.model, batch.lines, batch.answered, batch.failed or "-"),
        *(duration((at - batch.opened_at).total_seconds()), left, saved, ", ".join(filter(None, notes))),
    )


def _lateness(listed: Sequence[tuple[BatchRecord, Mapping[str, Any]]]) -> list[str]:
    late = sum(bool(_members(batch, money).get("late")) for batch, money in listed)
    return [f"{late} of them will hardly end in time."] if late else []


def _jobs_text(counts: LineCounts) -> list[str | Table]:
    rows = [
        (job.job_id, job.lines, job.answered, job.failed, "cancelled" if job.is_cancelled else "")
        for job in counts.jobs[:MAX_ROWS]
    ]
    text: list[str | Table] = [make_table(_JOB_COLUMNS, rows, numeric=frozenset(_JOB_COLUMNS[1:4]))] if rows else []
    if len(counts.jobs) > MAX_ROWS:
        text.append(f"And {plural(len(counts.jobs) - MAX_ROWS, 'more job')}; --json has all of them.")
    if counts.errors:
        errors = ", ".join(f"{number} {code}" for code, number in counts.errors.most_common())
        text.append(f"Lines that failed: {errors}.")
    return text
