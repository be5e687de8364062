"""The input of `summarize`: a text, or a blob that holds one, and what its summary should be like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from shared.contract.chat import check_parameters
from shared.contract.decoding import decode
from shared.contract.names import BlobName, BlobPath, Text, parse_blob_name
from shared.errors import InvalidJob

Style = Literal["paragraph", "bullets", "headline"]


class SummarizeInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`text`, or `blob` with the name of one; the parameters are those of every call."""

    text: Text | None = None
    """The text to summarize, of any length."""
    blob: BlobPath | None = None
    """A blob that holds the text, in place of `text`."""
    style: Style = "paragraph"
    """What the summary looks like."""
    max_words: Annotated[int, Meta(ge=1)] | None = None
    """About how long the summary may be, in words."""
    language: Text | None = None
    """The language of the summary. If left out, the language of the text."""
    instructions: Text | None = None
    """What else the summary should attend to."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class Summarize(Struct, frozen=True):
    """The summary that a job asks for."""

    source: str | BlobName
    """The text, or the blob that holds it."""
    style: str = "paragraph"
    max_words: int | None = None
    language: str | None = None
    instructions: str | None = None
    parameters: dict[str, Any] = {}


def decode_summarize(data: Raw | bytes) -> Summarize:
    """The summary that `data` asks for. Raises InvalidJob with the path of the member at fault."""
    summary = decode(data, SummarizeInput, at="input")
    check_parameters(summary.parameters)
    if summary.parameters.get("n", 1) != 1:
        raise InvalidJob("`input.parameters.n` can only be 1: a summary is one answer.")
    return Summarize(
        _source(summary),
        summary.style,
        summary.max_words,
        summary.language,
        summary.instructions,
        summary.parameters,
    )


def _source(summary: SummarizeInput) -> str | BlobName:
    if summary.text is not None and summary.blob is not None:
        raise InvalidJob("`input.text` and `input.blob` can't be combined: leave one of them out.")
    if summary.blob is not None:
        return parse_blob_name(summary.blob, at="input.blob")
    if summary.text is None:
        raise InvalidJob("`input` needs `text` or `blob`.")
    return summary.text
