"""What all sources of prices have in common: exact numbers, and what could not be taken over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from aijobs.diagnostics import CommandError
from shared.contract.price_book import MAX_AMOUNT, MAX_PLACES, Price, entry_key

AZURE_PROVIDERS = ("azure_openai", "foundry")
"""A resource of Azure answers at both hosts, at the same prices."""
MILLION = Decimal(1_000_000)
CURRENCY = "USD"
"""The currency of every source."""
NO_PRICE = "has no price above 0 of a known kind"
NO_STEP = "has no price of its own: that of less input holds"
_MODEL = re.compile(r"[^\s/*]{1,128}\*?")


class SourceError(CommandError):
    """A source of prices did not answer, or not in the form that it has."""


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """What a source has and the price book can't, and why."""

    reason: str
    name: str


@dataclass(slots=True)
class SourcePrices:
    """The prices of a source, no two of them for the same calls and days."""

    source: str
    prices: list[Price] = field(default_factory=list)
    left_out: set[LeftOut] = field(default_factory=set)
    _seen: set[Price] = field(default_factory=set)
    _taken: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """Which of the source's entries is the price of certain calls."""

    def leave_out(self, name: str, reason: str) -> None:
        """List something that has no price."""
        self.left_out.add(LeftOut(reason, name))

    def add(self, name: str, rates: Mapping[str, Decimal], **members: Any) -> None:
        """
        Add a price. `name`: what the source calls the entry; `members`: those of Price.

        A rate of 0 is no price: sources write it for what they do not know. A second entry for the same calls is left
        out unless it says the same. If a model's only output is images or audio, that is what all its output costs:
        not every answer says what its tokens are. An image whose tokens have a price costs nothing beside them.
        """
        amounts = {rate: plain for rate, amount in rates.items() if (plain := _plain(amount))}
        outputs = [amounts[rate] for rate in ("output", "image_output", "audio_output") if rate in amounts]
        if len(outputs) == 1:
            amounts["output"] = outputs[0]
        if "image_output" in amounts:
            amounts.setdefault("image", Decimal(0))
        if not amounts:
            self.leave_out(name, NO_PRICE)
            return
        if max(amounts.values()) >= MAX_AMOUNT:
            self.leave_out(name, "has a price that is too large")
            return
        if not _MODEL.fullmatch(members["model"]):
            self.leave_out(name, "is not the name of a model")
            return
        price = Price(**{"source": self.source, **amounts, **members})
        key = entry_key("prices", price)
        if price in self._seen:
            return
        if self._taken.setdefault(key, name) != name:
            self.leave_out(name, f"differs from {self._taken[key]}, which is for the same calls")
            return
        self._seen.add(price)
        self.prices.append(price)

    def leave_out_others(self, models: int) -> None:
        """List models of other providers by their number: there are thousands."""
        if models:
            name = f"{models:,} model{'' if models == 1 else 's'}"
            self.leave_out(name, "has another provider than a connection can have")

    def add_unscoped(self, scope: str) -> None:
        """Let the prices of a deployment scope hold for calls whose scope is unknown, too."""
        keys = {entry_key("prices", price) for price in self.prices}
        copies = [replace(price, deployment_scope=None) for price in self.prices if price.deployment_scope == scope]
        self.prices += [price for price in copies if entry_key("prices", price) not in keys]


def replace(price: Price, **changes: Any) -> Price:
    """Return a price with other members."""
    return Price(**{name: getattr(price, name) for name in Price.__struct_fields__} | changes)


def parse_json(data: bytes, source: str) -> Any:
    """Return a JSON document, whose numbers are exact. Raises SourceError."""
    try:
        return json.loads(data, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise SourceError(f"The answer of {source} is not valid JSON.") from None


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and infinities are no JSON


def is_amount(value: object) -> bool:
    """Whether a member is a price: a number that is not negative, and not absurd."""
    return isinstance(value, Decimal) and value.is_finite() and 0 <= value < MAX_AMOUNT


def per_million(amount: Decimal, units: Decimal = Decimal(1)) -> Decimal:
    """Return the price of a million units, from that of `units`."""
    return amount * MILLION / units


def as_day(text: object) -> date | None:
    """Return the day of a date or time, or None if it is neither."""
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        return None


def _plain(amount: Decimal) -> Decimal:
    """The amount without an exponent and zeros at its end. What has more places came out of a float, and is rounded."""
    return Decimal(f"{round(amount, MAX_PLACES).normalize():f}")
