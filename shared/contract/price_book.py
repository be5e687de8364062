"""
The price book: what calls cost, for whom and from when. What `aijobs prices import` takes and `prices export` gives.

Prices are exact: decimal strings or JSON numbers, which are read digit by digit and never as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any

from msgspec import Meta, Struct

from shared.contract.decoding import decode
from shared.contract.names import Currency, ModelName, Name, Text
from shared.contract.usage import DeploymentScope, Processing
from shared.errors import InvalidJob

Label = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S", description="1 to 200 characters")]
Tokens = Annotated[int, Meta(ge=0, description="a whole number of tokens, 0 or more")]

DEFAULT_TIERS = frozenset({None, "auto", "default", "standard"})
"""What providers call the tier that list prices are for."""
MAX_BOOK_BYTES = 16 * 1024 * 1024
MAX_STEPS = 50
"""Different `min_input_tokens` of a book, which rollups of usage have to tell apart. Providers have about four."""
MAX_AMOUNT = Decimal(10) ** 9
MAX_PLACES = 15
"""Places after the point. Prices per million tokens have up to six."""


def tier_of(processing: str, service_tier: str | None) -> str | None:
    """Return the tier that a call is priced by; None for the default one, which providers name in several ways."""
    is_default = service_tier in DEFAULT_TIERS or (processing == "batch" and service_tier == "batch")
    return None if is_default else service_tier


class Unit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is priced by itself: per million tokens but for the last four."""

    input: Decimal | None = None
    """Input that is neither cached, nor written to a cache, nor audio or images."""
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_long: Decimal | None = None
    output: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    image_input: Decimal | None = None
    image_output: Decimal | None = None
    characters: Decimal | None = None
    """Per million characters."""
    image: Decimal | None = None
    """Per image in the answer."""
    second: Decimal | None = None
    call: Decimal | None = None


RATES: tuple[str, ...] = Unit.__struct_fields__
"""The names of what a price can have."""


class Price(Unit, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The price of calls that its other members describe, from one day to another."""

    provider: Label
    model: ModelName
    """The name of the model, or a prefix that ends in `*`."""
    deployment_scope: DeploymentScope | None = None
    """Missing: for every scope that no other entry names."""
    processing: Processing = "standard"
    service_tier: Label | None = None
    """Missing: for the provider's default tier alone."""
    min_input_tokens: Tokens = 0
    """The price holds for calls with at least so much input."""
    customer: Name | None = None
    """An override for one customer."""
    effective_from: date | None = None
    effective_to: date | None = None
    """The first day for which the price no longer holds."""
    source: Text | None = None
    """Where it is from, such as the name of an import."""

    @property
    def tier(self) -> str | None:
        """The tier that the price is for; None for the default one."""
        return tier_of(self.processing, self.service_tier)


class ModelAlias(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which model a deployment is, for answers that do not name their model."""

    deployment: ModelName
    model: ModelName
    customer: Name | None = None
    """Missing: for every customer that has no entry of its own."""
    connection: Name | None = None


class Markup(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a customer pays beyond the list price."""

    customer: Name | None = None
    """Missing: every customer that has no markup of its own."""
    percent: Decimal = Decimal(0)
    per_job: Decimal = Decimal(0)
    effective_from: date | None = None
    effective_to: date | None = None


class Rate(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"source": "from", "target": "to"},
):
    """What one unit of a currency is worth in another, from a day on."""

    source: Currency
    target: Currency
    rate: Decimal
    effective_from: date | None = None


class PriceBook(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """All prices, in one currency."""

    currency: Currency
    prices: list[Price] = []
    models: list[ModelAlias] = []
    markups: list[Markup] = []
    rates: list[Rate] = []


def decode_price_book(data: bytes) -> PriceBook:
    """
    Return the price book in `data`.

    Raises InvalidJob, naming the entry and member at fault: an unknown or invalid member, an amount that is negative
    or has too many digits, dates in the wrong order, two entries for the same calls whose days overlap, or too many
    steps.
    """
    book = decode(data, PriceBook, root="The price book")
    for kind in ("prices", "models", "markups", "rates"):
        for number, entry in enumerate(getattr(book, kind)):
            _check_entry(entry, f"{kind}[{number}]")
    steps = {price.min_input_tokens for price in book.prices if price.min_input_tokens}
    if len(steps) > MAX_STEPS:
        raise InvalidJob(f"`prices` have {len(steps)} different `min_input_tokens`; at most {MAX_STEPS} are possible.")
    for kind, key in _KEYS.items():
        _check_overlaps(kind, getattr(book, kind), key)
    return book


_KEYS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "prices": lambda price: (
        price.provider,
        price.model,
        price.customer,
        price.deployment_scope,
        price.processing,
        price.tier,
        price.min_input_tokens,
    ),
    "models": lambda alias: (alias.deployment, alias.customer, alias.connection),
    "markups": lambda markup: (markup.customer,),
    "rates": lambda rate: (rate.source, rate.target, rate.effective_from),
}
"""What entries of a kind must differ in, unless their days do."""


def entry_key(kind: str, entry: Struct) -> tuple[Any, ...]:
    """Return what an entry of `prices`, `models`, `markups` or `rates` is for. Only its days can set two apart."""
    return _KEYS[kind](entry)


def days_of(entry: Struct) -> tuple[date, date]:
    """Return the first day for which an entry holds, and the first for which it no longer does."""
    return (getattr(entry, "effective_from", None) or date.min, getattr(entry, "effective_to", None) or date.max)


def _check_entry(entry: Struct, at: str) -> None:
    for name in entry.__struct_fields__:
        value = getattr(entry, name)
        if isinstance(value, Decimal):
            _check_amount(value, f"{at}.{name}", may_be_negative=name == "percent")
    if isinstance(entry, Price):
        if all(getattr(entry, name) is None for name in RATES):
            raise InvalidJob(f"`{at}` has no price: set at least one of {', '.join(RATES)}.")
        if "*" in entry.model[:-1]:
            raise InvalidJob(f"`{at}.model` can have a `*` only at its end.")
    if isinstance(entry, Rate) and not entry.rate:
        raise InvalidJob(f"`{at}.rate` must be more than 0.")
    first, last = getattr(entry, "effective_from", None), getattr(entry, "effective_to", None)
    if first is not None and last is not None and first >= last:
        raise InvalidJob(
            f"`{at}.effective_to` must be later than `effective_from`: it is the first day without the price."
        )


def _check_amount(amount: Decimal, at: str, *, may_be_negative: bool) -> None:
    if not amount.is_finite() or amount.copy_abs() >= MAX_AMOUNT or places_in(amount) > MAX_PLACES:
        raise InvalidJob(f"`{at}` must be a number below 1,000,000,000 with at most {MAX_PLACES} places.")
    if amount < (-100 if may_be_negative else 0):
        lowest = "-100" if may_be_negative else "0"
        raise InvalidJob(f"`{at}` must be {lowest} or more.")


def places_in(amount: Decimal) -> int:
    """Return how many places a finite amount has but for zeros at the end. It may have any exponent."""
    _, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101  # it is finite
    written = "".join(map(str, digits))
    return max(len(written.rstrip("0")) - len(written) - exponent, 0) if amount else 0


def _check_overlaps(kind: str, entries: Iterable[Any], key: Callable[[Any], tuple[Any, ...]]) -> None:
    groups: dict[tuple[Any, ...], list[int]] = {}
    listed = list(entries)
    for number, entry in enumerate(listed):
        groups.setdefault(key(entry), []).append(number)
    for numbers in groups.values():
        days = sorted((*days_of(listed[number]), number) for number in numbers)
        for (_, end, first), (start, _, second) in pairwise(days):
            if start < end:
                pair = " and ".join(f"`{kind}[{number}]`" for number in sorted((first, second)))
                raise InvalidJob(f"{pair} are for the same calls, and their days overlap.")
