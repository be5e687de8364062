"""
Azure's retail prices: pages of meters, one for each kind of token, deployment scope and region. Pure.

A price book knows no regions. So the prices are those of one region, or without one those that are the same in all
regions. A superseded price can still be listed; the later one holds from its own day on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from aijobs.price_sources.azure_meters import LONG_CONTEXT, Meter, read_meter
from aijobs.price_sources.base import (
    AZURE_PROVIDERS,
    CURRENCY,
    NO_STEP,
    SourceError,
    SourcePrices,
    as_day,
    is_amount,
    per_million,
)

SOURCE = "azure"
_PRODUCTS = "Azure OpenAI"
_UNITS = {"1K": Decimal(1000), "1M": Decimal(1_000_000)}
_VARIANTS: dict[str | None, dict[str, str]] = {
    None: {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}

_Days = tuple[tuple[date, Decimal], ...]
"""Prices of a million, each from its day on."""
_Calls = Meter
"""A meter without its rate: what a price is for."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the list that has a price."""

    name: str
    meter: Meter
    region: str
    start: date
    amount: Decimal
    is_primary: bool


def convert(pages: Iterable[Any], since: date, region: str = "") -> SourcePrices:
    """Return the prices as they hold from a day on, in a region or in all alike. Raises SourceError."""
    source = SourcePrices(SOURCE)
    rows = [row for item in _items(pages) if (row := _read(source, item)) and region in ("", row.region)]
    if region and not rows:
        raise SourceError(f"Azure lists no price of a known model in the region {region}.")
    by_calls: defaultdict[_Calls, dict[str, _Days]] = defaultdict(dict)
    for meter, alike in _by_meter(rows).items():
        days = _agreed(source, alike, since)
        if days:
            by_calls[replace(meter, rate="")][meter.rate] = days
    for calls, rates in by_calls.items():
        _add(source, calls, rates)
        longer = replace(calls, min_input_tokens=LONG_CONTEXT)
        if calls.variant and longer not in by_calls and replace(longer, variant=None) in by_calls:
            source.leave_out(_label(longer), NO_STEP)
    return source


def next_page(page: Any) -> str | None:
    """Return the address of the page after this one, None after the last. Raises SourceError."""
    link = page.get("NextPageLink") if isinstance(page, dict) else None
    if link is not None and not isinstance(link, str):
        raise SourceError("The `NextPageLink` of Azure's prices is not a text.")
    return link or None


def _items(pages: Iterable[Any]) -> Iterable[Mapping[str, Any]]:
    for page in pages:
        items = page.get("Items") if isinstance(page, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise SourceError("A page of Azure's prices has no list `Items`.")
        yield from items


def _read(source: SourcePrices, item: Mapping[str, Any]) -> _Row | None:
    product, name = str(item.get("productName")), str(item.get("meterName"))
    if not product.startswith(_PRODUCTS):
        source.leave_out(product, "is not a product whose meters name their model")
        return None
    start, amount, unit = (
        as_day(item.get("effectiveStartDate")),
        item.get("retailPrice"),
        str(item.get("unitOfMeasure")),
    )
    meter = read_meter(name)
    if item.get("type", "Consumption") != "Consumption" or meter is None or unit not in _UNITS:
        source.leave_out(name, "is not a meter of a known model's tokens")
    elif item.get("currencyCode") != CURRENCY:
        raise SourceError(f"Azure's price of {name} is not in {CURRENCY}.")
    elif item.get("tierMinimumUnits"):
        source.leave_out(name, "has a price that depends on the volume")
    elif start is None or not is_amount(amount):
        source.leave_out(name, "has no day or no price")
    else:
        assert isinstance(amount, Decimal)  # noqa: S101  # for the type checker
        is_primary = item.get("isPrimaryMeterRegion") is not False
        price = per_million(amount, _UNITS[unit])
        return _Row(name, meter, str(item.get("armRegionName")), start, price, is_primary)
    return None


def _by_meter(rows: Iterable[_Row]) -> dict[Meter, list[_Row]]:
    by_meter: defaultdict[Meter, list[_Row]] = defaultdict(list)
    for row in rows:
        by_meter[row.meter].append(row)
    return by_meter


def _agreed(source: SourcePrices, rows: Iterable[_Row], since: date) -> _Days:
    """Return the prices of a meter, empty if regions or rows differ in them."""
    by_region: defaultdict[str, list[_Row]] = defaultdict(list)
    names = set()
    for row in rows:
        by_region[row.region].append(row)
        names.add(row.name)
    timelines: set[_Days | None] = {_days(each, since) for each in by_region.values()}
    if len(timelines) == 1 and None not in timelines:
        return timelines.pop() or ()
    reason = "has two prices on the same day" if None in timelines else "differs between regions: pass --region"
    for name in names:
        source.leave_out(name, reason)
    return ()


def _days(rows: Iterable[_Row], since: date) -> _Days | None:
    """Return the prices in a region from a day on, None if there are two on the same day."""
    by_start: defaultdict[date, dict[bool, set[Decimal]]] = defaultdict(lambda: {True: set(), False: set()})
    for row in rows:
        by_start[row.start][row.is_primary].add(row.amount)
    days: dict[date, Decimal] = {}
    for start, amounts in sorted(by_start.items()):
        primary = amounts[True] or amounts[False]
        if len(primary) != 1:
            return None
        days[max(start, since)] = next(iter(primary))  # of those before `since`, the last holds
    return tuple(days.items())


def _add(source: SourcePrices, calls: _Calls, rates: Mapping[str, _Days]) -> None:
    """Add the prices of certain calls: from each day on which one of them changes to the next."""
    starts = sorted({start for days in rates.values() for start, _ in days})
    label = _label(calls)
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        held = {rate: [amount for first, amount in days if first <= start] for rate, days in rates.items()}
        for provider in AZURE_PROVIDERS:
            for model in calls.models:
                source.add(
                    label,
                    {rate: amounts[-1] for rate, amounts in held.items() if amounts},
                    provider=provider,
                    model=model,
                    deployment_scope=calls.deployment_scope,
                    min_input_tokens=calls.min_input_tokens,
                    effective_from=start,
                    effective_to=end,
                    **_VARIANTS[calls.variant],
                )


def _label(calls: _Calls) -> str:
    label = " ".join(filter(None, (calls.model, calls.deployment_scope, calls.variant)))
    return f"{label} from {calls.min_input_tokens} input tokens on" if calls.min_input_tokens else label
