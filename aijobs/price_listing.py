"""What a price book says about certain calls on a day. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from aijobs.report import Report
from aijobs.table import Table, make_table
from shared.billing.price_books import PublishedBook
from shared.clock import rfc3339
from shared.contract.price_book import RATES, Price, days_of

_PER_UNIT = ("image", "second", "call")
_LABELS = ("model", "provider", "scope", "processing", "tier", "min input", "customer")
_ENDS = ("from", "to", "source")


def list_prices(
    current: PublishedBook, day: date, model: str | None, provider: str | None, customer: str | None
) -> Report:
    """Return the prices, and the markups of a customer, that hold on a day. None: of all."""
    book = current.book
    prices = [
        price
        for price in _held(book.prices, day)
        if (model is None or _is_for(price, model))
        and provider in (None, price.provider)
        and (customer is None or price.customer in (None, customer))
    ]
    markups = [markup for markup in _held(book.markups, day) if customer is None or markup.customer in (None, customer)]
    document = {
        "day": f"{day}",
        "currency": book.currency,
        "sha256": current.sha256,
        "published_at": rfc3339(current.at),
        "prices": prices,
        "markups": markups,
    }
    text: list[str | Table] = []
    if prices:
        text.append(
            f"In {book.currency} per million tokens or characters, and for each image, second or call, on {day}:"
        )
        text.append(_table(prices))
    else:
        text.append(f"No price holds for this on {day}.")
    for markup in markups:
        whom = f"for {markup.customer}" if markup.customer else "for all customers without one of their own"
        text.append(f"Markup {whom}: {markup.percent:f}%, and {markup.per_job:f} {book.currency} a job.")
    return Report(document, text)


def _held(entries: Iterable[Any], day: date) -> list[Any]:
    return [entry for entry in entries if days_of(entry)[0] <= day < days_of(entry)[1]]


def _is_for(price: Price, model: str) -> bool:
    return model.startswith(price.model[:-1]) if price.model.endswith("*") else model == price.model


def _table(prices: Sequence[Price]) -> Table:
    rates = [rate for rate in RATES if any(getattr(price, rate) is not None for price in prices)]
    names = {rate: rate.replace("_", " ") for rate in rates}
    rows = [
        [
            *(price.model, price.provider, price.deployment_scope),
            *("" if price.processing == "standard" else price.processing, price.tier),
            *(price.min_input_tokens or None, price.customer),
            *("" if (amount := getattr(price, rate)) is None else f"{amount:f}" for rate in rates),
            *(price.effective_from, price.effective_to, price.source),
        ]
        for price in prices
    ]
    return make_table([*_LABELS, *names.values(), *_ENDS], rows, numeric=frozenset({"min input", *names.values()}))
