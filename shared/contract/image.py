"""The input of `image`: a prompt, how many pictures of it, and what they should be like."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.errors import InvalidJob

_OURS = {
    "prompt": "give it as `input.prompt`",
    "n": "give it as `input.n`",
    "model": "give it as the job's own `model`",
    "stream": "a job's answer is delivered whole",
}
_PASSED_ON = ("size", "quality", "output_format")


class ImageInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to draw. Which sizes, qualities and formats there are is the model's to say."""

    prompt: str
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    parameters: dict[str, Any] = {}


class Image(Struct, frozen=True):
    """How many pictures of what, and all else as the model takes it."""

    prompt: str
    n: int
    parameters: dict[str, Any]


def decode_image(data: Raw | bytes) -> Image:
    """What `data`, a job's input, asks for. Raises InvalidJob with the path of the member at fault."""
    given = decode(data, ImageInput, at="input")
    if not given.prompt.strip():
        raise InvalidJob("`input.prompt` is empty.")
    for name, instead in _OURS.items():
        if name in given.parameters:
            raise InvalidJob(f"`input.parameters.{name}` does not belong there: {instead}.")
    members = {name: value for name in _PASSED_ON if (value := getattr(given, name)) is not None}
    for name in members:
        if name in given.parameters:
            raise InvalidJob(f"`input.parameters.{name}` is given as `input.{name}` already: leave one out.")
    return Image(given.prompt, given.n, {**members, **given.parameters})
