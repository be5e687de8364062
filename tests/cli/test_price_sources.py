"""Prices of recorded answers of the sources, checked by hand against the recordings; what is unknown is left out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.price_sources import azure, genai_prices, litellm
from aijobs.price_sources.azure_meters import LONG_CONTEXT, read_meter
from aijobs.price_sources.base import NO_PRICE, NO_STEP, SourceError, SourcePrices
from shared.billing.pricing import Cost, Pricing, Unpriced
from shared.contract.price_book import PriceBook, decode_price_book
from tests.support.price_sources import rates, recorded
from tests.support.rows import every_row

SINCE = date(2026, 8, 15)
REGION = "swedencentral"
AZURE_PAGES = [recorded("azure-1.json"), recorded("azure-2.json")]


def from_azure(since: date = SINCE, region: str = REGION) -> SourcePrices:
    """The recorded prices of Azure."""
    return azure.convert(AZURE_PAGES, since, region)


def from_genai_prices() -> SourcePrices:
    """The recorded prices of genai-prices."""
    return genai_prices.convert(recorded("genai_prices.json"))


def from_litellm() -> SourcePrices:
    """The recorded prices of LiteLLM."""
    return litellm.convert(recorded("litellm.json"))


SOURCES = {"azure": from_azure, "genai-prices": from_genai_prices, "litellm": from_litellm}


def find(source: SourcePrices, provider: str, model: str, **calls: Any) -> list[dict[str, str]]:
    """The amounts of the prices for certain calls, in the order of their days."""
    usual = {"deployment_scope": None, "processing": "standard", "service_tier": None, "min_input_tokens": 0}
    wanted = {"provider": provider, "model": model} | usual | calls
    matching = [price for price in source.prices if wanted == {name: getattr(price, name) for name in wanted}]
    return [rates(price) for price in sorted(matching, key=lambda price: price.effective_from or date.min)]


def reasons(source: SourcePrices) -> dict[str, str]:
    """Why something was left out, by its name."""
    return {entry.name: entry.reason for entry in source.left_out}


@pytest.mark.parametrize("name", SOURCES)
def test_prices_are_a_price_book(name: str):
    """
    The prices of a source can be imported, say where they are from, and have none that is 0, but that of an image
    whose tokens have one.
    """
    source = SOURCES[name]()
    data = msgspec.json.encode(PriceBook(currency="USD", prices=source.prices))

    assert source.prices == decode_price_book(data).prices
    assert {name} == {price.source for price in source.prices}
    zeros = [(name, price) for price in source.prices for name, amount in rates(price).items() if amount == "0"]
    assert [] == [price for name, price in zeros if name != "image" or not price.image_output]
    assert b"E" not in b"".join(data.split(b'"')[1::2]).replace(b"USD", b"")


GLOBAL = {"deployment_scope": "global"}
LONG = {"min_input_tokens": LONG_CONTEXT}
AZURE = [
    ("gpt-5.4", GLOBAL, {"input": "2.5", "cached": "0.25", "output": "15"}),
    ("gpt-5.4-20*", GLOBAL, {"input": "2.5", "cached": "0.25", "output": "15"}),
    ("gpt-5.4", {"deployment_scope": "data_zone"}, {"input": "2.75", "cached": "0.275", "output": "16.5"}),
    ("gpt-5.4", GLOBAL | {"processing": "batch"}, {"input": "1.25", "cached": "0.13", "output": "7.5"}),
    ("gpt-5.4", GLOBAL | LONG, {"input": "5", "cached": "0.5", "output": "22.5"}),
    ("gpt-5.4", GLOBAL | LONG | {"processing": "batch"}, {"input": "2.5", "cached": "0.25", "output": "11.25"}),
    ("gpt-5.4", GLOBAL | {"service_tier": "priority"}, {"input": "5", "cached": "0.5", "output": "30"}),
    (
        "gpt-5.6-luna",
        {"deployment_scope": "data_zone"},
        {"input": "1.1", "cached": "0.11", "cache_write": "1.375", "output": "6.6"},
    ),
    ("gpt-4o-2024-11-20", GLOBAL, {"input": "2.5", "cached": "1.25", "output": "10"}),
    ("gpt-4o-2024-11-20", {"deployment_scope": "regional"}, {"input": "3.025", "cached": "1.513", "output": "12.1"}),
    ("o4-mini-2025-04-16", GLOBAL, {"input": "1.1", "cached": "0.275", "output": "4.4"}),
    ("text-embedding-3-small", GLOBAL, {"input": "0.02"}),
    ("gpt-4o-transcribe", GLOBAL, {"input": "2.5", "audio_input": "6", "output": "10"}),
    (
        "gpt-image-1",
        GLOBAL,
        {"input": "5", "cached": "1.25", "image_input": "10", "image_output": "40", "output": "40", "image": "0"},
    ),
]


@pytest.mark.parametrize("name", ["azure", "litellm"])
def test_the_tokens_of_an_image_are_its_price(name: str):
    """What the app counts, images, needs no price of its own beside them: else each image job would be unpriced."""
    pricing = Pricing(PriceBook(currency="USD", prices=SOURCES[name]().prices))
    provider = "azure_openai" if name == "azure" else "openai"
    labels = {"provider": provider, "answered_by": "gpt-image-1", "deployment_scope": "global", "calls": 1}
    counts = {"images": 1, "input_tokens": 50, "output_tokens": 4160, "image_output_tokens": 4160}

    cost = pricing.cost("acme", date(2026, 11, 14), labels | counts)

    assert isinstance(cost, Cost)
    assert Decimal("0.16665") == cost.amount


@every_row(("model", "calls", "amounts"), AZURE)
def test_azure(model: str, calls: Mapping[str, Any], amounts: dict[str, str]):
    """A meter's name says model, scope, tier, context and what is counted; units of 1K and 1M become a million."""
    source = from_azure()

    for provider in ("azure_openai", "foundry"):
        assert [amounts] == find(source, provider, model, **calls)


def test_azure_flex_is_spelt_without_a_point():
    """`54 mini Inp Flex Gl` is the flex tier of gpt-5.4-mini."""
    source = from_azure(region="eastus2")

    assert [{"input": "0.375"}] == find(source, "foundry", "gpt-5.4-mini", service_tier="flex", **GLOBAL)


def test_azure_prices_have_their_days():
    """A superseded price holds until the day of the next one, and only the last one from a later day on."""
    old = {"input": "1", "cached": "0.1", "cache_write": "1.25", "output": "6"}
    new = {"input": "0.2", "cached": "0.02", "cache_write": "0.25", "output": "1.2"}

    for since, expected in ((date(2026, 7, 15), [old, new]), (SINCE, [new])):
        source = from_azure(since)
        assert expected == find(source, "foundry", "gpt-5.6-luna", **GLOBAL)
        matching = [p for p in source.prices if (p.provider, p.model, p.tier) == ("foundry", "gpt-5.6-luna", None)]
        days = {(p.effective_from, p.effective_to) for p in matching if p.deployment_scope == "global"}
        assert (max(since, date(2026, 8, 1)), None) in days
        assert len(expected) == len({first for first, _ in days})
    assert {date(2026, 7, 15)} == {p.effective_from for p in from_azure(date(2026, 7, 15)).prices if p.tier}


def test_azure_price_that_differs_between_regions_needs_a_region():
    """Without a region, what costs the same everywhere has a price, and the rest is left out by name."""
    source = from_azure(region="")
    left_out = reasons(source)

    assert [{"input": "2.5", "cached": "1.25", "output": "10"}] == find(
        source, "foundry", "gpt-4o-2024-11-20", **GLOBAL
    )
    assert [] == find(source, "foundry", "gpt-4o-2024-11-20", deployment_scope="regional")
    assert "differs between regions: pass --region" == left_out["gpt 4o 1120 Inp regnl Tokens"]
    # Two regions began to have this price on different days.
    assert [{"input": "1.1", "cached": "0.275", "output": "4.4"}] == find(
        source, "foundry", "o4-mini-2025-04-16", **GLOBAL
    )
    with pytest.raises(SourceError, match="no price of a known model in the region nowhere"):
        from_azure(region="nowhere")


def test_azure_tier_without_a_price_for_long_input_is_listed():
    """A tier of a model that has a price of its own for long input elsewhere, and none in this tier, is named."""
    left_out = reasons(from_azure())

    assert NO_STEP == left_out["gpt-5.6-luna global priority from 272001 input tokens on"]
    assert not any(name.startswith("gpt-5.4 global batch from") for name in left_out)


@every_row(
    "name",
    [
        *("Sora 2 glbl Second", "gpt-4o-mini-0718-FT-inp-glbl Tokens", "Provisioned Managed Global Unit"),
        *("gpt-image-1-inp-cached-img-glbl Tokens", "chat-latest 05282026 inp Gl 1M Tokens"),
    ],
)
def test_azure_meter_that_is_unknown_is_left_out(name: str):
    """A video, a fine-tuned model, a reserved unit, cached images and a model without a name have no price."""
    source = from_azure(region="")

    assert "is not a meter of a known model's tokens" == reasons(source)[name]
    assert "is not a product whose meters name their model" == reasons(source)["Cohere Models"]


@every_row(
    "name",
    [
        "5.4 inp 1M Tokens",  # no scope
        "5.4 Gl 1M Tokens",  # nothing that is counted
        "5.4 inp opt Gl 1M Tokens",
        "5.4 inp Gl DZ 1M Tokens",
        "5.4 inp pp Batch Gl 1M Tokens",
        "5.4 turbo inp Gl 1M Tokens",  # an unknown word
        "gpt 4o 0229 inp glbl Tokens",  # an unknown version
        "gpt 4o 1120 aud inp glbl Tokens",  # audio of a model without
        "inp Gl 1M Tokens",
        "",
    ],
)
def test_azure_meter_is_not_guessed(name: str):
    """A name that lacks something, says it twice or has an unknown word is not read."""
    assert read_meter(name) is None


def test_azure_rows_that_do_not_hold_for_all_are_left_out():
    """Reservations, prices by volume, two prices on a day, and invalid amounts are left out or refused."""
    (item,) = [each for each in AZURE_PAGES[0]["Items"] if each["meterName"] == "5.4 inp Gl 1M Tokens"][:1]
    dearer = item["retailPrice"] + 1

    def convert(*items: dict[str, Any]) -> SourcePrices:
        return azure.convert([{"Items": [*items]}], SINCE)

    assert [] == convert(item | {"type": "Reservation"}).prices
    assert [] == convert(item | {"tierMinimumUnits": Decimal(1000)}).prices
    assert [] == convert(item | {"retailPrice": "2.5"}).prices
    assert [] == convert(item | {"retailPrice": Decimal(0)}).prices
    assert [] == convert(item | {"unitOfMeasure": "1 Hour"}).prices
    twice = convert(item, item | {"retailPrice": dearer})
    assert ([], "has two prices on the same day") == (twice.prices, reasons(twice)[item["meterName"]])
    primary = convert(item, item | {"retailPrice": dearer, "isPrimaryMeterRegion": False})
    assert [{"input": "2.5"}] == find(primary, "foundry", "gpt-5.4", **GLOBAL)
    with pytest.raises(SourceError, match="not in USD"):
        convert(item | {"currencyCode": "EUR"})


GENAI = [
    ("openai", "gpt-4o", {}, [{"input": "2.5", "cached": "1.25", "output": "10"}]),
    ("openai", "gpt-4o-audio-preview*", {}, [{"input": "2.5", "output": "10"}]),
    ("openai", "gpt-5.4", {"min_input_tokens": 272_001}, [{"input": "5", "cached": "0.5", "output": "22.5"}]),
    (
        "openai",
        "o3",
        {},
        [{"input": "10", "cached": "0.5", "output": "40"}, {"input": "2", "cached": "0.5", "output": "8"}],
    ),
    (
        "openai",
        "gpt-5.6-luna-20*",
        {},
        [
            {"input": "1", "cached": "0.1", "cache_write": "1.25", "output": "6"},
            {"input": "0.2", "cached": "0.02", "cache_write": "0.25", "output": "1.2"},
        ],
    ),
    ("openai", "gpt-image-1", {}, [{"input": "5", "cached": "1.25", "image_input": "10", "output": "40"}]),
    ("openai", "text-embedding-3-small", {}, [{"input": "0.02"}]),
    ("azure_openai", "o3-2025-04-16", GLOBAL, [{"input": "2", "cached": "0.5", "output": "8"}]),
    ("foundry", "phi-4", GLOBAL, [{"input": "0.07", "output": "0.14"}]),
    (
        "anthropic",
        "claude-opus-4-5*",
        {},
        [{"input": "5", "cached": "0.5", "cache_write": "6.25", "cache_write_long": "10", "output": "25"}],
    ),
    (
        "anthropic",
        "claude-sonnet-4-6*",
        {"min_input_tokens": 200_001},
        [{"input": "6", "cached": "0.6", "cache_write": "7.5", "cache_write_long": "12", "output": "22.5"}],
    ),
]


@every_row(("provider", "model", "calls", "amounts"), GENAI)
def test_genai_prices(provider: str, model: str, calls: Mapping[str, Any], amounts: list[dict[str, str]]):
    """Names, prefixes and dated names become models; tiers hold above their start; each price has its days."""
    assert amounts == find(from_genai_prices(), provider, model, **calls)


def test_genai_prices_have_their_days():
    """A price with a start ends the one before it, together with its tiers."""
    prices = [price for price in from_genai_prices().prices if price.model == "claude-sonnet-4-6*"]

    days = [(price.min_input_tokens, price.effective_from, price.effective_to) for price in prices]
    assert [(0, None, date(2026, 3, 13)), (200_001, None, date(2026, 3, 13)), (0, date(2026, 3, 13), None)] == days


def test_genai_prices_leave_out_what_a_book_has_no_words_for():
    """A pattern within a name, searches, cached audio and other providers are listed."""
    left_out = reasons(from_genai_prices())

    for name in ("azure/o4-mini: contains o4-mini", "openai/moderation: contains moderation"):
        assert "is not a name, nor the beginning of one" == left_out[name]
    for name in ("anthropic/claude-opus-4-5: web_searches_kcount", "openai/gpt-realtime: cache_audio_read_mtok"):
        assert "is not in a price book" == left_out[name]
    assert "1 model" in left_out


def test_genai_price_by_the_hour_is_left_out():
    """The recorded price of a provider that is cheaper at night has no day, wherever it stood."""
    (deepseek,) = [entry for entry in recorded("genai_prices.json") if entry["id"] == "deepseek"]

    source = genai_prices.convert([deepseek | {"id": "openai"}])

    assert [] == source.prices
    assert "has a price that depends on more than the day" == reasons(source)["openai/deepseek-chat"]


def test_genai_price_is_that_of_the_first_model_that_matches():
    """If a later model has a name that an earlier one matches, genai-prices takes the earlier. So does the book."""
    models = [
        {"id": "first", "match": {"starts_with": "m-"}, "prices": {"input_mtok": Decimal(1)}},
        {"id": "second", "match": {"equals": "m-2"}, "prices": {"input_mtok": Decimal(2)}},
    ]

    source = genai_prices.convert([{"id": "openai", "models": models}])

    assert ["m-*"] == [price.model for price in source.prices]
    assert "is the name of an earlier model" == reasons(source)["openai/second: m-2"]


LITELLM = [
    ("openai", "gpt-5.4", {}, {"input": "2.5", "cached": "0.25", "output": "15"}),
    ("openai", "gpt-5.4", {"service_tier": "flex"}, {"input": "1.25", "cached": "0.13", "output": "7.5"}),
    ("openai", "gpt-5.4", {"service_tier": "priority"}, {"input": "5", "cached": "0.5", "output": "30"}),
    ("openai", "gpt-5.4", {"processing": "batch"}, {"input": "1.25", "output": "7.5"}),
    ("openai", "gpt-5.4", {"min_input_tokens": 272_001}, {"input": "5", "cached": "0.5", "output": "22.5"}),
    (
        "foundry",
        "gpt-5.4",
        {"min_input_tokens": 272_001, "service_tier": "priority"},
        {"input": "10", "cached": "1", "output": "45"},
    ),
    ("foundry", "gpt-5.4", {"deployment_scope": "data_zone"}, {"input": "2.75", "cached": "0.28", "output": "16.5"}),
    ("azure_openai", "gpt-4o-2024-11-20", GLOBAL, {"input": "2.5", "cached": "1.25", "output": "10"}),
    ("foundry", "grok-4", {}, {"input": "3", "output": "15"}),
    ("openai", "gpt-5.6-luna", {}, {"input": "1", "cached": "0.1", "cache_write": "1.25", "output": "6"}),
    (
        "anthropic",
        "claude-sonnet-4-5",
        {"min_input_tokens": 200_001},
        {"input": "6", "cached": "0.6", "cache_write": "7.5", "cache_write_long": "12", "output": "22.5"},
    ),
    (
        "openai",
        "gpt-4o-audio-preview",
        {},
        {"input": "2.5", "output": "10", "audio_input": "40", "audio_output": "80"},
    ),
    ("openai", "whisper-1", {}, {"second": "0.0001"}),
    ("openai", "gpt-realtime-whisper", {}, {"second": "0.000283333333333"}),
    ("openai", "tts-1", {}, {"characters": "15"}),
    (
        "openai",
        "gpt-image-1",
        {},
        {"input": "5", "cached": "1.25", "image_input": "10", "image_output": "40", "output": "40", "image": "0"},
    ),
    ("openai", "text-embedding-3-small", {"processing": "batch"}, {"input": "0.01"}),
    ("openai", "ft:gpt-4o-2024-08-06:*", {}, {"input": "3.75", "cached": "1.875", "output": "15"}),
]


@every_row(("provider", "model", "calls", "amounts"), LITELLM)
def test_litellm(provider: str, model: str, calls: Mapping[str, Any], amounts: dict[str, str]):
    """Prices per token become prices per million, to the last digit; a step inherits what it does not change."""
    assert [amounts] == find(from_litellm(), provider, model, **calls)


def test_litellm_leaves_out_what_is_not_known():
    """Sizes, zeros, searches, videos, missing steps, contradictions and other providers are listed, each by name."""
    source = from_litellm()
    left_out = reasons(source)

    assert "is priced by size, quality or region" == left_out["azure/standard/1024-x-1024/dall-e-3"]
    assert "is priced by size, quality or region" == left_out["dall-e-3: image"]
    assert NO_PRICE == left_out["omni-moderation-latest"]
    assert "is not in a price book" == left_out["azure_ai/cohere-rerank-v4.0-pro: input_cost_per_query"]
    assert "is not in a price book" == left_out["azure/sora-2: output_cost_per_video_per_second"]
    assert NO_STEP == left_out["gpt-5.4: flex from 272001 input tokens on"]
    assert left_out["azure_ai/mistral-large-latest"].startswith("differs from azure/mistral-large-latest")
    assert "2 models" in left_out
    assert {"sample_spec", "dall-e-3", "omni-moderation-latest"}.isdisjoint({price.model for price in source.prices})


def test_default_scope_holds_for_calls_without_one():
    """Prices of a scope can hold for connections that name none; what has such a price keeps it."""
    source = from_azure()
    source.add_unscoped("global")
    pricing = Pricing(PriceBook(currency="USD", prices=source.prices))
    record = {"provider": "foundry", "answered_by": "gpt-5.4-2026-03-05", "input_tokens": 1000, "output_tokens": 10}

    unscoped, data_zone = (
        pricing.cost("contoso", SINCE, record | scope) for scope in ({}, {"deployment_scope": "data_zone"})
    )
    assert isinstance(unscoped, Cost)
    assert isinstance(data_zone, Cost)
    assert (Decimal("0.00265"), Decimal("0.002915")) == (unscoped.amount, data_zone.amount)

    source = from_litellm()
    before = find(source, "foundry", "gpt-4o-2024-11-20")
    source.add_unscoped("global")
    assert ([], [{"input": "2.5", "cached": "1.25", "output": "10"}]) == (
        before,
        find(source, "foundry", "gpt-4o-2024-11-20"),
    )


def test_another_version_of_a_model_has_no_price_of_the_model():
    """`gpt-5.4-20*` prices the dated names of gpt-5.4, and not a model whose name only begins the same."""
    pricing = Pricing(PriceBook(currency="USD", prices=from_azure().prices))
    record = {"provider": "foundry", "deployment_scope": "global", "input_tokens": 1, "output_tokens": 1}

    assert isinstance(pricing.cost("c", SINCE, record | {"answered_by": "gpt-5.4-2026-03-05"}), Cost)
    assert isinstance(pricing.cost("c", SINCE, record | {"answered_by": "gpt-5.4-ultra"}), Unpriced)


@every_row("document", [None, [], {}, "text", Decimal(1), [1], {"a": 1}, {"Items": 1}, {"Items": [1]}, [{"models": 1}]])
@every_row("convert", [lambda d: azure.convert([d], SINCE), genai_prices.convert, litellm.convert])
def test_other_documents_have_no_prices(convert: Any, document: Any):
    """JSON of another form is an error in words, or has no prices."""
    with suppress(SourceError):
        assert [] == convert(document).prices


JSON = st.recursive(
    st.none() | st.booleans() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_changed_member_is_never_a_traceback(data: st.DataObject):
    """Whatever stands in the place of a member of a recorded entry: the entry is left out, or priced validly."""
    entry = dict(data.draw(st.sampled_from(AZURE_PAGES[0]["Items"])))
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(JSON)
    model = dict(recorded("genai_prices.json")[3]["models"][data.draw(st.integers(0, 11))])
    model[data.draw(st.sampled_from(["id", "match", "prices"]))] = data.draw(JSON)
    name, values = data.draw(st.sampled_from([*recorded("litellm.json").items()]))
    values = dict(values) | {data.draw(st.sampled_from(sorted(values))): data.draw(JSON)}
    for convert, document in (
        (lambda d: azure.convert([{"Items": [d]}], SINCE), entry),
        (lambda d: genai_prices.convert([{"id": "openai", "models": [d]}]), model),
        (lambda d: litellm.convert({name: d}), values),
    ):
        try:
            source = convert(document)
        except SourceError:
            continue
        assert all(amount >= 0 for price in source.prices for amount in map(Decimal, rates(price).values()))
