"""`export` writes all data of a customer to a directory, `import` brings it into a deployment; `erase` deletes it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from aijobs.confirmation import is_confirmed
from aijobs.console import plural
from aijobs.diagnostics import CommandError, InvalidArguments, with_remedy
from aijobs.person import person
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services, read_app_settings
from shared.batches.erasure import erase_at_providers
from shared.batches.response_erasure import cancel_responses
from shared.billing.audit import AuditTrail
from shared.errors import RetryLater
from shared.exports.resolution import Outboxes
from shared.jobs.queries import all_customers
from shared.retention.customer_data import CustomerData
from shared.retention.customer_import import CustomerImport, Imported
from shared.retention.export_reader import ExportReader, InvalidExport
from shared.services import Services

_MOST_NAMED = 20
"""Of what an import or an erasure left; the document has all."""


async def export(args: argparse.Namespace) -> Report:
    """Run `export CUSTOMER --to DIR`, or `export --all --to DIR`: each customer into a directory of its own."""
    if args.all == bool(args.customer):
        raise InvalidArguments("Name a customer, or use --all.")
    if args.customer:
        check_customer(args.customer)
    done: list[tuple[dict[str, object], list[str]]] = []
    failed = None
    async with open_services(args.settings) as services:
        customers = [args.customer] if args.customer else [each async for each in all_customers(services.table)]
        for customer in customers:
            directory = args.to / customer if args.all else args.to
            data = CustomerData(services.table, services.blobs, services.settings, customer)
            try:
                counts = await data.export(directory)
            except (RetryLater, OSError) as exc:
                if not args.all:
                    raise
                failed = (customer, exc)
                break
            document = {"customer": customer, "directory": str(directory), "rows": counts.rows, "blobs": counts.blobs}
            summary = f"Exported {customer} to {directory}: {plural(counts.rows, 'row')}, {_describe(counts.blobs)}."
            done.append((document, [summary]))
    if not args.all:
        return Report(*done[0])
    return _report("exports", done, [] if failed is None else [failed], customers)


async def import_customers(args: argparse.Namespace) -> Report:
    """
    Run `import DIR…`. The exit code is 1 if something that is here differs from an export, and was left.

    It is 1, too, if a customer could not be imported. The others are all the same, unless Storage fails.
    """
    done: list[tuple[dict[str, object], list[str]]] = []
    failed: list[tuple[str, Exception]] = []
    try:
        exports = [ExportReader(directory) for directory in args.directory]
        async with open_services(args.settings) as services:
            parts = [CustomerImport(services.table, services.blobs, services.settings, export) for export in exports]
            for export, part in zip(exports, parts, strict=True):
                try:
                    imported = await _import(services, export, part)
                except (InvalidExport, RetryLater) as exc:
                    if len(exports) == 1:
                        raise
                    failed.append((export.customer, exc))
                    if isinstance(exc, RetryLater):
                        break
                else:
                    done.append(
                        ({"customer": export.customer, **asdict(imported)}, _imported(export.customer, imported))
                    )
    except InvalidExport as exc:
        raise CommandError(str(exc)) from exc
    report = _report("imports", done, failed, [export.customer for export in exports])
    return replace(report, exit_code=1 if any(document["different"] for document, _ in done) else report.exit_code)


async def _import(services: Services, export: ExportReader, part: CustomerImport) -> Imported:
    # First, so that an import that is cut off is in the trail, too.
    sizes = {"rows": export.rows_in_all, "blobs": export.blobs_in_all}
    await AuditTrail(services.table).append(
        export.customer, by=person(), subject="import", before=dict.fromkeys(sizes), after=sizes
    )
    return await part.run()


def _report(
    name: str,
    done: Sequence[tuple[dict[str, object], list[str]]],
    failed: Sequence[tuple[str, Exception]],
    customers: Sequence[str],
) -> Report:
    """Return what became of each customer."""
    text = [sentence for _, sentences in done for sentence in sentences]
    errors = [{"customer": customer, "message": with_remedy(str(exc))} for customer, exc in failed]
    text += [f"Failed, and to be repeated: {each['customer']}. {each['message']}" for each in errors]
    not_begun = customers[len(done) + len(failed) :]
    if not_begun:
        text.append(f"Not begun: {', '.join(not_begun)}.")
    document = {name: [document for document, _ in done], "failed": errors, "not_begun": not_begun}
    return Report(document, text or ["There is no customer."], 1 if failed else 0)


async def erase(args: argparse.Namespace) -> Report:
    """Run `erase CUSTOMER`. The exit code is 1 if it was not confirmed, or if new data kept arriving."""
    check_customer(args.customer)
    has_vault = bool(read_app_settings(args.settings).key_vault_url)  # connections are needed to cancel what goes on
    async with open_services(args.settings, vault=has_vault) as services:
        data = CustomerData(services.table, services.blobs, services.settings, args.customer)
        unsent = await _unsent(services, args.customer)
        if not is_confirmed(args, services.settings, _consequence(data, unsent), args.customer):
            return Report({"customer": args.customer, "erased": False}, ["Nothing was deleted."], 1)
        at_providers = await erase_at_providers(services.batch_worker.parts, args.customer)
        responses = await cancel_responses(services.batch_worker.parts, args.customer)
        counts = await data.erase()
        if counts.kept:  # the erasure is one of the changes of what stays
            sizes = {"rows": counts.rows, "blobs": sum(filter(None, counts.blobs.values()))}
            await AuditTrail(services.table).append(
                args.customer, by=person(), subject="erasure", before=sizes, after=dict.fromkeys(sizes)
            )
    text = [f"Erased {args.customer}: {plural(counts.rows, 'row')}, {_describe(counts.blobs)}."]
    if at_providers.cancelled:
        text.append(f"Batches that were cancelled at providers: {len(at_providers.cancelled)}.")
    text += [f"Batch {batch} may go on at its provider: {reason}." for batch, reason in at_providers.left.items()]
    if responses.cancelled:
        text.append(f"Responses that were cancelled at providers: {len(responses.cancelled)}.")
    left = [f"Response {name} may go on at its provider: {reason}." for name, reason in responses.left.items()]
    text += [*left[:_MOST_NAMED], *([f"And {len(left) - _MOST_NAMED} more."] if len(left) > _MOST_NAMED else [])]
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
        "batches": asdict(at_providers),
        "responses": asdict(responses),
    }
    return Report(document, text, 0 if counts.nothing_left else 1)


async def _unsent(services: Services, customer: str) -> int:
    """Return how many events of the customer no export has sent for certain."""
    exports, outboxes = services.settings.usage_exports, Outboxes(services.table, services.customer_records)
    return len([event async for event in outboxes.events(customer, exports)]) if exports else 0


def _imported(customer: str, done: Imported) -> list[str]:
    text = [f"Imported {customer}: {plural(done.rows, 'row')}, {plural(done.blobs, 'blob')}."]
    if done.existing:
        text.append(f"Here already: {done.existing}.")
    if done.unfinished:
        text.append(f"Not ended: {plural(done.unfinished, 'job')}. Each goes on when it is submitted again.")
    if done.batches:
        text.append(f"Batches at providers that go on here, with their jobs: {done.batches}.")
    if done.callbacks:
        resend = command(f"callbacks resend --customer {customer}")
        text.append(f"Callbacks that nothing sends: {done.callbacks}. {resend} does.")
    if done.documents:
        text.append(f"Written, but not on record, so to be closed again: {', '.join(sorted(done.documents))}.")
    if done.erased_at:
        day = done.erased_at[:10]
        text.append(f"{customer} was erased on {day}, after this export. If that was no mistake, erase it again.")
    if done.different:
        named = ", ".join(sorted(done.different)[:_MOST_NAMED])
        rest = len(done.different) - _MOST_NAMED
        text.append(f"Left, because they differ: {named}{f', and {rest} more' if rest > 0 else ''}.")
    return text


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
