"""
What calls cost by a price book: which of its prices holds for a usage record, and the exact amount. Pure.

What has no price is unpriced, and never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from shared.billing.money import EXACT, exact_sum
from shared.billing.price_lookup import PriceLookup, holds
from shared.contract.price_book import Markup, ModelAlias, Price, PriceBook, Rate

_ONE, _MILLIONTH = Decimal(1), Decimal("0.000001")
_INPUT_PARTS = {
    "cached_tokens": "cached",
    "cache_write_tokens": "cache_write",
    "cache_write_long_tokens": "cache_write_long",
    "audio_input_tokens": "audio_input",
    "image_input_tokens": "image_input",
}
"""Parts of the input, by their counts, and the price of each."""
_CACHE_PRICES = frozenset({"cached", "cache_write", "cache_write_long"})
"""A part of a cache without a price of its own costs what input costs."""
_OUTPUT_PARTS = {"audio_output_tokens": "audio_output", "image_output_tokens": "image_output"}
_PARTS = _INPUT_PARTS | _OUTPUT_PARTS
_TOKEN_PRICES = ("input", "output", *_PARTS.values())
"""With one of them, tokens are charged; without any, a call is charged by what else it has."""
_OTHER_COUNTS = {"images": "image", "seconds": "second", "characters": "characters"}
PRICED_APART = (*_PARTS, *_OTHER_COUNTS, "calls")
"""Counts that need a price of their own if they are not 0."""
MAY_BE_UNKNOWN = ("input_tokens", "output_tokens")
"""Counts without which a call has no price."""
_MODEL_IN_RECORD = frozenset({"openai"})
"""Providers at which customers name the model itself. Elsewhere they name a deployment, which says nothing of it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs, in the currency of the pricing: exact, before any markup."""

    amount: Decimal
    price: Price


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Why a call has no price: what is missing, in words."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pricing:
    """The prices of a book, by what calls are. Amounts are in `currency`, by default the book's."""

    book: PriceBook
    currency: str = ""
    _lookup: PriceLookup = field(init=False)
    _aliases: Mapping[tuple[str | None, str | None, str], ModelAlias] = field(init=False)
    _markups: Mapping[str | None, Sequence[Markup]] = field(init=False)
    """By customer."""
    _rates: Sequence[Rate] = field(init=False)
    """From the book's currency to `currency`, the latest first."""

    def __post_init__(self) -> None:
        currency, markups = self.currency or self.book.currency, dict[str | None, list[Markup]]()
        for markup in self.book.markups:
            markups.setdefault(markup.customer, []).append(markup)
        values = {
            "currency": currency,
            "_lookup": PriceLookup(self.book.prices),
            "_aliases": {(alias.customer, alias.connection, alias.deployment): alias for alias in self.book.models},
            "_markups": markups,
            "_rates": _rates_to(currency, self.book),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def steps(self) -> frozenset[int]:
        """The numbers of input tokens from which on a call may have another price."""
        return frozenset(price.min_input_tokens for price in self.book.prices if price.min_input_tokens)

    def in_currency(self, currency: str) -> Pricing:
        """Return the same prices with amounts in another currency, by the book's rates."""
        pricing = copy(self)  # with the same tables: a book has thousands of prices, and each customer its currency
        object.__setattr__(pricing, "currency", currency)
        object.__setattr__(pricing, "_rates", _rates_to(currency, self.book))
        return pricing

    def cost(self, customer: str, day: date, record: Mapping[str, Any]) -> Cost | Unpriced:
        """Return what the call of a usage record costs. `record`: the columns of its row; `day`: the record's."""
        model = self.model_of(customer, record)
        if model is None:
            name = str(record.get("model") or "")
            return Unpriced(name, f"no entry in `models` says which model the deployment {name} is")
        price = self._lookup.find(customer, day, model, record)
        if price is None:
            return Unpriced(model, f"no price holds for {model} on {day}{_conditions(record)}")
        cost, rate = _cost(price, model, record), self._rate(day)
        if isinstance(cost, Unpriced):
            return cost
        return self._no_rate(model, day) if rate is None else Cost(EXACT.multiply(cost.amount, rate), price)

    def charge(self, customer: str, day: date, list_amount: Decimal, *, jobs: int = 0) -> Decimal:
        """
        Return what a customer pays: list price and markup. `jobs`: how many were closed on that day.

        Without what a markup has by job if that has no rate; see `missing_fee`.
        """
        markup = self._markup(customer, day)
        if markup is None:
            return list_amount
        factor = EXACT.add(Decimal(1), EXACT.divide(markup.percent, Decimal(100)))
        fee = EXACT.multiply(EXACT.multiply(markup.per_job, Decimal(jobs)), self._rate(day) or Decimal(0))
        return EXACT.add(EXACT.multiply(list_amount, factor), fee)

    def missing_fee(self, customer: str, day: date) -> Unpriced | None:
        """Return why a job that was closed on that day can't be charged for, None if it can, or costs nothing."""
        markup = self._markup(customer, day)
        if markup is None or not markup.per_job or self._rate(day) is not None:
            return None
        return self._no_rate("", day)

    def saved(self, customer: str, day: date, record: Mapping[str, Any], cost: Cost) -> Decimal:
        """Return what a call would have cost more by standard processing; 0 if that has no price."""
        if cost.price.processing == "standard" and cost.price.tier != "flex":
            return Decimal(0)
        standard = self.cost(customer, day, {**record, "processing": "standard", "service_tier": None})
        return Decimal(0) if isinstance(standard, Unpriced) else EXACT.subtract(standard.amount, cost.amount)

    def _rate(self, day: date) -> Decimal | None:
        """What one unit of the book's currency is worth on that day."""
        if self.currency == self.book.currency:
            return Decimal(1)
        return next((rate.rate for rate in self._rates if (rate.effective_from or date.min) <= day), None)

    def _no_rate(self, model: str, day: date) -> Unpriced:
        return Unpriced(model, f"no rate from {self.book.currency} to {self.currency} holds on {day}")

    def _markup(self, customer: str, day: date) -> Markup | None:
        markups = (*self._markups.get(customer, ()), *self._markups.get(None, ()))
        return next((markup for markup in markups if holds(markup, day)), None)

    def model_of(self, customer: str, record: Mapping[str, Any]) -> str | None:
        """Return the model that a call is priced as: the one that answered, else the deployment's."""
        if answered_by := record.get("answered_by"):
            return str(answered_by)
        deployment, connection = str(record.get("model") or ""), record.get("connection")
        for key in ((customer, connection), (customer, None), (None, connection), (None, None)):
            if (alias := self._aliases.get((*key, deployment))) is not None:
                return alias.model
        return deployment if deployment and record.get("provider") in _MODEL_IN_RECORD else None


def _rates_to(currency: str, book: PriceBook) -> Sequence[Rate]:
    rates = [rate for rate in book.rates if (rate.source, rate.target) == (book.currency, currency)]
    return sorted(rates, key=lambda rate: rate.effective_from or date.min, reverse=True)


def _conditions(record: Mapping[str, Any]) -> str:
    names = ("provider", "processing", "service_tier", "deployment_scope")
    conditions = [f"{name} {record[name]}" for name in names if record.get(name)]
    return f" ({', '.join(conditions)})" if conditions else ""


@dataclass(slots=True)
class _Charges:
    """The amounts of one call, part by part."""

    price: Price
    amounts: list[Decimal] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, name: str, count: float, *, unit: Decimal = _ONE, otherwise: str = "") -> None:
        """Charge a count that is not 0 at the price `name`, or else `otherwise`, which is for 1 / `unit` of it."""
        rate = getattr(self.price, name)
        if rate is None and otherwise:
            rate = getattr(self.price, otherwise)
        if rate is None:
            self.missing.append(name)
        else:
            exact = Decimal(count) if isinstance(count, int) else Decimal(str(count))
            self.amounts.append(EXACT.multiply(EXACT.multiply(exact, rate), unit))


def _cost(price: Price, model: str, record: Mapping[str, Any]) -> Cost | Unpriced:
    charges = _Charges(price)
    if any(getattr(price, name) is not None for name in _TOKEN_PRICES):
        unknown = [
            name
            for name in ("input", "output")
            if getattr(price, name) is not None and record.get(f"{name}_tokens") is None
        ]
        if unknown:
            return Unpriced(model, f"the provider reported no {' and no '.join(unknown)} tokens")
        _add_tokens(charges, record)
    for name, price_name in _OTHER_COUNTS.items():
        if count := record.get(name):
            charges.add(price_name, count, unit=_MILLIONTH if name == "characters" else _ONE)
    if price.call is not None and (calls := record.get("calls")):
        charges.add("call", calls)
    if charges.missing:
        return Unpriced(model, f"the price of {model} has no {' and no '.join(charges.missing)}")
    if not charges.amounts and price.input is None and price.output is None:
        return Unpriced(model, "the provider reported nothing that the price is for")
    return Cost(exact_sum(charges.amounts), price)


def _add_tokens(charges: _Charges, record: Mapping[str, Any]) -> None:
    for price_name, tokens in zip(("input", "output"), ordinary_tokens(record), strict=True):
        if tokens > 0:  # where a provider's counts contradict each other, no part becomes negative
            charges.add(price_name, tokens, unit=_MILLIONTH)
    for name, price_name in _PARTS.items():
        if count := record.get(name):
            otherwise = "input" if price_name in _CACHE_PRICES else ""
            charges.add(price_name, count, unit=_MILLIONTH, otherwise=otherwise)


def ordinary_tokens(record: Mapping[str, Any]) -> tuple[int, int]:
    """Return the input and the output tokens that are in no part with a price of its own; maybe negative."""
    return (
        (record.get("input_tokens") or 0) - sum(record.get(part) or 0 for part in _INPUT_PARTS),
        (record.get("output_tokens") or 0) - sum(record.get(part) or 0 for part in _OUTPUT_PARTS),
    )
