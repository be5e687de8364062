"""The input of `summarize`: a text, or blobs with documents, and what its summary should be like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from shared.contract.chat import check_parameters
from shared.contract.decoding import decode
from shared.contract.names import BlobPath, NamedBlob, Text, named_blob
from shared.errors import InvalidJob

MAX_BLOBS = 50
Style = Literal["paragraph", "bullets", "headline"]


class SummarizeInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`text`, or `blob` or `blobs` with documents; the parameters are those of every call."""

    text: Text | None = None
    """The text to summarize, of any length."""
    blob: BlobPath | None = None
    """A blob in place of `text`: plain text, Markdown, HTML, PDF, DOCX or PPTX."""
    blobs: Annotated[list[BlobPath], Meta(min_length=1, max_length=MAX_BLOBS)] | None = None
    """Several such blobs, in place of `text`, which are summarized as one."""
    page_images: bool = False
    """Whether pages of PDFs that have no text, such as scans, are sent as images: the model must be one that sees."""
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

    source: str | tuple[NamedBlob, ...]
    """The text, or the blobs that hold it."""
    style: str = "paragraph"
    max_words: int | None = None
    language: str | None = None
    instructions: str | None = None
    parameters: dict[str, Any] = {}
    page_images: bool = False


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
        summary.page_images,
    )


def _source(summary: SummarizeInput) -> str | tuple[NamedBlob, ...]:
    named = [name for name in ("text", "blob", "blobs") if getattr(summary, name) is not None]
    if len(named) > 1:
        raise InvalidJob(f"`input.{named[0]}` and `input.{named[1]}` can't be combined: leave one of them out.")
    if summary.text is not None:
        return summary.text
    if summary.blob is not None:
        return (named_blob(summary.blob, at="input.blob"),)
    if summary.blobs is None:
        raise InvalidJob("`input` needs `text`, `blob` or `blobs`.")
    return tuple(named_blob(blob, at=f"input.blobs[{number}]") for number, blob in enumerate(summary.blobs))
