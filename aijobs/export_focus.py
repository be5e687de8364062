"""`export-focus` writes a month of all customers, or of one, as FOCUS CSV for FinOps tools."""

from __future__ import annotations

import argparse
from typing import Any

from msgspec.structs import replace

from aijobs.console import plural, warn
from aijobs.diagnostics import Exists, InvalidArguments
from aijobs.program import command
from aijobs.report import Report, Verbatim
from aijobs.scope import check_month, check_optional_customer, customers_of
from aijobs.settings import open_services
from shared.billing.adjustments import Adjustments
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.periods import Days
from shared.billing.pricing import Pricing
from shared.billing.statements import Statements
from shared.contract.closed_month import DocumentId
from shared.exports.focus import BY, encode_focus, focus_rows, left_out
from shared.services import Services


async def export(args: argparse.Namespace) -> Report:
    """Run `export-focus`. What has no price is left out, and counted."""
    month = Days.of_month(check_month(args.month))
    if args.to is None and args.json:
        raise InvalidArguments("--json needs --to FILE: the report is CSV.")
    customer = check_optional_customer(args.customer)
    unpriced, erased = 0, 0
    rows: list[dict[str, Any]] = []
    async with open_services(args.settings) as services:
        if await services.price_books.pricing() is None:
            raise InvalidArguments(f"There is no price book: {command('prices import')} publishes one.")
        if not services.closing.facts.is_kept(args.month):
            raise InvalidArguments(
                f"The usage records of {args.month} are no longer kept (RETAIN_USAGE_MONTHS), so their costs would be "
                "missing. The documents of closed months have them."
            )
        for each in await customers_of(services.table, customer):
            erased_at = await services.closing.records.erased_at(each, args.month)
            erased += erased_at is not None and f"{erased_at:%Y-%m}" >= args.month
            own, without_price = await _rows(services, each, month, args.issuer)
            rows += own
            unpriced += without_price
    hints = []
    if unpriced:
        hints.append(
            f"Left out: {plural(unpriced, 'record')} without a price. {command('usage')} counts them by customer."
        )
    if erased:
        hints.append(f"Left out: the usage of {plural(erased, 'customer')} that was erased.")
    data = encode_focus(rows)
    if args.to is None:
        for hint in hints:
            warn(hint)
        return Report({}, [Verbatim(data.decode().replace("\r\n", "\n"))])
    try:
        with args.to.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise Exists(f"{args.to} exists. Name a new file.") from None
    document = {
        "file": str(args.to),
        "month": args.month,
        "rows": len(rows),
        "left_out": unpriced,
        "erased_customers": erased,
    }
    return Report(document, [" ".join([f"Wrote {plural(len(rows), 'row')} to {args.to}.", *hints])])


async def _rows(services: Services, customer: str, days: Days, issuer: str) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a customer's month, and how many records have no price."""
    month, facts = f"{days.first:%Y-%m}", services.closing.facts
    profile = (await services.customer_records.read(customer)).profile
    closed = await facts.written(customer, DocumentId(month))
    if closed is None:
        prices = await CustomerPricing(services.price_books, services.customer_records).read(customer)
    else:  # it is billed as it was closed, whatever prices and profile are now
        book = await services.price_books.read(closed[0].price_book)
        prices = Pricing(book).in_currency(closed[0].currency)
        profile = replace(profile, bill_outcomes=tuple(closed[0].bill_outcomes))
    documents = [
        (record.printed_number, internal[0])
        for record in await services.closing.records.list(customer, month)
        if (internal := await facts.written(customer, record.document)) is not None
    ]
    statement = await Statements(services.table).read(customer, days.first, days.last, BY, prices)
    adjustments = await Adjustments(services.table).list(customer, month)
    rows = focus_rows(statement, profile, adjustments, month=days, issuer=issuer, documents=documents)
    return list(rows), left_out(statement, profile)
