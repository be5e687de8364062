"""The input of `embed`: texts that become vectors, and the format of these vectors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.parameters import merged_parameters

Format = Literal["json", "npy"]

INSTEAD = {
    "input": "set `input.texts` instead",
    "model": "set the job's own `model` instead",
}
"""What `parameters` can't hold, and what to do about it."""


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
    parameters = merged_parameters(embed.parameters, {"dimensions": embed.dimensions}, INSTEAD)
    return Embed(embed.texts, parameters, embed.format)
