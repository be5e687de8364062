"""
The data file of pydantic's genai-prices (MIT): a list of providers, their models, and prices with dates. Pure.

A model lists the names that it answers by. A name in full, and what a name begins with, can be in a price book; other
patterns are left out. The prices of Azure are those of global deployments, as the file says; models that it has only
under OpenAI have no price for Azure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from aijobs.price_sources.base import AZURE_PROVIDERS, NO_PRICE, SourceError, SourcePrices, as_day, is_amount

SOURCE = "genai-prices"
_PROVIDERS = {"openai": ("openai",), "azure": AZURE_PROVIDERS, "anthropic": ("anthropic",)}
_SCOPES = {"azure": "global"}
_RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_long",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
}
_DATED = re.compile(r"\^(?P<name>[\w\\.-]+)-\\d\{4\}-\\d\{2\}-\\d\{2\}\$")
"""The pattern of a model's dated names."""

_Period = tuple[date | None, date | None, Mapping[str, Any]]
"""Prices, from a day to the first on which they no longer hold."""


def convert(document: Any) -> SourcePrices:
    """Return the prices of the providers that connections can have. Raises SourceError."""
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise SourceError("The file of genai-prices is not a JSON list of providers.")
    source = SourcePrices(SOURCE)
    others = 0
    for provider in document:
        listed = provider.get("models")
        models = [model for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []
        if provider.get("id") not in _PROVIDERS:
            others += len(models)
            continue
        _add_provider(source, provider["id"], models)
    source.leave_out_others(others)
    return source


def _add_provider(source: SourcePrices, provider: str, models: Sequence[Mapping[str, Any]]) -> None:
    earlier: list[Any] = []
    for model in models:
        label = f"{provider}/{model.get('id')}"
        periods = _periods(source, label, model.get("prices"))
        for name in _names(source, label, model.get("match")):
            # The first model that a name matches is the one that genai-prices takes.
            if any(_matches(clause, name.rstrip("*")) for clause in earlier):
                source.leave_out(f"{label}: {name}", "is the name of an earlier model")
                continue
            for start, end, prices in periods:
                for step, rates in _steps(source, label, prices).items():
                    for each in _PROVIDERS[provider]:
                        source.add(
                            label,
                            rates,
                            provider=each,
                            model=name,
                            deployment_scope=_SCOPES.get(provider),
                            min_input_tokens=step,
                            effective_from=start,
                            effective_to=end,
                        )
        earlier.append(model.get("match"))


def _names(source: SourcePrices, label: str, clause: Any) -> Iterator[str]:
    """Yield the names of a model, and what they begin with, with `*` at the end."""
    kind, value = _clause(clause)
    if kind == "or" and isinstance(value, list):
        for each in value:
            yield from _names(source, label, each)
    elif kind == "equals" and isinstance(value, str):
        yield value
    elif kind == "starts_with" and isinstance(value, str):
        yield f"{value}*"
    elif kind == "regex" and isinstance(value, str) and (match := _DATED.fullmatch(value)):
        yield f"{match['name'].replace(chr(92), '')}-20*"
    else:
        source.leave_out(f"{label}: {kind} {value}", "is not a name, nor the beginning of one")


def _matches(clause: Any, name: str) -> bool:
    kind, value = _clause(clause)
    if kind in {"or", "and"} and isinstance(value, list):
        return (any if kind == "or" else all)(_matches(each, name) for each in value)
    text = str(value)
    return {
        "equals": name == text,
        "starts_with": name.startswith(text),
        "ends_with": name.endswith(text),
        "contains": text in name,
    }.get(kind, False)


def _clause(clause: Any) -> tuple[str, Any]:
    if isinstance(clause, dict) and len(clause) == 1:
        return next(iter(clause.items()))
    return "", clause


def _periods(source: SourcePrices, label: str, prices: Any) -> list[_Period]:
    """Return the prices of a model by the days for which they hold."""
    dated: list[tuple[date, Mapping[str, Any]]] = []
    for entry in prices if isinstance(prices, list) else [{"prices": prices}]:
        start = _start(entry)
        if start is None:
            source.leave_out(label, "has a price that depends on more than the day")
            return []
        dated.append((start, entry["prices"]))
    if not dated:
        source.leave_out(label, NO_PRICE)
    starts = sorted({start for start, _ in dated})
    periods: list[_Period] = []
    for start, end in zip(starts, [*starts[1:], None], strict=False):  # without a start there is nothing
        # The last of the prices that hold is the one that genai-prices takes.
        held = [prices for first, prices in dated if first <= start]
        periods.append((None if start == date.min else start, end, held[-1]))
    return periods


def _start(entry: Any) -> date | None:
    """Return the first day of an entry's prices, None if the entry says anything else than that."""
    if not isinstance(entry, dict) or not isinstance(entry.get("prices"), dict):
        return None
    constraint = entry.get("constraint")
    if constraint is None:
        return date.min
    return (
        as_day(constraint["start_date"]) if isinstance(constraint, dict) and {*constraint} == {"start_date"} else None
    )


def _steps(source: SourcePrices, label: str, prices: Mapping[str, Any]) -> dict[int, dict[str, Decimal]]:
    """Return the rates by the number of input tokens from which they hold."""
    rates: dict[str, dict[int, Decimal]] = {}
    for member, value in prices.items():
        by_step = _by_step(value)
        if member not in _RATES or by_step is None:
            source.leave_out(f"{label}: {member}", "is not in a price book")
        else:
            rates[_RATES[member]] = by_step
    if not rates:
        source.leave_out(label, NO_PRICE)
    steps = {step for by_step in rates.values() for step in by_step}
    return {
        step: {rate: by_step[max(first for first in by_step if first <= step)] for rate, by_step in rates.items()}
        for step in sorted(steps)
    }


def _by_step(value: Any) -> dict[int, Decimal] | None:
    if is_amount(value):
        return {0: value}
    if not isinstance(value, dict) or {*value} != {"base", "tiers"} or not is_amount(value["base"]):
        return None
    by_step = {0: value["base"]}
    for tier in value["tiers"] if isinstance(value["tiers"], list) else [None]:
        if not isinstance(tier, dict) or not is_amount(tier.get("price")) or not is_amount(tier.get("start")):
            return None
        by_step[int(tier["start"]) + 1] = tier["price"]  # a tier holds for more input than its start
    return by_step
