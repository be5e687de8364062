"""`exports` shows how the exports of usage records are doing, and what a person has to decide about."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from aijobs.confirmation import is_confirmed
from aijobs.console import plural
from aijobs.diagnostics import CommandError, InvalidArguments, NotFound
from aijobs.export_status import read_overview
from aijobs.job_view import duration
from aijobs.person import person
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer, check_month, check_optional_customer
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.clock import now, rfc3339
from shared.export_settings import Export
from shared.exports.resolution import NotDecidable, Outboxes, OutboxEvent, received_of
from shared.services import Services
from shared.settings import Settings

_NO_EXPORTS = "There are no exports: USAGE_EXPORTS is not set."
_COLUMNS = ("customer", "export", "state", "recorded", "value", "event", "reason")
_STATUS = ("export", "kind", "sent", "value", "waiting", "refused", "in doubt", "oldest", "error")


async def list_all(args: argparse.Namespace) -> Report:
    """Run `exports list`: the events that a receiver does not have for certain."""
    customer = check_optional_customer(args.customer)
    async with open_services(args.settings) as services:
        exports = _exports(services.settings, args.export)
        events = [each async for each in _events(services, exports, customer) if args.state in (None, _state(each))]
    document = {"events": [_document(each) for each in events]}
    if not events:
        return Report(document, ["Nothing waits, was refused or is in doubt." if exports else _NO_EXPORTS])
    rows = [
        (
            *(each.customer, each.export, _state(each).replace("_", " "), rfc3339(each.at)[:19] + "Z"),
            *(each.state.value or "-", each.id, each.state.reason),
        )
        for each in events
    ]
    return Report(document, [make_table(_COLUMNS, rows, numeric=frozenset({"value"}), prose="reason")])


async def status(args: argparse.Namespace) -> Report:
    """Run `exports status`: each export's state and, of a month, what it was sent. 1 if an export fails."""
    customer = check_optional_customer(args.customer)
    month = check_month(args.month or f"{now():%Y-%m}")
    async with open_services(args.settings) as services:
        exports = _exports(services.settings, None)
        overviews = [await read_overview(services, export, month, customer) for export in exports]
    document = {"month": month, "exports": [each.document() for each in overviews]}
    failing = any(each.status.failing_since for each in overviews)
    if not exports:
        return Report(document, [_NO_EXPORTS])
    rows = [
        (
            *(each.export.name, each.export.kind, f"{each.sent:,}", f"{each.value:f}" if each.export.value else "-"),
            *(f"{each.counts[name]:,}" for name in ("waiting", "refused", "in_doubt")),
            *("-" if each.oldest is None else _age(each.oldest), each.status.error),
        )
        for each in overviews
    ]
    text: list[Any] = [
        f"Exports in {month}{f' of {customer}' if customer else ''}. `value` is what the receiver should have counted.",
        make_table(_STATUS, rows, numeric=frozenset({"sent", "value", *_STATUS[4:7]}), prose="error"),
    ]
    if any(each.counts["refused"] or each.counts["in_doubt"] for each in overviews):
        text.append(f"{command('exports list')} shows what was refused or is in doubt, and why.")
    return Report(document, text, 1 if failing else 0)


async def retry(args: argparse.Namespace) -> Report:
    """Run `exports retry EXPORT`: send what was refused again. The exit code is 1 if a named event was not."""
    customer = check_optional_customer(args.customer)
    async with open_services(args.settings) as services:
        (export,) = _exports(services.settings, args.export)
        outboxes = _outboxes(services)
        customers = [customer] if customer else await outboxes.customers()
        ids = set(args.event) if args.event else None
        retried = sum([await outboxes.decide(each, export.name, "retry", ids, by=person()) for each in customers])
    left = len(ids) - retried if ids else 0
    text = f"{plural(retried, 'event')} will be sent to {export.name} again, within a minute or two."
    if left:
        text += f" {plural(left, 'event')} of those that you named {'is' if left == 1 else 'are'} not refused."
    return Report({"export": export.name, "retried": retried, "not_refused": left}, [text], 1 if left else 0)


async def resolve(args: argparse.Namespace) -> Report:
    """Run `exports resolve EXPORT CUSTOMER`: decide about what is in doubt. 1 if it was not confirmed."""
    customer = check_customer(args.customer)
    if args.event and args.total is not None:
        raise InvalidArguments("--event and --total exclude each other: the total says which events were received.")
    async with open_services(args.settings) as services:
        (export,) = _exports(services.settings, args.export)
        if args.total is not None and not export.value:
            raise InvalidArguments(
                f"--total: the export {export.name} has no `value` that a total could be the sum of."
            )
        events = [each async for each in _events(services, [export], customer)]
        doubtful = [each for each in events if _state(each) == "in_doubt"]
        doubtful = [each for each in doubtful if not args.event or each.id in args.event]
        if args.event and len(doubtful) < len(set(args.event)):
            raise NotFound("An event that you named is not in doubt.")
        if not doubtful:
            document = {"customer": customer, "export": export.name, "received": [], "not_received": []}
            return Report(document, [f"No event of {customer} is in doubt at {export.name}."])
        received = await _received(args, services, export, customer, events, doubtful)
        others = [each for each in doubtful if each not in received]
        consequence = (
            f"{export.name} has {plural(len(received), 'event')} of {customer} that {_was(received)} in doubt "
            f"({_sum(received):f}); {plural(len(others), 'other')} ({_sum(others):f}) will be sent again. If the "
            "receiver has one of those, it counts twice."
        )
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "export": export.name}, ["Nothing was decided."], 1)
        outboxes = _outboxes(services)
        for decision, chosen in (("received", received), ("not_received", others)):
            ids = {each.id for each in chosen}
            await outboxes.decide(customer, export.name, decision, ids, by=person())  # type: ignore[arg-type]
    document = {
        "customer": customer,
        "export": export.name,
        "received": [each.id for each in received],
        "not_received": [each.id for each in others],
    }
    return Report(document, [f"Received: {len(received)}. Sent again: {len(others)}."])


async def _received(
    args: argparse.Namespace,
    services: Services,
    export: Export,
    customer: str,
    events: Sequence[OutboxEvent],
    doubtful: Sequence[OutboxEvent],
) -> Sequence[OutboxEvent]:
    """Return which events the receiver has, by the person's word or by the receiver's own total."""
    if args.total is None:
        return doubtful if args.received else []
    days = [_day_of(each) for each in doubtful]
    first, last = args.first or min(days), args.last or max(days)
    if not first <= min(days) or not max(days) <= last:
        raise InvalidArguments(f"--from and --to must include {min(days)} and {max(days)}: events there are in doubt.")
    if any(_state(each) == "sending" and first <= _day_of(each) <= last for each in events):
        raise CommandError("Some events of these days are being sent. Try again in a few minutes.")
    sent = await _outboxes(services).sent(customer, export.name, first, last)
    try:
        return received_of(args.total, sent, doubtful)
    except NotDecidable as exc:
        raise CommandError(f"{exc} The days are {first} to {last}, in UTC.") from None


def _exports(settings: Settings, name: str | None) -> list[Export]:
    """Return the exports of the setting, or the one with this name. Raises NotFound."""
    if name is None:
        return list(settings.usage_exports)
    for export in settings.usage_exports:
        if export.name == name:
            return [export]
    raise NotFound("USAGE_EXPORTS has no export of that name.")


def _outboxes(services: Services) -> Outboxes:
    return Outboxes(services.table, services.customer_records)


async def _events(services: Services, exports: Sequence[Export], customer: str | None) -> AsyncIterator[OutboxEvent]:
    outboxes = _outboxes(services)
    for each in [customer] if customer else await outboxes.customers():
        async for event in outboxes.events(each, exports):
            yield event


def _state(event: OutboxEvent) -> str:
    return event.state.state


def _day_of(event: OutboxEvent) -> date:
    return date.fromisoformat(event.key[2:12])


def _sum(events: Sequence[OutboxEvent]) -> Decimal:
    return sum((Decimal(each.state.value or "0") for each in events), Decimal(0))


def _was(events: Sequence[OutboxEvent]) -> str:
    return "was" if len(events) == 1 else "were"


def _document(event: OutboxEvent) -> dict[str, object]:
    state = event.state
    since = {} if state.since is None else {"sending_since": rfc3339(state.since)}
    texts = {"value": state.value, "reason": state.reason}
    return {
        "customer": event.customer,
        "export": event.export,
        "id": event.id,
        "record": event.key,
        "recorded_at": rfc3339(event.at),
        "state": state.state,
        **{name: text for name, text in texts.items() if text},
        **since,
    }


def _age(at: datetime) -> str:
    return duration((now() - at).total_seconds())
