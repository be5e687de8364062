"""The input of `embed`: texts that become vectors, and the form in which these come back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.errors import InvalidJob

MOST_TEXTS = 2048

Format = Literal["json", "npy"]

_OURS = {
    "input": "give it as `input.texts`",
    "model": "give it as the job's own `model`",
}


class EmbedInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts, each of which becomes a vector of as many numbers as `dimensions` says, or the model."""

    texts: list[str]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    format: Format = "json"
    parameters: dict[str, Any] = {}


class Embed(Struct, frozen=True):
    """Texts, the parameters of every call, and the form of the answer."""

    texts: list[str]
    parameters: dict[str, Any]
    format: Format


def decode_embed(data: Raw | bytes) -> Embed:
    """What `data`, a job's input, asks for. Raises InvalidJob with the path of the member at fault."""
    given = decode(data, EmbedInput, at="input")
    if not 0 < len(given.texts) <= MOST_TEXTS:
        raise InvalidJob(f"`input.texts` must hold 1 to {MOST_TEXTS} texts.")
    for index, text in enumerate(given.texts):
        if not text:
            raise InvalidJob(f"`input.texts[{index}]` is empty.")
    for name, instead in _OURS.items():
        if name in given.parameters:
            raise InvalidJob(f"`input.parameters.{name}` does not belong there: {instead}.")
    if given.dimensions is None:
        return Embed(given.texts, given.parameters, given.format)
    if "dimensions" in given.parameters:
        raise InvalidJob("`input.parameters.dimensions` is given as `input.dimensions` already: leave one out.")
    return Embed(given.texts, {"dimensions": given.dimensions, **given.parameters}, given.format)
