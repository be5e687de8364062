"""`callbacks` lists the callbacks of jobs, and sends them again."""

from __future__ import annotations

import argparse

from aijobs.console import plural
from aijobs.report import Report
from aijobs.selection import read_selection, select_jobs, warn_not_found
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.contract.documents import CallbackState
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of
from shared.services import Services
from shared.storage.bulk import gather_limited
from shared.webhooks.resend import resend as resend_callback

_COLUMNS = ("customer", "job", "callback", "tries", "answer", "error")


async def list_all(args: argparse.Namespace) -> Report:
    """Run `callbacks list`: the selected jobs that are done and have a callback. The code is 1 if a job is missing."""
    async with open_services(args.settings) as services:
        records, not_found = await _read(services, args)
    callbacks = [(record, _state(record)) for record in records]
    document = {
        "callbacks": [
            {"customer": record.customer, "job_id": record.job_id, "callback": state} for record, state in callbacks
        ],
        "not_found": not_found,
    }
    exit_code = 1 if not_found else 0
    if not callbacks:
        return Report(document, ["No selected job has ended with a callback."], exit_code)
    rows = [
        (
            record.customer,
            record.job_id,
            state.status,
            str(state.attempts),
            state.last_status and str(state.last_status),
            state.error,
        )
        for record, state in callbacks
    ]
    return Report(document, [make_table(_COLUMNS, rows, prose="error")], exit_code)


async def resend(args: argparse.Namespace) -> Report:
    """Run `callbacks resend`: what has failed or waits for a try, with `--delivered` all. 1 if a job is missing."""
    async with open_services(args.settings) as services:
        records, not_found = await _read(services, args)
        due = [record for record in records if args.delivered or _state(record).status != "delivered"]
        await gather_limited(resend_callback(services.updates, services.schedule, record) for record in due)
    delivered = len(records) - len(due)
    hint = f" Delivered before: {delivered}; --delivered sends them, too." if delivered else ""
    sent = [{"customer": record.customer, "job_id": record.job_id} for record in due]
    document = {"sent": sent, "delivered_before": delivered, "not_found": not_found}
    return Report(document, [f"Sent {plural(len(due), 'callback')}.{hint}"], 1 if not_found else 0)


async def _read(services: Services, args: argparse.Namespace) -> tuple[list[JobRecord], int]:
    """Return the selected jobs that are done and have a callback, and how many do not exist."""
    keys = select_jobs(args, services)
    selected = [record async for _, record in read_selection(services, args, keys)]
    not_found = selected.count(None)
    warn_not_found(not_found)
    ended = (record for record in selected if record is not None and record.result_body is not None)
    return [record for record in ended if record.callback_url], not_found


def _state(record: JobRecord) -> CallbackState:
    """Return the state of a callback; one without a try waits for the first."""
    return document_of(record).callback or CallbackState(status="waiting")
