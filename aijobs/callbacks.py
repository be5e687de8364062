"""`callbacks` lists the callbacks of jobs, and sends them again."""

from __future__ import annotations

import argparse

from aijobs.console import plural
from aijobs.report import Report
from aijobs.selection import read_selection, select_jobs
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
    """Run `callbacks list`: the selected jobs that are done and have a callback."""
    async with open_services(args.settings) as services:
        records = await _read(services, args)
    callbacks = [(record, _state(record)) for record in records]
    document = {
        "callbacks": [
            {"customer": record.customer, "job_id": record.job_id, "callback": state} for record, state in callbacks
        ]
    }
    if not callbacks:
        return Report(document, ["No selected job has ended with a callback."])
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
    return Report(document, [make_table(_COLUMNS, rows, prose="error")])


async def resend(args: argparse.Namespace) -> Report:
    """Run `callbacks resend`: those that have failed or wait for a try, with `--delivered` all."""
    async with open_services(args.settings) as services:
        records = await _read(services, args)
        due = [record for record in records if args.delivered or _state(record).status != "delivered"]
        await gather_limited(resend_callback(services.updates, services.schedule, record) for record in due)
    delivered = len(records) - len(due)
    hint = f" Delivered before: {delivered}; --delivered sends them, too." if delivered else ""
    sent = [{"customer": record.customer, "job_id": record.job_id} for record in due]
    return Report({"sent": sent, "delivered_before": delivered}, [f"Sent {plural(len(due), 'callback')}.{hint}"])


async def _read(services: Services, args: argparse.Namespace) -> list[JobRecord]:
    keys = select_jobs(args, services)
    return [
        record
        async for _, record in read_selection(services, args, keys)
        if record is not None and record.result_body is not None and record.callback_url
    ]


def _state(record: JobRecord) -> CallbackState:
    """Return the state of a callback; one without a try waits for the first."""
    return document_of(record).callback or CallbackState(status="waiting")
