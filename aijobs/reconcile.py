"""`reconcile`: what our records cost beside what the provider says that it charges, each difference by name."""

from __future__ import annotations

import argparse
import os
from datetime import date
from typing import Any

from aijobs import azure_costs, openai_costs
from aijobs.console import plural
from aijobs.cost_comparison import Comparison, TheirCosts, compare, differing, document, text
from aijobs.diagnostics import CommandError, InvalidArguments
from aijobs.key_input import read_key
from aijobs.our_costs import NameItem, by_model, by_resource, our_costs
from aijobs.prices import no_book
from aijobs.report import Report
from aijobs.scope import check_optional_customer
from aijobs.settings import open_services, read_app_settings
from aijobs.table import Table, make_table
from shared.billing.periods import Days, PeriodInvalid, read_period
from shared.billing.pricing import Pricing
from shared.clock import now
from shared.secret import Secret
from shared.services import Services

_KEY_VARIABLE = "OPENAI_ADMIN_KEY"
_WORDS = {"differs": "differs", "only_ours": "only in our records", "only_theirs": "only in the bill"}


async def openai(args: argparse.Namespace) -> Report:
    """Run `reconcile openai`."""
    days, customer = _days(args), check_optional_customer(args.customer)
    async with open_services(args.settings) as services:
        pricing = await _pricing(services)
        theirs, currency = await openai_costs.read_costs(days, _admin_key(args), args.project)
        pricing = pricing.in_currency(currency)
        return await _report(args, services, days, pricing, openai_costs.PROVIDERS, customer, by_model(pricing), theirs)


async def azure(args: argparse.Namespace) -> Report:
    """Run `reconcile azure FILE`."""
    days, customer = _days(args), check_optional_customer(args.customer)
    theirs, currency = azure_costs.read_costs(args.file, days)
    has_vault = bool(read_app_settings(args.settings).key_vault_url)
    async with open_services(args.settings, vault=has_vault) as services:
        pricing = await _pricing(services)
        pricing = pricing.in_currency(currency or pricing.currency)
        name_item = by_resource(services)
        return await _report(args, services, days, pricing, azure_costs.PROVIDERS, customer, name_item, theirs)


async def _report(
    args: argparse.Namespace,
    services: Services,
    days: Days,
    pricing: Pricing,
    providers: frozenset[str],
    customer: str | None,
    name_item: NameItem,
    theirs: dict[tuple[date, str], TheirCosts],
) -> Report:
    ours, reasons = await our_costs(services, days, pricing, providers, customer, name_item)
    comparisons = compare(ours, theirs, args.tolerance)
    body = {
        "customer": customer,
        "from": f"{days.first}",
        "to": f"{days.last}",
        **document(comparisons, pricing.currency),
        "unpriced": sorted(reasons),
    }
    return Report(body, _text(comparisons, body, days), 1 if differing(comparisons) else 0)


def _text(comparisons: list[Comparison], body: dict[str, Any], days: Days) -> list[str | Table]:
    currency, differences = body["currency"], differing(comparisons)
    sums = f"our records {body['ours']} {currency}, the bill {body['theirs']} {currency}"
    if not comparisons:
        return [f"In {days}, neither our records nor the bill have anything."]
    lines: list[str | Table] = [f"In {days}: {sums}, a difference of {body['difference']} {currency}."]
    if not differences:
        return [*lines, f"All {plural(len(comparisons), 'line')} agree."]
    rows = [
        (
            f"{each.day}",
            each.item,
            text(each.ours.amount, currency) if each.ours else "-",
            text(each.theirs.amount, currency) if each.theirs else "-",
            text(each.difference, currency),
            _explanation(each),
        )
        for each in differences
    ]
    columns = ("day", "item", "ours", "bill", "difference", "what differs")
    lines.append(make_table(columns, rows, numeric=frozenset({"ours", "bill", "difference"}), prose="what differs"))
    lines += [f"No price: {reason}." for reason in body["unpriced"]]
    return lines


def _explanation(comparison: Comparison) -> str:
    words = [_WORDS[comparison.verdict]]
    if comparison.ours:
        words.append(f"{plural(comparison.ours.records, 'record')} of {_listed(comparison.ours.names)}")
        if comparison.ours.unpriced:
            words.append(f"{comparison.ours.unpriced} without a price")
    if comparison.theirs:
        words.append(f"billed as {_listed(comparison.theirs.names)}")
    return "; ".join(words)


def _listed(names: set[str]) -> str:
    return ", ".join(name or "no name" for name in sorted(names))


def _days(args: argparse.Namespace) -> Days:
    try:
        return read_period(
            {"month": args.month, "from": args.first, "to": args.last}, now().date(), lambda name: f"--{name}"
        )
    except PeriodInvalid as exc:
        raise InvalidArguments(str(exc)) from None


def _admin_key(args: argparse.Namespace) -> Secret:
    text_of_key = os.environ.get(_KEY_VARIABLE, "").strip()
    if args.key_file is None and text_of_key:
        try:
            text_of_key.encode()
        except UnicodeEncodeError:
            raise CommandError(f"The key in {_KEY_VARIABLE} is not UTF-8 text.") from None
        return Secret(text_of_key)
    return read_key(args.key_file, "an admin of OpenAI")


async def _pricing(services: Services) -> Pricing:
    pricing = await services.price_books.pricing()
    if pricing is None:
        raise no_book()
    return pricing
