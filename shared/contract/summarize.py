"""The input of `summarize`: a text or a blob that holds one, and what its summary should be like."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from shared.contract.chat import check_parameters
from shared.contract.decoding import decode
from shared.contract.job import BlobName, parse_blob_name
from shared.errors import InvalidJob

STYLES = ("paragraph", "bullets", "headline")


class SummarizeInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`text`, or `blob` with the name of one; the parameters are those of every call."""

    text: str | None = None
    blob: str | None = None
    style: str = "paragraph"
    max_words: Annotated[int, Meta(ge=1)] | None = None
    language: str | None = None
    instructions: str | None = None
    parameters: dict[str, Any] = {}


class Summarize(Struct, frozen=True):
    """A summary that is asked for."""

    source: str | BlobName
    """The text, or where it stands."""
    style: str = "paragraph"
    max_words: int | None = None
    language: str | None = None
    instructions: str | None = None
    parameters: dict[str, Any] = {}


def decode_summarize(data: Raw | bytes) -> Summarize:
    """The summary that `data` asks for. Raises InvalidJob with the path of the member at fault."""
    given = decode(data, SummarizeInput, at="input")
    check_parameters(given.parameters)
    if given.parameters.get("n", 1) != 1:
        raise InvalidJob("`input.parameters.n` can only be 1: a summary is one answer.")
    if given.style not in STYLES:
        raise InvalidJob(f"`input.style` must be one of {', '.join(STYLES)}.")
    for name in ("text", "language", "instructions"):
        value = getattr(given, name)
        if value is not None and not value.strip():
            raise InvalidJob(f"`input.{name}` is empty.")
    return Summarize(_source(given), given.style, given.max_words, given.language, given.instructions, given.parameters)


def _source(given: SummarizeInput) -> str | BlobName:
    if given.text is not None and given.blob is not None:
        raise InvalidJob("`input.blob` stands in place of `input.text`: give one of the two.")
    if given.blob is not None:
        return parse_blob_name(given.blob, at="input.blob")
    if given.text is None:
        raise InvalidJob("`input` needs `text` or `blob`.")
    return given.text
