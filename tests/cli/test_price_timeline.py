"""How imports and prices of one's own change a book over time: earlier days, and what others set, stay as they are."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.price_changes import Change, as_documents, changes_between
from aijobs.price_sources.base import SourcePrices
from aijobs.price_timeline import with_price, with_source
from shared.contract.price_book import Markup, ModelAlias, Price, PriceBook, Rate, days_of, decode_price_book
from tests.support.rows import every_row

NOVEMBER, MIDDLE, DECEMBER = date(2026, 11, 1), date(2026, 11, 15), date(2026, 12, 1)


def price(amount: str | int = 2, **members: Any) -> Price:
    """A price of a model."""
    return Price(**{"provider": "openai", "model": "m", "input": Decimal(amount), "source": "litellm"} | members)


def book(*prices: Price, **members: Any) -> PriceBook:
    """A price book."""
    return PriceBook(currency="USD", prices=[*prices], **members)


def imported(before: PriceBook, since: date, *prices: Price) -> list[Price]:
    """The prices of a book after an import."""
    return with_source(before, SourcePrices("litellm", [*prices]), since)[0].prices


def test_changed_price_ends_the_old_one():
    """The old price holds until the day, the new one from then on."""
    before = book(price(2, effective_from=NOVEMBER))

    after = imported(before, MIDDLE, price(3))

    assert [price(2, effective_from=NOVEMBER, effective_to=MIDDLE), price(3, effective_from=MIDDLE)] == after


def test_unchanged_price_stays_as_it_is():
    """The same price again changes nothing, on whichever day; nor does the same import twice."""
    before = book(price(2, effective_from=NOVEMBER))

    assert before.prices == imported(before, MIDDLE, price(2))
    changed = book(*imported(before, MIDDLE, price(3)))
    assert changed.prices == imported(changed, MIDDLE, price(3))
    assert [] == changes_between(changed, book(*imported(changed, DECEMBER, price(3))))


def test_price_that_the_source_no_longer_has_ends():
    """A source's price without a successor holds until the day, and one that has not begun is removed."""
    before = book(price(2), price(3, model="later", effective_from=DECEMBER))

    assert [price(2, effective_to=MIDDLE)] == imported(before, MIDDLE)


def test_dates_of_the_source_hold_after_the_day():
    """A source's own days count if they are later than that of the import."""
    listed = (price(2, effective_to=DECEMBER), price(3, effective_from=DECEMBER))

    expected = [
        price(2, effective_from=MIDDLE, effective_to=DECEMBER),
        price(3, effective_from=DECEMBER),
    ]
    assert expected == imported(book(), MIDDLE, *listed)
    assert [price(3, effective_from=date(2027, 1, 1))] == imported(book(), date(2027, 1, 1), *listed)


@pytest.mark.parametrize("source", [None, "azure"])
def test_price_of_another_source_is_never_touched(source: str | None):
    """What somebody set, or another source brought, keeps its days. The import has the rest, and says what it left."""
    manual = price(9, source=source, effective_from=MIDDLE, effective_to=DECEMBER)

    after, left_out = with_source(book(manual), SourcePrices("litellm", [price(2)]), NOVEMBER)
    assert [
        price(2, effective_from=NOVEMBER, effective_to=MIDDLE),
        manual,
        price(2, effective_from=DECEMBER),
    ] == sorted(after.prices, key=days_of)
    assert [] == left_out

    forever = price(9, source=source)
    after, (entry,) = with_source(book(forever), SourcePrices("litellm", [price(2)]), NOVEMBER)
    assert [forever] == after.prices
    assert ("openai m", f"is left to {source or 'a price without a source'}") == (entry.name, entry.reason)


def test_calls_that_differ_have_prices_of_their_own():
    """A customer's price, a tier, a scope, a batch and a step are no price for the same calls."""
    others = [
        price(9, source=None, **members)
        for members in (
            {"customer": "contoso"},
            {"service_tier": "flex"},
            {"deployment_scope": "global"},
            {"processing": "batch"},
            {"min_input_tokens": 1},
        )
    ]

    after = imported(book(*others), NOVEMBER, price(2))

    assert {price(2, effective_from=NOVEMBER), *others} == {*after}


def test_own_price_replaces_others_on_its_days():
    """A price that is set ends what holds for the same calls; after its last day, that goes on."""
    before = book(price(2), price(5, customer="contoso", source=None))

    after = with_price(before, price(3, source=None, effective_from=MIDDLE, effective_to=DECEMBER))

    assert [
        price(2, effective_to=MIDDLE),
        price(3, source=None, effective_from=MIDDLE, effective_to=DECEMBER),
        price(2, effective_from=DECEMBER),
        price(5, customer="contoso", source=None),
    ] == after.prices


DAYS = st.none() | st.integers(0, 6).map(lambda days: NOVEMBER + timedelta(days))


@st.composite
def _prices(draw: st.DrawFn, source: st.SearchStrategy[str | None]) -> list[Price]:
    """Prices of two models whose days do not overlap."""
    matching = []
    for model in ("m", "n"):
        edges = sorted(draw(st.sets(st.integers(0, 6), max_size=4)))
        for first, end in pairwise(edges):
            if draw(st.booleans()):
                span = {"effective_from": NOVEMBER + timedelta(first), "effective_to": NOVEMBER + timedelta(end)}
                matching.append(price(draw(st.integers(1, 3)), model=model, source=draw(source), **span))
    return matching


def held(prices: list[Price], model: str, day: date) -> tuple[Decimal | None, str | None] | None:
    """The amount and source that hold on a day."""
    matching = [p for p in prices if p.model == model and days_of(p)[0] <= day < days_of(p)[1]]
    assert len(matching) <= 1
    return (matching[0].input, matching[0].source) if matching else None


@given(_prices(st.sampled_from([None, "azure", "litellm"])), _prices(st.just("litellm")), st.integers(0, 6))
def test_an_import_changes_only_its_own_days(before: list[Price], new: list[Price], first: int):
    """Before the day, every call costs the same. From then on, others' prices stay, and the rest is the source's."""
    since = NOVEMBER + timedelta(first)

    after = imported(book(*before), since, *new)

    decode_price_book(msgspec.json.encode(book(*after)))
    for model in ("m", "n"):
        for day in (NOVEMBER + timedelta(number) for number in range(-1, 8)):
            old = held(before, model, day)
            keeps = day < since or (old is not None and old[1] != "litellm")
            assert held(after, model, day) == (old if keeps else held(new, model, day))


@given(_prices(st.sampled_from([None, "azure"])), _prices(st.sampled_from([None, "azure"])))
def test_changes_say_what_differs_on_each_day(before: list[Price], after: list[Price]):
    """On each day, a change is listed if and only if the two books differ, with what each says."""
    changes = changes_between(book(*before), book(*after))

    for model in ("m", "n"):
        for day in (NOVEMBER + timedelta(number) for number in range(-1, 8)):
            listed = [
                change
                for change in changes
                if (change.new or change.old).model == model and change.start <= day < change.end
            ]
            pair = held(before, model, day), held(after, model, day)
            if pair[0] == pair[1]:
                assert [] == listed
            else:
                (change,) = listed
                assert pair == tuple(entry and (entry.input, entry.source) for entry in (change.old, change.new))
                assert change.name == ("added" if not pair[0] else "ended" if not pair[1] else "changed")


@every_row(
    ("old", "new", "is_large"),
    [
        ({"input": 2}, {"input": 3}, False),
        ({"input": 2}, {"input": "3.01"}, True),
        ({"input": 2}, {"input": 1}, False),
        ({"input": 2}, {"input": "0.99"}, True),
        ({"input": 2, "output": 8}, {"input": 2, "output": 80}, True),
        ({"input": 2, "output": 8}, {"input": 2}, False),  # without a price: `prices check` says so
        ({"input": 2, "cached": "0.2"}, {"input": 2}, True),  # cached input then costs what input costs
        ({"input": 2}, {"input": 2, "cache_write": "2.5"}, False),
        ({"call": 0, "input": 1}, {"call": 1, "input": 1}, True),
    ],
)
def test_more_than_half_is_large(old: dict[str, Any], new: dict[str, Any], is_large: bool):
    """A change is large if what any part of a call costs changes by more than half of what it was."""
    entries = [
        Price(provider="p", model="m", **{name: Decimal(amount) for name, amount in x.items()}) for x in (old, new)
    ]

    assert is_large is Change("prices", date.min, date.max, *entries).is_large


def test_whole_books_are_compared():
    """Deployments, markups and rates of exchange are compared, too, and each change has its document."""
    before = book(
        price(2),
        models=[ModelAlias(deployment="d", model="m")],
        markups=[Markup(percent=Decimal(10))],
        rates=[Rate(source="USD", target="EUR", rate=Decimal("0.9"))],
    )
    after = book(
        price(2),
        models=[ModelAlias(deployment="d", model="n")],
        markups=[Markup(customer="contoso", percent=Decimal(5))],
        rates=[Rate(source="USD", target="EUR", rate=Decimal("0.4"))],
    )

    changes = changes_between(before, after)

    assert [("models", "changed"), ("markups", "ended"), ("markups", "added"), ("rates", "changed")] == [
        (change.kind, change.name) for change in changes
    ]
    assert [False, False, False, True] == [document["more_than_half"] for document in as_documents(changes)]
    assert ["prices", "models", "markups", "rates"] == [change.kind for change in changes_between(None, before)]
