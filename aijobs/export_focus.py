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


async def export(args: argparse.Namespace) -> Report:
    """Run `export-focus`. What has no price is left out, and counted."""
    month = Days.of_month(check_month(args.month))
    if args.to is None and args.json:
        raise InvalidArguments("--json needs --to FILE: the report is CSV.")
    customer = check_optional_customer(args.customer)
    unpriced = 0
    rows: list[dict[str, Any]] = []
    async with open_services(args.settings) as services:
        pricing = CustomerPricing(services.price_books, services.customer_records)
        if await services.price_books.pricing() is None:
            raise InvalidArguments(f"There is no price book: {command('prices import')} publishes one.")
        for each in await customers_of(services.table, customer):
            profile = (await services.customer_records.read(each)).profile
            closed = await services.closing.facts.written(each, DocumentId(args.month))
            if closed is None:
                prices = await pricing.read(each)
            else:  # it is billed as it was closed, whatever prices and profile are now
                book = await services.price_books.read(closed[0].price_book)
                prices = Pricing(book).in_currency(closed[0].currency)
                profile = replace(profile, bill_outcomes=tuple(closed[0].bill_outcomes))
            statement = await Statements(services.table).read(each, month.first, month.last, BY, prices)
            adjustments = await Adjustments(services.table).list(each, args.month)
            rows += focus_rows(statement, profile, adjustments, month=month, issuer=args.issuer)
            unpriced += left_out(statement, profile)
    hint = f"Left out: {plural(unpriced, 'record')} without a price. {command('usage')} counts them by customer."
    data = encode_focus(rows)
    if args.to is None:
        if unpriced:
            warn(hint)
        return Report({}, [Verbatim(data.decode().replace("\r\n", "\n"))])
    try:
        with args.to.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise Exists(f"{args.to} exists. Name a new file.") from None
    document = {"file": str(args.to), "month": args.month, "rows": len(rows), "left_out": unpriced}
    return Report(document, [f"Wrote {plural(len(rows), 'row')} to {args.to}.{f' {hint}' if unpriced else ''}"])
