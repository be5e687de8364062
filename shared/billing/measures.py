"""What a job counts for a budget: money, tokens or jobs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared.billing.buckets import ZERO
from shared.billing.media_tokens import media_counts
from shared.billing.money import EXACT, exact_sum
from shared.billing.pricing import Cost, Pricing, Unpriced, ordinary_tokens
from shared.billing.usage_records import JOBS, is_closed_job

Measure = Callable[[Mapping[str, Any]], Decimal]
_ONE = Decimal(1)
_UNKNOWN: tuple[dict[str, Any], ...] = (
    {"calls": 1, "images": 4},
    {"calls": 1, "seconds": 3600},
    {"calls": 1, "characters": 100_000},
    {"calls": 1},
)
"""Calls of models that have no price for tokens."""


class NoPrice(Exception):
    """A budget in money can't count a job, because its model has no price."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts in a budget's unit. `labels`: what the job's usage records say of its model and connection."""

    unit: str
    customer: str
    labels: Mapping[str, Any]
    pricing: Pricing | None
    """In the unit's currency, for money."""

    def highest(self, records: Sequence[Mapping[str, Any]], at: datetime) -> tuple[Decimal, Decimal]:
        """Return what a job with these calls counts at most, and the most that one of them does. Raises NoPrice."""
        if self.unit == JOBS:
            return _ONE, ZERO
        amounts: dict[tuple[Any, ...], Decimal] = {}  # many calls are alike
        calls = []
        for record in records:
            key = tuple(record.items())
            if key not in amounts:
                amounts[key] = self._highest_of(record, at)
            calls.append(amounts[key])
        fee = self.pricing.charge(self.customer, at.date(), ZERO, jobs=1) if self.pricing else ZERO
        return EXACT.add(exact_sum(calls), fee), max(calls, default=ZERO)

    def measure(self, unknown: Decimal) -> Measure:
        """Return what counts usage records. A call that may have been billed, or has no price, counts as `unknown`."""

        def measure(values: Mapping[str, Any]) -> Decimal:
            jobs = values.get(JOBS, 0)
            if self.unit == JOBS:
                return Decimal(jobs)
            amount = ZERO if is_closed_job(values) else self._counted(values)
            amount = unknown if amount is None else amount
            if self.pricing is None or not jobs:
                return amount
            return EXACT.add(amount, self.pricing.charge(self.customer, values["at"].date(), ZERO, jobs=jobs))

        return measure

    def _counted(self, values: Mapping[str, Any]) -> Decimal | None:
        """What a call counts; None if that is not known."""
        if values.get("outcome") == "unanswered":
            return None
        if self.pricing is None:
            tokens = [values[name] for name in ("input_tokens", "output_tokens") if values.get(name) is not None]
            return Decimal(sum(tokens)) if tokens else None
        day = values["at"].date()
        cost = self.pricing.cost(self.customer, day, values)
        return self.pricing.charge(self.customer, day, cost.amount) if isinstance(cost, Cost) else None

    def _highest_of(self, record: Mapping[str, Any], at: datetime) -> Decimal:
        if self.unit == "tokens":
            return Decimal(record.get("input_tokens", 0) + record.get("output_tokens", 0))
        if self.pricing is None:
            raise NoPrice(str(self.labels.get("model") or ""))
        costs = [self._cost(variant, at) for variant in _variants({**self.labels, **record})]
        if record.get("is_unknown") and not any(isinstance(cost, Cost) for cost in costs):
            costs += [self._cost({**self.labels, **counts}, at) for counts in _UNKNOWN]
        amounts = [cost.amount for cost in costs if isinstance(cost, Cost)]
        if not amounts:
            unpriced = next(cost for cost in costs if isinstance(cost, Unpriced))
            raise NoPrice(unpriced.model)
        return self.pricing.charge(self.customer, at.date(), max(amounts))

    def _cost(self, record: Mapping[str, Any], at: datetime) -> Cost | Unpriced:
        assert self.pricing is not None  # noqa: S101  # for money
        cost = self.pricing.cost(self.customer, at.date(), record)
        if isinstance(cost, Unpriced) and self.pricing.model_of(self.customer, record) is None:
            # Nothing says which model the deployment is. Many have its name.
            named = self.pricing.cost(self.customer, at.date(), {**record, "answered_by": record.get("model")})
            return named if isinstance(named, Cost) else cost
        return cost


def unknown_call(tokens: int, images: int = 0) -> dict[str, Any]:
    """
    Return the counts of a call of which nothing is known: so many output tokens, or whatever else has a price; and the
    images that may go into it.
    """
    media = media_counts(images, 0)
    return {"calls": 1, "input_tokens": sum(media.values()), "output_tokens": tokens, "is_unknown": True, **media}


def _variants(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the records of which one costs most: a model may have no price of its own for sounds and images."""
    variants = [record]
    if record.get("images"):
        variants.append(_without(record, "image_output_tokens"))
        variants.append({name: value for name, value in record.items() if not name.endswith("_tokens")})
    for part in ("audio_", "image_input_"):
        if any(name.startswith(part) for name in record):
            variants += [_without(variant, part) for variant in variants]
    for cache in ("cache_write_tokens", "cache_write_long_tokens"):  # the prompt may be written to it
        variants += [{**each, cache: ordinary_tokens(each)[0]} for each in variants]
    return variants


def _without(record: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith(prefix)}
