"""What calls cost by a price book, to the last digit."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.pricing import Cost, Pricing, Unpriced
from shared.contract.price_book import RATES, PriceBook, decode_price_book
from shared.errors import InvalidJob
from tests.support.rows import every_row

DATA = Path(__file__).parents[2] / "data"
GOLDEN: list[dict[str, Any]] = json.loads((DATA / "usage.json").read_bytes())
SUMS: list[dict[str, Any]] = json.loads((DATA / "priced_usage.json").read_bytes())
"""What each of them costs at PRICES, with the sum that was made by hand; null if it has no price."""
PRICES = {
    "input": "2",
    "cached": "0.5",
    "cache_write": "2.5",
    "cache_write_long": "4",
    "output": "8",
    "audio_input": "40",
    "audio_output": "80",
    "image_input": "10",
    "image_output": "32",
}
DAY = date(2026, 11, 15)
TOKENS = {"provider": "openai", "model": "m", "input_tokens": 1_000_000, "output_tokens": 0, "calls": 1}
"""A record that costs what the price's `input` is."""


def book(*prices: dict[str, Any], **members: Any) -> PriceBook:
    """Return a price book in dollars; a price is for the model `m` at OpenAI unless it says otherwise."""
    entries = [{"provider": "openai", "model": "m", **price} for price in prices]
    return decode_price_book(json.dumps({"currency": "USD", "prices": entries, **members}).encode())


def price_of(prices: PriceBook, record: dict[str, Any], *, day: date = DAY, customer: str = "contoso") -> str | None:
    """Return what a record costs, None if it has no price."""
    cost = Pricing(prices).cost(customer, day, record)
    return None if isinstance(cost, Unpriced) else f"{cost.amount.normalize():f}"


@every_row(("golden", "expected"), list(zip(GOLDEN, SUMS, strict=True)), ids=[each["name"] for each in SUMS])
def test_real_usage_costs_the_sum_made_by_hand(golden: dict[str, Any], expected: dict[str, Any]):
    """Each part has its own price, none is counted twice, and what is not reported has none."""
    record = {"provider": "openai", "model": "m", "calls": 1, **golden["expected"]}

    assert golden["name"] == expected["name"]
    assert expected["amount"] == price_of(book(PRICES), record)


@every_row(
    ("prices", "record", "expected"),
    [
        ({"second": "0.0001"}, {"seconds": 9.47}, "0.000947"),
        ({"characters": "15"}, {"characters": 4096}, "0.06144"),
        ({"image": "0.04"}, {"images": 3, "calls": 1}, "0.12"),
        ({"call": "0.01"}, {"calls": 1}, "0.01"),
        ({"call": "0.01", "input": "2", "output": "0"}, {"calls": 1, "input_tokens": 5, "output_tokens": 9}, "0.01001"),
        ({"input": "0"}, {"input_tokens": 5}, "0"),
        ({"input": "2"}, {"input_tokens": 10, "cached_tokens": 4, "cache_write_tokens": 5}, "0.00002"),
        # A part without a price.
        ({"input": "2", "output": "8"}, {"input_tokens": 5, "output_tokens": 1, "images": 1}, None),
        ({"input": "2", "output": "8"}, {"input_tokens": 5, "output_tokens": 1, "audio_input_tokens": 1}, None),
        ({"input": "2", "output": "8"}, {"input_tokens": 5, "output_tokens": 1, "seconds": 1.5}, None),
        ({"output": "8"}, {"input_tokens": 5, "output_tokens": 1}, None),
        ({"image_output": "40", "image": "1"}, {"input_tokens": 9, "image_output_tokens": 5, "images": 1}, None),
        ({"cached": "1", "call": "1"}, {"calls": 1, "input_tokens": 9, "cached_tokens": 4}, None),
        # A price of some tokens alone.
        ({"image_output": "40", "image": "1"}, {"output_tokens": 5, "image_output_tokens": 5, "images": 1}, "1.0002"),
        ({"audio_input": "5"}, {"input_tokens": 4, "audio_input_tokens": 4}, "0.00002"),
        ({"audio_input": "5"}, {"calls": 1, "input_tokens": 0}, None),
        # A price of none.
        ({"image": "1"}, {"input_tokens": 9, "output_tokens": 5, "image_output_tokens": 5, "images": 2}, "2"),
        # A count that was not reported.
        ({"input": "2", "output": "8"}, {"input_tokens": 5}, None),
        ({"input": "2"}, {}, None),
        ({"second": "0.1"}, {"calls": 1}, None),
        ({"image": "0.04"}, {"calls": 1}, None),
    ],
)
def test_what_has_no_price_is_not_free(prices: dict[str, str], record: dict[str, Any], expected: str | None):
    """A count is charged at its own price; without one, or if the provider did not report it, the call is unpriced."""
    assert expected == price_of(book(prices), {"provider": "openai", "model": "m", **record})


@every_row(
    ("record", "expected"),
    [
        ({"model": "m"}, "1"),
        ({"model": "model-x"}, "2"),
        ({"model": "model-x-mini"}, "3"),
        ({"model": "other"}, None),
        ({"model": "m", "provider": "foundry"}, None),
        ({"model": "d", "answered_by": "m", "provider": "openai"}, "1"),
        ({"model": "m", "deployment_scope": "global"}, "4"),
        ({"model": "m", "deployment_scope": "regional"}, "1"),
        ({"model": "m", "processing": "batch"}, "5"),
        ({"model": "m", "processing": "batch", "service_tier": "batch"}, "5"),
        ({"model": "model-x", "processing": "batch"}, None),
        ({"model": "m", "service_tier": "default"}, "1"),
        ({"model": "m", "service_tier": "auto"}, "1"),
        ({"model": "m", "service_tier": "flex"}, "6"),
        ({"model": "m", "service_tier": "batch"}, None),
        ({"model": "model-x", "service_tier": "priority"}, None),
    ],
)
def test_the_closest_price_holds(record: dict[str, Any], expected: str | None):
    """
    The exact model comes before the longest prefix, the record's scope before none; another scope, processing or tier
    never holds.
    """
    prices = book(
        {"input": "1"},
        {"input": "2", "model": "model-*"},
        {"input": "3", "model": "model-x-*"},
        {"input": "4", "deployment_scope": "global"},
        {"input": "5", "processing": "batch"},
        {"input": "6", "service_tier": "flex"},
    )

    assert expected == price_of(prices, TOKENS | record)


@every_row("price", [{}, {"service_tier": "default"}, {"service_tier": "batch"}])
@every_row("tier", [None, "auto", "default", "standard", "batch"])
def test_a_batch_has_one_default_tier(price: dict[str, str], tier: str | None):
    """Whatever the price or the provider calls it; two prices that differ in nothing but its name are a tie."""
    batch = {"input": "5", "processing": "batch"}

    assert "5" == price_of(book(batch | price), TOKENS | {"processing": "batch", "service_tier": tier})
    with pytest.raises(InvalidJob, match="for the same calls"):
        book(batch, batch | price)


def test_a_customers_own_price_comes_first():
    """It does so even if another price is closer in all else; other customers have the general one."""
    prices = book({"input": "1", "deployment_scope": "global"}, {"input": "2", "model": "m*", "customer": "contoso"})
    record = TOKENS | {"deployment_scope": "global"}

    assert ("2", "1") == (price_of(prices, record), price_of(prices, record, customer="fabrikam"))


def test_the_highest_step_that_is_reached_holds():
    """A price for long prompts holds from its number of input tokens on, for the whole call."""
    prices = book({"input": "2"}, {"input": "4", "min_input_tokens": 272_000})
    tokens = (271_999, 272_000)

    costs = [price_of(prices, TOKENS | {"input_tokens": count}) for count in tokens]

    assert ["0.543998", "1.088"] == costs


def test_a_price_holds_from_its_day_on():
    """A price that changes on the 15th reprices exactly from the 15th; the day it ends is no longer its own."""
    prices = book(
        {"input": "1", "effective_to": "2026-11-15"},
        {"input": "2", "effective_from": "2026-11-15", "effective_to": "2026-11-20"},
    )
    days = (14, 15, 19, 20)

    assert ["1", "2", "2", None] == [price_of(prices, TOKENS, day=date(2026, 11, day)) for day in days]


def test_a_deployment_is_the_model_that_the_operator_says():
    """Its name alone says nothing, unless the provider has no deployments. The closest entry counts."""
    aliases = [
        {"deployment": "chat", "model": "m"},
        {"deployment": "chat", "model": "n", "customer": "contoso"},
        {"deployment": "chat", "model": "o", "customer": "contoso", "connection": "eu"},
    ]
    prices = book(
        *({"input": str(number), "model": name, "provider": "azure_openai"} for number, name in enumerate("mno", 1)),
        models=aliases,
    )
    record = TOKENS | {"provider": "azure_openai", "model": "chat"}
    costs = [
        price_of(prices, record, customer="fabrikam"),
        price_of(prices, record | {"connection": "us"}),
        price_of(prices, record | {"connection": "eu"}),
        price_of(prices, record | {"model": "m"}),
        price_of(prices, record | {"answered_by": "m", "connection": "eu"}),
    ]

    assert ["1", "2", "3", None, "1"] == costs


def test_an_unpriced_call_says_what_is_missing():
    """The reason names the model or deployment, and what no price is for."""
    azure = {"provider": "azure_openai", "model": "chat", "input_tokens": 1, "output_tokens": 1}
    pricing = Pricing(book({"input": "2", "output": "8"}))
    reasons = [
        pricing.cost("contoso", DAY, azure),
        pricing.cost("contoso", DAY, TOKENS | {"service_tier": "priority"}),
        pricing.cost("contoso", DAY, TOKENS | {"images": 1, "seconds": 2}),
        pricing.cost("contoso", DAY, TOKENS | {"output_tokens": None}),
    ]

    assert [
        Unpriced("chat", "no entry in `models` says which model the deployment chat is"),
        Unpriced("m", "no price holds for m on 2026-11-15 (provider openai, service_tier priority)"),
        Unpriced("m", "the price of m has no image and no second"),
        Unpriced("m", "the provider reported no output tokens"),
    ] == reasons


_amounts = st.decimals(0, 10**6, places=9)
_counts = st.integers(0, 2**31 - 1)


@given(st.fixed_dictionaries(dict.fromkeys(RATES, _amounts)), st.lists(_counts, min_size=9, max_size=9))
def test_amounts_are_exact_and_never_negative(prices: dict[str, Decimal], counts: list[int]):
    """Whatever the counts, consistent or not, a cost is the sum of its parts without any rounding."""
    names = ["input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "cache_write_long_tokens"]
    names += ["audio_input_tokens", "audio_output_tokens", "image_input_tokens", "image_output_tokens"]
    record = TOKENS | dict(zip(names, counts, strict=True))
    into, out = sum(counts[2:6]) + counts[7], counts[6] + counts[8]
    parts = [max(counts[0] - into, 0), max(counts[1] - out, 0), *counts[2:]]
    rates = ["input", "output", *(name.removesuffix("_tokens") for name in names[2:])]
    expected = sum(Fraction(prices[rate]) * count for rate, count in zip(rates, parts, strict=True)) / 10**6

    cost = Pricing(book({name: str(amount) for name, amount in prices.items()})).cost("contoso", DAY, record)

    assert isinstance(cost, Cost)
    assert expected + Fraction(prices["call"]) == Fraction(cost.amount) >= 0


def test_a_book_survives_export():
    """What is exported is what was imported, digit by digit."""
    prices = book({**PRICES, "effective_from": "2026-11-15"}, markups=[{"percent": "12.50", "per_job": "0.001"}])

    assert prices == decode_price_book(msgspec.json.encode(prices))
    assert "12.50" in msgspec.json.encode(prices).decode()


RATES_TO_EUR = [
    {"from": "USD", "to": "EUR", "rate": "0.9", "effective_from": "2026-11-15"},
    {"from": "USD", "to": "EUR", "rate": "0.875", "effective_from": "2026-11-10"},
    {"from": "EUR", "to": "USD", "rate": "7"},
    {"from": "USD", "to": "GBP", "rate": "5"},
]


@every_row(
    ("day", "amount", "charge", "saved"),
    [
        (10, "1.75", "2.80", "0.875"),
        (14, "1.75", "2.80", "0.875"),
        (15, "1.80", "2.88", "0.9"),
        (30, "1.80", "2.88", "0.9"),
    ],
)
def test_another_currency_has_the_rate_of_the_day(day: int, amount: str, charge: str, saved: str):
    """Cost, markup by percent and by job, and savings are each at the rate of the record's day."""
    prices = book(
        {"input": "2"},
        {"input": "3", "processing": "batch"},
        rates=RATES_TO_EUR,
        markups=[{"percent": "20", "per_job": "0.4"}],
    )
    batch = TOKENS | {"processing": "batch"}
    pricing, at = Pricing(prices).in_currency("EUR"), date(2026, 11, day)

    cost, dearer = pricing.cost("contoso", at, TOKENS), pricing.cost("contoso", at, batch)

    assert isinstance(cost, Cost)
    assert isinstance(dearer, Cost)
    assert ("EUR", "USD") == (pricing.currency, Pricing(prices).currency)
    assert Decimal(amount) == cost.amount
    assert Decimal(charge) == pricing.charge("contoso", at, cost.amount, jobs=2)
    assert Decimal(f"-{saved}") == pricing.saved("contoso", at, batch, dearer)
    assert pricing.missing_fee("contoso", at) is None


@pytest.mark.parametrize(("currency", "day"), [("EUR", 9), ("JPY", 15), ("CHF", 15)])
def test_without_a_rate_nothing_is_priced(currency: str, day: int):
    """No rate is guessed, and none is read the other way round: the call and the fee of a job say what is missing."""
    prices = book({"input": "2"}, rates=RATES_TO_EUR, markups=[{"per_job": "1"}])
    pricing, at = Pricing(prices).in_currency(currency), date(2026, 11, day)
    reason = f"no rate from USD to {currency} holds on {at}"

    assert Unpriced("m", reason) == pricing.cost("contoso", at, TOKENS)
    assert Unpriced("", reason) == pricing.missing_fee("contoso", at)
    assert Pricing(book({"input": "2"})).in_currency(currency).missing_fee("contoso", at) is None
