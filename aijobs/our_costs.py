"""What our records of a provider cost before markup, by day and by what a bill of the provider names."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any

from aijobs.cost_comparison import OurCosts
from aijobs.scope import customers_of
from shared.billing.money import EXACT
from shared.billing.periods import Days
from shared.billing.pricing import Pricing, Unpriced
from shared.billing.rollups import Rollups
from shared.billing.usage_records import is_closed_job
from shared.errors import JobError, RetryLater
from shared.services import Services

NameItem = Callable[[str, Mapping[str, Any]], Awaitable[str]]
"""Returns what a bill calls what a customer's record is for."""


async def our_costs(
    services: Services,
    days: Days,
    pricing: Pricing,
    providers: frozenset[str],
    customer: str | None,
    name_item: NameItem,
) -> tuple[dict[tuple[date, str], OurCosts], set[str]]:
    """
    Return our costs by day and item, and why records have no price.

    Of a customer: what it pays for itself. Without one: what the operator pays for all of them.
    """
    costs: dict[tuple[date, str], OurCosts] = {}
    reasons: set[str] = set()
    billed_to = "operator" if customer is None else "customer"
    for name in await customers_of(services.table, customer):
        async for entries in Rollups(services.table).entries(name, days.first, days.last, pricing.steps):
            for entry in entries:
                values = entry.values
                if values.get("provider") not in providers or values.get("billed_to") != billed_to:
                    continue
                if is_closed_job(values):
                    continue
                model = pricing.model_of(name, values)
                # What the operator charges one customer is not what the provider charges the operator.
                record = {**values, "answered_by": model} if model else values
                cost = pricing.cost(customer or "", entry.priced_on, record)
                if isinstance(cost, Unpriced) and values.get("outcome") == "unanswered":
                    continue  # it may have cost nothing
                each = costs.setdefault((entry.day, await name_item(name, values)), OurCosts())
                each.records += entry.rows
                each.input_tokens += values.get("input_tokens") or 0
                each.output_tokens += values.get("output_tokens") or 0
                each.names.add(model or str(values.get("model") or ""))
                if isinstance(cost, Unpriced):
                    each.unpriced += entry.rows
                    reasons.add(cost.reason)
                else:
                    each.amount = EXACT.add(each.amount, cost.amount)
    return costs, reasons


def by_model(pricing: Pricing) -> NameItem:
    """Return a function that names the model."""

    async def name(customer: str, values: Mapping[str, Any]) -> str:
        return pricing.model_of(customer, values) or str(values.get("model") or "")

    return name


def by_resource(services: Services) -> NameItem:
    """Return a function that names the resource on Azure: the first label of the endpoint's host."""
    resources: dict[tuple[str, str, str], str] = {}

    async def name(customer: str, values: Mapping[str, Any]) -> str:
        connection, source = str(values.get("connection") or ""), str(values.get("source") or "")
        key = customer, connection, source
        if key not in resources:
            resources[key] = f"connection {customer}/{connection}"
            with contextlib.suppress(JobError, RetryLater):  # the connection is gone, or another's: its records stay
                resolved = await services.connections.resolve(customer, connection)
                if resolved.source == source:
                    resources[key] = resolved.endpoint.host.partition(".")[0]
        return resources[key]

    return name
