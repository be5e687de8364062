"""Which of a book's prices holds for a usage record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from shared.contract.price_book import Markup, Price, tier_of
from shared.lru import LRU

STEP = "step"
"""The member of a sum over records: the highest of a book's `min_input_tokens` that each of them reaches."""
_MAX_MODELS = 1000


class PriceLookup:
    """The prices of a book, by provider and model."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_name: dict[tuple[str, str], list[Price]] = {}
        self._by_model = LRU[str, list[Price]](_MAX_MODELS)
        for price in prices:
            self._by_name.setdefault((price.provider, price.model), []).append(price)

    def find(self, customer: str, day: date, model: str, record: Mapping[str, Any]) -> Price | None:
        """Return the price that holds for a call of a model, by the columns of its record."""
        scope, processing = record.get("deployment_scope"), record.get("processing") or "standard"
        tier = tier_of(processing, record.get("service_tier"))
        tokens = record[STEP] if STEP in record else record.get("input_tokens") or 0
        for price in self._prices_of(str(record.get("provider") or ""), model):
            if (
                price.processing == processing
                and price.tier == tier
                and price.min_input_tokens <= tokens
                and price.deployment_scope in (None, scope)
                and price.customer in (None, customer)
                and holds(price, day)
            ):
                return price
        return None

    def _prices_of(self, provider: str, model: str) -> list[Price]:
        """The prices of a model, the closest first."""
        prices = self._by_model.get(f"{provider}/{model}")
        if prices is None:
            # However many prefixes a book has, a model has only as many as characters.
            names = (model, *(f"{model[:length]}*" for length in range(len(model) + 1)))
            prices = [price for name in names for price in self._by_name.get((provider, name), ())]
            prices.sort(key=_closeness, reverse=True)
            self._by_model.set(f"{provider}/{model}", prices)
        return prices


def _closeness(price: Price) -> tuple[bool, bool, int, bool, int]:
    """A customer's own price comes before any other, then the more exact name, then the scope, then the step."""
    return (
        price.customer is not None,
        not price.model.endswith("*"),
        len(price.model),
        price.deployment_scope is not None,
        price.min_input_tokens,
    )


def holds(price: Price | Markup, day: date) -> bool:
    """Return whether a price or markup is in effect on a day."""
    return (price.effective_from or date.min) <= day < (price.effective_to or date.max)
