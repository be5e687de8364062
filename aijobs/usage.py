"""`usage` shows a customer's statement, or what each customer used, as a table or as the CSV of the HTTP route."""

from __future__ import annotations

import argparse

from aijobs.console import plural
from aijobs.diagnostics import InvalidArguments
from aijobs.overview import overview_text
from aijobs.report import Report, Verbatim
from aijobs.rollups import rebuild, verify
from aijobs.scope import check_optional_customer
from aijobs.settings import open_services
from aijobs.table import Table, make_table
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.overview import overview_of
from shared.billing.periods import Days, PeriodInvalid, read_period
from shared.billing.statement_csv import encode_csv, encode_overview_csv
from shared.billing.statement_sums import DIMENSIONS
from shared.billing.statements import DEFAULT_DIMENSIONS, Statements
from shared.clock import now
from shared.contract.statement import Statement, StatementLine, UsageOverview
from shared.jobs.queries import all_customers

_NUMBERS = {
    "calls": "calls",
    "input": "input_tokens",
    "cached": "cached_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
    "images": "images",
    "jobs": "jobs",
}
"""The numbers of a line by their columns' names."""
_MONEY = {"no price": "unpriced", "amount": "amount"}
_LABELS = ("provider", "billed_to", "outcome")
_USUAL = frozenset({None, "default", "standard"})


async def usage(args: argparse.Namespace) -> Report:
    """Run `usage [CUSTOMER]`."""
    customer = check_optional_customer(args.customer)
    try:
        parameters = {"month": args.month, "from": args.first, "to": args.last}
        days = read_period(parameters, now().date(), lambda name: f"--{name}")
    except PeriodInvalid as exc:
        raise InvalidArguments(str(exc)) from None
    default = DEFAULT_DIMENSIONS if args.csv else ("model",)
    by = default if args.by is None else tuple(name.strip() for name in args.by.split(","))
    if not set(by) <= set(DIMENSIONS):
        raise InvalidArguments(f"--by must be one or more of {', '.join(DIMENSIONS)}, separated by commas.")
    if args.csv and args.json:
        raise InvalidArguments("--csv and --json exclude each other.")
    if (args.verify or args.rebuild) and (args.by is not None or args.csv):
        raise InvalidArguments("--verify and --rebuild show no statement: leave out --by and --csv.")
    if customer is None and args.by is not None:
        raise InvalidArguments("--by needs a customer: all customers have a line each.")
    async with open_services(args.settings) as services:
        if args.verify or args.rebuild:
            return await (verify if args.verify else rebuild)(services, customer, days)
        pricing = CustomerPricing(services.price_books, services.customer_records)
        statements = Statements(services.table)
        if customer is None:
            overview = overview_of(
                days,
                [
                    await statements.read(name, days.first, days.last, (), await pricing.read(name))
                    async for name in all_customers(services.table)
                ],
            )
            return _report(overview, encode_overview_csv(overview) if args.csv else None, overview_text(overview, days))
        statement = await statements.read(customer, days.first, days.last, by, await pricing.read(customer))
    return _report(statement, encode_csv(statement) if args.csv else None, _text(statement, days))


def _report(document: Statement | UsageOverview, csv: bytes | None, text: list[str | Table]) -> Report:
    return Report(document, text if csv is None else [Verbatim(csv.decode().replace("\r\n", "\n"))])


def _text(statement: Statement, days: Days) -> list[str | Table]:
    if not statement.lines:
        return [f"{statement.customer} has no usage in {days}."]
    special = [
        name
        for name in ("service_tier", "processing", "deployment_scope", "kind")
        if any(getattr(line, name) not in _USUAL for line in statement.lines)
    ]
    labels = (*statement.by, *_LABELS, *special)
    numbers = _NUMBERS | (_MONEY if statement.lines[0].currency else {})
    table = make_table(
        [*(name.replace("_", " ") for name in labels), *numbers],
        [[_cell(line, name) for name in (*labels, *numbers.values())] for line in statement.lines],
        numeric=frozenset(numbers),
    )
    words = "Input, cached, output and reasoning are numbers of tokens."
    text: list[str | Table] = [f"Usage of {statement.customer} in {days}. {words}", table]
    if statement.lines[0].currency:
        answered = statement.totals.answered
        left_out = f" Without a price: {plural(answered.unpriced, 'record')}." if answered.unpriced else ""
        amount = "no amount" if answered.amount is None else f"{answered.amount} {statement.lines[0].currency}"
        text.append(f"Answered: {amount}.{left_out}")
    text += [
        f"No price: {plural(each.records, 'record')} of {each.model or 'no model'}: {each.reason}."
        for each in statement.unpriced
    ]
    unreported = sum(line.unreported for line in statement.lines)
    if unreported:
        calls = plural(unreported, "call")
        text.append(f"The provider reported no usage for {calls}; their tokens are not in the table.")
    uncertain = statement.totals.lost.records + statement.totals.unanswered.records
    if uncertain:
        records = plural(uncertain, "record")
        text.append(f"Not `answered`: {records}. The provider may still charge for these calls.")
    return text


def _cell(line: StatementLine, name: str) -> object:
    value = getattr(line, name)
    if name == "unpriced":
        return value or "-"
    return "-" if value is None else value
