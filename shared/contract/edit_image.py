"""The input of `edit_image`: images, what to make of them, and where."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.names import BlobName, BlobPath, Text, parse_blob_name
from shared.contract.parameters import merged_parameters

INSTEAD = {
    "image": "set `input.images` instead",
    "image[]": "set `input.images` instead",
    "mask": "set `input.mask` instead",
    "prompt": "set `input.prompt` instead",
    "n": "set `input.n` instead",
    "model": "set the job's own `model` instead",
    "stream": "a job doesn't stream its result",
}
"""What `parameters` can't hold, and what to do about it."""


class EditImageInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to make of the images. The model decides which sizes, qualities and formats there are."""

    images: Annotated[list[BlobPath], Meta(min_length=1, max_length=16)]
    """Blobs of PNG, JPEG or WebP images, of at most 50 MB each."""
    prompt: Text
    """What to make of them."""
    mask: BlobPath | None = None
    """A blob of a PNG image. Where it is transparent, the first image is edited. If left out, everywhere."""
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    """How many images to make."""
    size: str | None = None
    """Such as `1024x1024`; the model decides which sizes there are."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class EditImage(Struct, frozen=True):
    """How many images to make of which, and everything else as the model takes it."""

    images: list[BlobName]
    mask: BlobName | None
    prompt: str
    n: int
    parameters: dict[str, Any]


def decode_edit_image(data: Raw | bytes) -> EditImage:
    """The edit that `data`, a job's input, describes. Raises InvalidJob with the path of the member at fault."""
    edit = decode(data, EditImageInput, at="input")
    images = [parse_blob_name(name, at=f"input.images[{index}]") for index, name in enumerate(edit.images)]
    mask = None if edit.mask is None else parse_blob_name(edit.mask, at="input.mask")
    parameters = merged_parameters(edit.parameters, {"size": edit.size}, INSTEAD)
    return EditImage(images, mask, edit.prompt, edit.n, parameters)
