"""The input of `embed`: texts that become vectors, and the format of these vectors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.errors import InvalidJob

Format = Literal["json", "npy"]

_INSTEAD = {
    "input": "set `input.texts`",
    "model": "set the job's own `model`",
}


class EmbedInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts, each of which becomes a vector of `dimensions` numbers, or of as many as the model makes."""

    texts: Annotated[
        list[Annotated[str, Meta(min_length=1, description="text that is not empty")]],
        Meta(min_length=1, max_length=2048),
    ]
    """Texts, each of which becomes a vector."""
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    """Numbers in a vector. If left out, the model decides."""
    format: Format = "json"
    """The format of the vectors: JSON in the result, or a NumPy file."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class Embed(Struct, frozen=True):
    """Texts, the parameters of every call, and the format of the result."""

    texts: list[str]
    parameters: dict[str, Any]
    format: Format


def decode_embed(data: Raw | bytes) -> Embed:
    """The texts in `data`, a job's input. Raises InvalidJob with the path of the member at fault."""
    embed = decode(data, EmbedInput, at="input")
    for name, instead in _INSTEAD.items():
        if name in embed.parameters:
            raise InvalidJob(f"`input.parameters.{name}` is not allowed: {instead} instead.")
    if embed.dimensions is None:
        return Embed(embed.texts, embed.parameters, embed.format)
    if "dimensions" in embed.parameters:
        raise InvalidJob("`input.parameters.dimensions` repeats `input.dimensions`: leave one of them out.")
    return Embed(embed.texts, {"dimensions": embed.dimensions, **embed.parameters}, embed.format)
