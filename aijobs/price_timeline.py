"""
Prices over time: how an import or a price of one's own changes a book from a day on. Pure.

The days before stay as they are. What somebody set, or another source brought, is never changed by an import: the
source's price for the same calls only holds on the days that are left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import msgspec

from aijobs.price_sources.base import LeftOut, SourcePrices, replace
from shared.contract.price_book import Price, PriceBook, days_of, entry_key

_Span = tuple[date, date]
"""Days, from the first to the first that no longer belongs to them."""
_ALL_DAYS = (date.min, date.max)


def with_source(book: PriceBook, source: SourcePrices, since: date) -> tuple[PriceBook, list[LeftOut]]:
    """Return the book with a source's prices from a day on, and those of them that other entries leave no day for."""
    own, others, new = _by_calls(()), _by_calls(()), _by_calls(source.prices)
    for price in book.prices:
        (own if price.source == source.source else others)[_key(price)].append(price)
    prices: list[Price] = []
    left_out: list[LeftOut] = []
    for key in {**own, **others, **new}:
        taken = [days_of(price) for price in others[key]]
        kept = _within(own[key], (date.min, since))
        added = _within(new[key], (since, date.max))
        free = [part for price in added for part in _without(price, taken)]
        if added and not free:
            holder = others[key][-1].source or "a price without a source"
            left_out.append(LeftOut(f"is left to {holder}", describe(added[0])))
        prices += _joined([*kept, *free]) + others[key]
    return _with_prices(book, prices), left_out


def with_price(book: PriceBook, price: Price) -> PriceBook:
    """Return the book with a price in the place of all others for the same calls, on the days of the price."""
    key, days = _key(price), days_of(price)
    rest = [other for other in book.prices if _key(other) != key]
    same = [part for other in book.prices if _key(other) == key for part in _without(other, [days])]
    return _with_prices(book, [*rest, *_joined([*same, price])])


def describe(price: Price) -> str:
    """Return what calls a price is for, in words."""
    words = [price.provider, price.model, price.deployment_scope, price.tier]
    words += ["batch"] if price.processing == "batch" else [] if price.processing == "standard" else [price.processing]
    words += [f"from {price.min_input_tokens:,} input tokens on"] if price.min_input_tokens else []
    words += [f"for {price.customer}"] if price.customer else []
    return " ".join(filter(None, words))


def _key(price: Price) -> tuple[Any, ...]:
    return entry_key("prices", price)


def _by_calls(prices: Iterable[Price]) -> defaultdict[tuple[Any, ...], list[Price]]:
    by_calls: defaultdict[tuple[Any, ...], list[Price]] = defaultdict(list)
    for price in prices:
        by_calls[_key(price)].append(price)
    return by_calls


def _with_prices(book: PriceBook, prices: Iterable[Price]) -> PriceBook:
    ordered = sorted(prices, key=lambda price: ([str(part or "") for part in _key(price)], days_of(price)))
    return msgspec.structs.replace(book, prices=ordered)


def _within(prices: Iterable[Price], span: _Span) -> list[Price]:
    """Return the parts of prices that are within days."""
    before, after = (date.min, span[0]), (span[1], date.max)
    return [part for price in prices for part in _without(price, [before, after])]


def _without(price: Price, spans: Sequence[_Span]) -> list[Price]:
    """Return the parts of a price that are outside of days."""
    parts = [days_of(price)]
    for first, end in spans:
        parts = [
            part
            for start, stop in parts
            for part in ((start, min(stop, first)), (max(start, end), stop))
            if part[0] < part[1]
        ]
    return [_on(price, span) for span in parts]


def _on(price: Price, span: _Span) -> Price:
    return replace(
        price,
        effective_from=None if span[0] == date.min else span[0],
        effective_to=None if span[1] == date.max else span[1],
    )


def _joined(prices: Iterable[Price]) -> list[Price]:
    """Return prices for the same calls in order, those that follow on one another and say the same as one."""
    joined: list[Price] = []
    for price in sorted(prices, key=days_of):
        last = joined[-1] if joined else None
        if last and days_of(last)[1] == days_of(price)[0] and _on(last, _ALL_DAYS) == _on(price, _ALL_DAYS):
            joined[-1] = _on(price, (days_of(last)[0], days_of(price)[1]))
        else:
            joined.append(price)
    return joined
