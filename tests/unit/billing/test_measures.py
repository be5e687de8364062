"""What a job counts for a budget: at most before it runs, and exactly as its usage records are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.measures import Counter, NoPrice, unknown_call
from shared.billing.pricing import Pricing
from shared.contract.price_book import decode_price_book
from tests.support.rows import every_row

AT = datetime(2026, 11, 20, tzinfo=UTC)
BOOK: dict[str, Any] = {
    "currency": "USD",
    "prices": [
        {"provider": "openai", "model": "gpt", "input": "2", "output": "8", "cache_write": "2.5"},
        {"provider": "openai", "model": "draw", "image": "0.04"},
    ],
    "markups": [{"percent": "100", "per_job": "0.01"}],
    "rates": [{"from": "USD", "to": "EUR", "rate": "0.5"}],
}
CALL = {"calls": 1, "input_tokens": 1000, "output_tokens": 100}


def counter(unit: str, model: str = "gpt", *, book: dict[str, Any] | None = BOOK) -> Counter:
    """Return what counts in a unit."""
    pricing = (
        Pricing(decode_price_book(json.dumps(book).encode())).in_currency(unit) if book and unit.isupper() else None
    )
    return Counter(unit, "contoso", {"provider": "openai", "model": model}, pricing)


@every_row(
    ("unit", "total", "of_call"),
    [
        ("tokens", "2200", "1100"),
        ("jobs", "1", "0"),
        # With a cache write in place of input: 2.5 and 0.8 thousandths, doubled by the markup, for each of two calls.
        ("USD", "0.0232", "0.0066"),
        ("EUR", "0.0116", "0.0033"),
    ],
)
def test_a_job_counts_at_most_so_much(unit: str, total: str, of_call: str):
    """After markup, in the budget's currency, at the dearest price that the call can get."""
    assert (Decimal(total), Decimal(of_call)) == counter(unit).highest([CALL, CALL], AT)


def test_images_count_by_whichever_price_there_is():
    """By image, if the model has no price for tokens."""
    record = CALL | {"images": 3, "image_output_tokens": 50}

    assert Decimal("0.25") == counter("USD", "draw").highest([record], AT)[0]


@every_row(
    ("prices", "total"),
    [
        ({}, "0.0028"),
        ({"audio_input": "40", "audio_output": "80"}, "0.029"),
        ({"image_input": "10"}, "0.0036"),
        ({"audio_input": "40", "audio_output": "80", "image_input": "10"}, "0.0298"),
    ],
)
def test_sounds_and_images_count_at_the_prices_that_they_have(prices: dict[str, str], total: str):
    """A model without such a price may count them as text."""
    book = {"currency": "USD", "prices": [{**BOOK["prices"][0], "cache_write": "2", **prices}]}
    parts = {"audio_input_tokens": 500, "image_input_tokens": 100, "audio_output_tokens": 100}

    assert Decimal(total) == counter("USD", book=book).highest([CALL | parts], AT)[0]


@pytest.mark.parametrize(("model", "book"), [("other", BOOK), ("gpt", None)])
def test_without_a_price_there_is_no_amount(model: str, book: dict[str, Any] | None):
    """It is never 0. The error has the model."""
    with pytest.raises(NoPrice) as raised:
        counter("USD", model, book=book).highest([CALL], AT)

    assert model == raised.value.model


def test_a_deployment_that_no_entry_names_is_taken_as_the_model_of_its_name():
    """For what is reserved; what is settled goes by the model that answers."""
    book = BOOK | {"prices": [BOOK["prices"][0] | {"provider": "azure_openai"}]}
    named = Counter("USD", "contoso", {"provider": "azure_openai", "model": "gpt"}, counter("USD", book=book).pricing)

    assert Decimal("0.0066") + Decimal("0.01") == named.highest([CALL], AT)[0]


@every_row(
    ("unit", "values", "expected"),
    [
        ("tokens", CALL, 1100),
        ("tokens", CALL | {"output_tokens": None}, 1000),
        ("tokens", {"calls": 1}, 77),
        ("tokens", {"calls": 0, "outcome": "unanswered"}, 77),
        ("tokens", {"calls": 0, "jobs": 1}, 0),
        ("jobs", CALL | {"jobs": 1}, 1),
        ("jobs", CALL, 0),
        ("USD", CALL, "0.0056"),
        ("USD", CALL | {"jobs": 1}, "0.0156"),
        ("USD", {"calls": 0, "jobs": 1}, "0.01"),
        ("USD", {"calls": 1, "model": "other"}, 77),
        ("USD", {"calls": 0, "outcome": "unanswered"}, 77),
    ],
)
def test_a_usage_record_counts_what_it_says(unit: str, values: dict[str, Any], expected: Any):
    """What is not known counts as the most that the call can cost; a closed job adds the markup's fee."""
    record = {"provider": "openai", "model": "gpt", "outcome": "answered", "at": AT, **values}

    assert Decimal(expected) == counter(unit).measure(Decimal(77))(record)


@pytest.mark.parametrize(("model", "expected"), [("gpt", "0.33"), ("draw", "0.33")])
def test_a_call_of_which_nothing_is_known_counts_by_whichever_price_there_is(model: str, expected: str):
    """By output tokens or, if the model has no price for these, by images, seconds, characters or calls."""
    assert Decimal(expected) == counter("USD", model).highest([unknown_call(20_000)], AT)[0]
