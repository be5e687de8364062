"""The input of `image`: a prompt, how many images to make from it, and what they should be like."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.names import Text
from shared.contract.parameters import merged_parameters

INSTEAD = {
    "prompt": "set `input.prompt` instead",
    "n": "set `input.n` instead",
    "model": "set the job's own `model` instead",
    "stream": "a job doesn't stream its result",
}
"""What `parameters` can't hold, and what to do about it."""
_PASSED_ON = ("size", "quality", "output_format")


class ImageInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to draw. The model decides which sizes, qualities and formats there are."""

    prompt: Text
    """What to draw."""
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    """How many images to make."""
    size: str | None = None
    """Such as `1024x1024`; the model decides which sizes there are."""
    quality: str | None = None
    """Such as `high`; the model decides which qualities there are."""
    output_format: str | None = None
    """Such as `png`; the model decides which formats there are."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class Image(Struct, frozen=True):
    """How many images of what, and everything else as the model takes it."""

    prompt: str
    n: int
    parameters: dict[str, Any]


def decode_image(data: Raw | bytes) -> Image:
    """The images that `data`, a job's input, describes. Raises InvalidJob with the path of the member at fault."""
    image = decode(data, ImageInput, at="input")
    members = {name: getattr(image, name) for name in _PASSED_ON}
    return Image(image.prompt, image.n, merged_parameters(image.parameters, members, INSTEAD))
