"""
LiteLLM's `model_prices_and_context_window.json` (MIT): an object of models, their prices per token. Pure.

A name has what the price depends on in front: `azure/eu/gpt-5.4`. So has the price itself at its end:
`input_cost_per_token_above_272k_tokens_priority`. It names no deployment scope for `azure/gpt-5.4`, so that price holds
for every scope that it does not name elsewhere. The day on which a model is deprecated ends no price: models are served
for longer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aijobs.price_sources.base import AZURE_PROVIDERS, MILLION, NO_PRICE, NO_STEP, SourceError, SourcePrices, is_amount

SOURCE = "litellm"
_PROVIDERS = {
    "openai": ("openai",),
    "text-completion-openai": ("openai",),
    "azure": AZURE_PROVIDERS,
    "azure_text": AZURE_PROVIDERS,
    "azure_ai": AZURE_PROVIDERS,
    "anthropic": ("anthropic",),
}
_PREFIXES = ("azure/", "azure_ai/", "openai/", "anthropic/")
_SCOPES = {"us/": "data_zone", "eu/": "data_zone", "global/": "global", "global-standard/": "global"}
_TOKEN_RATES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_long",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
    "input_cost_per_character": "characters",
}
_RATE = re.compile(
    r"(?P<name>.+?)(?P<long>_above_1hr)?(?:_above_(?P<step>\d+)k_tokens)?(?:_(?P<variant>batches|flex|priority))?"
)
_VARIANTS: dict[str | None, dict[str, str]] = {
    None: {},
    "batches": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}


@dataclass(frozen=True, slots=True)
class _Variant:
    """What prices of a model can differ by: its processing or tier, and the length of the input."""

    name: str | None
    min_input_tokens: int


def convert(document: Any) -> SourcePrices:
    """Return the prices of the providers that connections can have. Raises SourceError."""
    if not isinstance(document, dict):
        raise SourceError("LiteLLM's file is not a JSON object of models.")
    source = SourcePrices(SOURCE)
    others = 0
    sized = {name.rpartition("/")[2] for name in document if re.search(r"\d-x-\d", name)}
    for name, entry in document.items():
        if not isinstance(entry, dict) or name == "sample_spec":
            continue
        providers = _PROVIDERS.get(str(entry.get("litellm_provider")))
        if providers is None:
            others += 1
            continue
        model, scope = _split(name)
        if "/" in model:
            source.leave_out(name, "is priced by size, quality or region")
            continue
        variants = _variants(source, name, entry, is_sized=model in sized)
        if not variants:
            source.leave_out(name, NO_PRICE)
        for variant, rates in variants.items():
            members = {"deployment_scope": scope, "min_input_tokens": variant.min_input_tokens}
            for provider in providers:
                source.add(name, rates, provider=provider, model=model, **members, **_VARIANTS[variant.name])
    source.leave_out_others(others)
    return source


def _split(name: str) -> tuple[str, str | None]:
    """Return the name of the model and its deployment scope."""
    model = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
    for prefix, scope in _SCOPES.items():
        if model.startswith(prefix) and name != model:
            return model.removeprefix(prefix), scope
    # The name of a fine-tuned model continues with its owner and its id.
    return (f"{model}:*" if model.startswith("ft:") else model), None


def _variants(
    source: SourcePrices, name: str, entry: Mapping[str, Any], *, is_sized: bool
) -> dict[_Variant, dict[str, Decimal]]:
    """Return the prices of a model by what they are for. Those of a step are complete: it inherits the others."""
    by_variant: defaultdict[_Variant, dict[str, Decimal]] = defaultdict(dict)
    for variant, rate, amount in _rates(source, name, entry):
        by_variant[variant][rate] = amount
    base = by_variant.get(_Variant(None, 0), {})
    if (per_unit := _per_unit(entry, base)) is not None:
        unit, amount = per_unit
        if unit == "image" and is_sized:
            source.leave_out(f"{name}: image", "is priced by size, quality or region")
        else:
            by_variant[_Variant(None, 0)][unit] = amount
    steps = {variant.min_input_tokens for variant in by_variant if variant.name is None}
    for variant in list(by_variant):
        if variant.min_input_tokens:
            by_variant[variant] = by_variant.get(_Variant(variant.name, 0), {}) | by_variant[variant]
        elif variant.name is not None:
            for step in sorted(steps - {0}):
                if _Variant(variant.name, step) not in by_variant:
                    label = f"{name}: {variant.name} from {step} input tokens on"
                    source.leave_out(label, NO_STEP)
    return dict(by_variant)


def _rates(source: SourcePrices, name: str, entry: Mapping[str, Any]) -> Iterator[tuple[_Variant, str, Decimal]]:
    for member, value in entry.items():
        if "cost" not in member or member in _UNITS:
            continue
        match = _RATE.fullmatch(member)
        assert match is not None  # noqa: S101  # it matches every name
        rate = _TOKEN_RATES.get(match["name"] + (match["long"] or ""))
        if rate is None or not is_amount(value):
            if value:
                source.leave_out(f"{name}: {member}", "is not in a price book")
            continue
        # "Above" 272k: from the next token on.
        step = int(match["step"]) * 1000 + 1 if match["step"] else 0
        yield _Variant(match["variant"], step), rate, value * MILLION


_UNITS = frozenset({"input_cost_per_second", "output_cost_per_second", "input_cost_per_image", "output_cost_per_image"})


def _per_unit(entry: Mapping[str, Any], tokens: Mapping[str, Decimal]) -> tuple[str, Decimal] | None:
    """Return the price of a second or an image, if calls are not priced by tokens, which would count them twice."""
    if any(tokens.values()):
        return None
    mode = str(entry.get("mode"))
    names = {
        "audio_transcription": ("second", "input_cost_per_second"),
        "image_generation": ("image", "output_cost_per_image"),
    }
    if mode not in names:
        return None
    unit, member = names[mode]
    # The older entries have the price of an image in the answer under the other name.
    value = entry.get(member) or (entry.get("input_cost_per_image") if unit == "image" else None)
    return (unit, value) if is_amount(value) and value else None
