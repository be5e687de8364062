"""`adjustments` credits and debits a customer's month by hand, and lists what was."""

from __future__ import annotations

import argparse
import hashlib

import msgspec

from aijobs.confirmation import is_confirmed
from aijobs.diagnostics import CommandError, Exists, InvalidArguments
from aijobs.person import person
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer, check_month
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.billing.adjustments import Adjustments
from shared.contract.adjustment import Adjustment, AdjustmentPage, NewAdjustment, decode_adjustment
from shared.contract.closed_month import DocumentId
from shared.errors import InvalidJob, JobConflict

_PAGE = 100
_COLUMNS = ("month", "id", "amount", "currency", "at", "by", "description")


async def list_all(args: argparse.Namespace) -> Report:
    """Run `adjustments list CUSTOMER`."""
    customer = check_customer(args.customer)
    month = None if args.month is None else check_month(args.month)
    listed: list[Adjustment] = []
    after: str | None = ""
    async with open_services(args.settings) as services:
        adjustments = Adjustments(services.table)
        while after is not None:
            page = await adjustments.page(customer, after=after, limit=_PAGE, month=month)
            listed += page.adjustments
            after = page.continuation
    if not listed:
        return Report(AdjustmentPage(adjustments=[]), [f"{customer} has no credits and debits."])
    rows = [[getattr(each, name) for name in _COLUMNS] for each in listed]
    table = make_table(_COLUMNS, rows, numeric=frozenset({"amount"}), prose="description")
    return Report(AdjustmentPage(adjustments=listed), [table])


async def add(args: argparse.Namespace) -> Report:
    """Run `adjustments credit CUSTOMER` or `adjustments debit CUSTOMER`. The exit code is 1 if it was not confirmed."""
    customer, month = check_customer(args.customer), check_month(args.month)
    async with open_services(args.settings) as services:
        adjustments = Adjustments(services.table)
        currency = await adjustments.currency(customer, month, services.customer_records, services.price_books)
        new = _new(args, currency)
        try:
            await services.closing.facts.check_adjustable(customer, new)
        except InvalidJob as exc:
            raise InvalidArguments(str(exc).replace("`month`", "--month")) from None
        is_other = currency is not None and new.currency != currency
        if is_other and not await adjustments.takes_back(customer, new):
            raise InvalidArguments(
                f"--currency must be {currency}, the currency of the customer's documents of {month}."
            )
        consequence = (
            f"This {args.kind}s {customer} {new.amount.removeprefix('-')} {new.currency} in {new.month}: "
            f"{new.description}. It can't be changed or deleted."
        )
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "added": False}, ["Nothing was added."], 1)
        is_closed = await services.closing.records.read(customer, DocumentId(month)) is not None
        try:
            adjustment, is_new = await adjustments.add(customer, new, by=person())
        except JobConflict as exc:
            raise Exists(str(exc)) from None
    what = f"the {args.kind} {adjustment.id} of {adjustment.amount} {adjustment.currency}"
    text = [
        f"Added {what} to {adjustment.month} of {customer}."
        if is_new
        else f"{customer} has {what} in {adjustment.month} already. Nothing was added: for another one, use --id."
    ]
    if is_new and is_closed:
        correct = command(f"close-month --month {month} --customer {customer} --correct")
        text.append(f"{month} is closed: it becomes part of its next correction, which {correct} makes.")
    return Report({"customer": customer, "added": is_new, "adjustment": adjustment}, text)


def _new(args: argparse.Namespace, currency: str | None) -> NewAdjustment:
    """Return what the command line describes. Without an id, it follows from the content: so the same is added once."""
    if args.currency is None and currency is None:
        raise CommandError("Neither the customer's profile nor a price book names a currency: use --currency.")
    members = {
        "month": args.month,
        "amount": f"-{args.amount}" if args.kind == "credit" else args.amount,
        "currency": args.currency or currency,
        "description": args.description,
    }
    digest = hashlib.sha256(msgspec.json.encode(members)).hexdigest()
    try:
        return decode_adjustment(msgspec.json.encode({"id": args.id or f"{args.kind}-{digest[:12]}", **members}))
    except InvalidJob as exc:
        raise InvalidArguments(str(exc)) from None
