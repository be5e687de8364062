"""`prices check`: what the month's calls are priced by, and which have no price."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aijobs.console import plural
from aijobs.price_timeline import describe
from aijobs.prices import no_book
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_month
from aijobs.settings import open_services
from aijobs.table import Table, make_table
from shared.billing.periods import Days
from shared.billing.pricing import Cost, Pricing
from shared.billing.rollups import Rollups
from shared.billing.usage_entries import Entry
from shared.billing.usage_records import is_closed_job
from shared.clock import now
from shared.contract.price_book import Price
from shared.jobs.queries import all_customers
from shared.services import Services
from shared.storage.base import Table as StorageTable

_Calls = tuple[str, str, Price | str]
"""The provider, the model, and its price or why there is none."""


@dataclass(slots=True)
class _Use:
    records: int = 0
    customers: set[str] = field(default_factory=set)


async def check(args: argparse.Namespace) -> Report:
    """Run `prices check`. The exit code is 1 if a call has no price."""
    month = check_month(args.month or f"{now():%Y-%m}")
    async with open_services(args.settings) as services:
        current = await services.price_books.current()
        if current is None:
            raise no_book()
        uses = await _uses(services, Pricing(current.book), month)
    priced = {calls: use for calls, use in sorted(uses.items(), key=_order) if isinstance(calls[2], Price)}
    unpriced = {calls: use for calls, use in sorted(uses.items(), key=_order) if isinstance(calls[2], str)}
    document = {
        "month": month,
        "sha256": current.sha256,
        "priced": [_members(calls, use) | {"price": calls[2]} for calls, use in priced.items()],
        "unpriced": [_members(calls, use) | {"reason": calls[2]} for calls, use in unpriced.items()],
    }
    return Report(document, _text(month, priced, unpriced), 1 if unpriced else 0)


async def _uses(services: Services, book: Pricing, month: str) -> dict[_Calls, _Use]:
    uses: dict[_Calls, _Use] = {}
    async for customer in all_customers(services.table):
        currency = (await services.customer_records.read(customer)).profile.currency
        pricing = book.in_currency(currency) if currency else book
        async for entry in _answered(services.table, customer, month, pricing):
            record, day = entry.values, entry.priced_on
            cost = pricing.cost(customer, day, record)
            basis: Price | str
            if isinstance(cost, Cost):
                model, basis = pricing.model_of(customer, record) or "", cost.price
            else:
                model, basis = cost.model, cost.reason.replace(f" on {day}", "")
            use = uses.setdefault((str(record.get("provider") or ""), model, basis), _Use())
            use.records += entry.rows
            use.customers.add(customer)
    return uses


async def _answered(table: StorageTable, customer: str, month: str, pricing: Pricing) -> AsyncIterator[Entry]:
    """Yield the month's usage records that can be billed: an unanswered call has no tokens to price."""
    days = Days.of_month(month)
    async for entries in Rollups(table).entries(customer, days.first, days.last, pricing.steps):
        for entry in entries:
            if not is_closed_job(entry.values) and entry.values.get("outcome", "answered") != "unanswered":
                yield entry


def _order(item: tuple[_Calls, _Use]) -> tuple[str, ...]:
    (provider, model, basis), _ = item
    return provider, model, describe(basis) if isinstance(basis, Price) else basis


def _members(calls: _Calls, use: _Use) -> dict[str, Any]:
    provider, model, _ = calls
    return {"provider": provider, "model": model, "records": use.records, "customers": sorted(use.customers)}


def _text(month: str, priced: Mapping[_Calls, _Use], unpriced: Mapping[_Calls, _Use]) -> list[str | Table]:
    text: list[str | Table] = []
    if not priced and not unpriced:
        text.append(f"Nobody has used a model in {month}.")
    if unpriced:
        rows = [
            (model, provider, use.records, _names(use), reason) for (provider, model, reason), use in unpriced.items()
        ]
        numeric = frozenset({"records"})
        text.append(f"Without a price in {month}:")
        text.append(
            make_table(("model", "provider", "records", "customers", "reason"), rows, numeric=numeric, prose="reason")
        )
    if priced:
        rows = [
            (model, provider, use.records, price.source or "set by hand", describe(price))
            for (provider, model, price), use in priced.items()
            if isinstance(price, Price)
        ]
        columns = ("model", "provider", "records", "source", "price")
        text.append(f"Priced in {month}:")
        text.append(make_table(columns, rows, numeric=frozenset({"records"}), prose="price"))
    if unpriced:
        records = sum(use.records for use in unpriced.values())
        text.append(
            f"{plural(records, 'record')} without a price. Set one with {command('prices set')}, or import more prices."
        )
    return text


def _names(use: _Use) -> str:
    names = sorted(use.customers)
    return names[0] if len(names) == 1 else f"{len(names)} customers"
