"""Price books: what is refused, and how the refusal says where and why."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from shared.contract.price_book import decode_price_book
from shared.errors import InvalidJob
from tests.support.rows import every_row

PRICE = {"provider": "openai", "model": "m", "input": "2"}


def decode(**members: Any) -> Any:
    """Decode a price book in dollars."""
    return decode_price_book(json.dumps({"currency": "USD", **members}).encode())


@every_row("text", ['"0.10"', "0.10", '"1e-1"', "0.1"])
def test_amounts_are_read_digit_by_digit(text: str):
    """A string and a JSON number are the same decimal; neither passes through a float."""
    body = f'{{"currency":"USD","prices":[{{"provider":"o","model":"m","input":{text}}}]}}'

    (price,) = decode_price_book(body.encode()).prices
    assert Decimal("0.1") == price.input


@every_row(
    ("members", "message"),
    [
        ({"currency": "usd"}, "`currency` must be an ISO 4217 code, such as USD."),
        ({"price": []}, "`price` is not a known member."),
        ({"prices": [PRICE | {"imput": "1"}]}, "`prices[0].imput` is not a known member."),
        ({"prices": [{"model": "m", "input": "1"}]}, "`prices[0].provider` is missing."),
        ({"prices": [PRICE | {"input": "-1"}]}, "`prices[0].input` must be 0 or more."),
        ({"prices": [PRICE | {"input": "NaN"}]}, "`prices[0].input` must be a number below 1,000,000,000"),
        *(
            ({"prices": [PRICE | {"input": text}]}, "`prices[0].input` must be a number below 1,000,000,000")
            for text in ("1e9", "1e9999999", "1e-9999999", "1e-16")
        ),
        ({"prices": [PRICE | {"input": "1e-16"}]}, "with at most 15 places."),
        ({"prices": [PRICE | {"input": f"0.1{'0' * 40}1"}]}, "with at most 15 places."),
        ({"prices": [PRICE | {"input": "two"}]}, "`prices[0].input`"),
        ({"prices": [PRICE | {"model": "gpt-*-mini"}]}, "`prices[0].model` can have a `*` only at its end."),
        ({"prices": [PRICE | {"effective_from": "15.11.2026"}]}, "`prices[0].effective_from`"),
        (
            {"prices": [PRICE | {"effective_from": "2026-11-15", "effective_to": "2026-11-15"}]},
            "`prices[0].effective_to` must be later than `effective_from`",
        ),
        ({"prices": [{"provider": "openai", "model": "m"}]}, "`prices[0]` has no price: set at least one of input,"),
        ({"prices": [PRICE, PRICE]}, "`prices[0]` and `prices[1]` are for the same calls, and their days overlap."),
        (
            {"prices": [PRICE | {"service_tier": "auto"}, PRICE | {"effective_from": "2026-11-15"}]},
            "`prices[0]` and `prices[1]` are for the same calls",
        ),
        (
            {"prices": [PRICE | {"min_input_tokens": step} for step in range(52)]},
            "`prices` have 51 different `min_input_tokens`; at most 50 are possible.",
        ),
        ({"markups": [{"percent": "-101"}]}, "`markups[0].percent` must be -100 or more."),
        ({"markups": [{"percent": "1"}, {"percent": "2"}]}, "`markups[0]` and `markups[1]`"),
        ({"models": [{"deployment": "d", "model": "m"}] * 2}, "`models[0]` and `models[1]`"),
        ({"rates": [{"from": "USD", "to": "EUR", "rate": "0"}]}, "`rates[0].rate` must be more than 0."),
        ({"rates": [{"from": "USD", "to": "EUR", "rate": "0.9"}] * 2}, "`rates[0]` and `rates[1]`"),
    ],
)
def test_a_mistake_is_refused_where_it_is(members: dict[str, Any], message: str):
    """An unknown member, an invalid amount, dates in the wrong order and ties are errors that name the entry."""
    with pytest.raises(InvalidJob) as raised:
        decode(**members)

    assert message in str(raised.value)


def test_prices_may_follow_one_another():
    """Entries are no tie if one ends on the day that the next begins, or if they differ."""
    prices = [
        PRICE | {"effective_to": "2026-11-15"},
        PRICE | {"effective_from": "2026-11-15"},
        PRICE | {"customer": "contoso"},
        PRICE | {"processing": "batch"},
        PRICE | {"service_tier": "flex"},
        PRICE | {"min_input_tokens": 1},
        PRICE | {"deployment_scope": "global"},
        PRICE | {"provider": "foundry"},
        PRICE | {"model": "m*"},
    ]

    assert 9 == len(decode(prices=prices).prices)
