"""The text that `summarize` summarizes: the job's own, or that of the documents that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.actions.base import Context, Document, Step
from shared.contract.names import NamedBlob
from shared.contract.summarize import Summarize
from shared.documents.pictures import MAX_PICTURE_BYTES, MAX_PICTURES, numbered_from
from shared.documents.sentences import TOO_MANY_PICTURES
from shared.errors import InvalidJob

MAX_DOCUMENTS_CHARACTERS = 16 * 1024 * 1024
"""Of all documents of a job."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text, and the documents that it is from, as the output describes them."""

    text: str
    documents: list[dict[str, Any]] | None = None
    memory: object = None
    """Keep it as long as the text."""
    pictures: Sequence[str] = ()
    """Of pages without text, as PNG in base64. `pictures.anchor` is where they are in the text."""


async def read_source(request: Summarize, ctx: Context) -> Source:
    """Return the text. Raises InvalidJob, StorageUnavailable, RetryLater, LeaseLost."""
    if isinstance(request.source, str):
        return Source(request.source)
    documents: list[Document] = []
    pictures: list[str] = []
    size = 0
    for number, named in enumerate(request.source, 1):
        document = await _read(named, f"document{number:04}", request.page_images, ctx)
        documents.append(document)
        pictures += document.pictures
        if len(pictures) > MAX_PICTURES or sum(map(len, pictures)) * 3 // 4 > MAX_PICTURE_BYTES:
            raise InvalidJob(f"{named} {TOO_MANY_PICTURES}")
        size += len(document.text)
        if size > MAX_DOCUMENTS_CHARACTERS:
            raise InvalidJob(
                f"`input.blobs` have more than {MAX_DOCUMENTS_CHARACTERS:,} characters of text, up to {named}."
            )
    described = [_described(named, document) for named, document in zip(request.source, documents, strict=True)]
    memory = [document.memory for document in documents]
    if pictures:
        documents = _numbered(documents)
    return Source(_joined(request.source, documents), described, memory, pictures)


def _numbered(documents: list[Document]) -> list[Document]:
    """Return documents whose pictures are numbered through."""
    numbered, first = [], 0
    for document in documents:
        count = len(document.pictures)
        numbered.append(replace(document, text=numbered_from(first, count, document.text)))
        first += count
    return numbered


async def _read(named: NamedBlob, key: str, draws: bool, ctx: Context) -> Document:
    """
    Return a document. What was read of another format is stored as a step.

    So each attempt has the same text, and one that ends between two documents has not read the first in vain.
    """
    stored = await ctx.get_step(key)
    if stored is not None:
        return Document(**stored.value)
    document = await ctx.read_document(named, draws=draws)
    if document.is_extracted:
        members = ("text", "content_type", "pages", "pages_without_text", *(["pictures"] if document.pictures else ()))

        async def store() -> Step:
            return Step({name: getattr(document, name) for name in members})

        await ctx.step(key, store)
    return document


def _joined(blobs: tuple[NamedBlob, ...], documents: list[Document]) -> str:
    if len(documents) == 1:
        return documents[0].text
    names = [named.blob.name.rpartition("/")[2] for named in blobs]
    parts = zip(names, documents, strict=True)
    return "\n\n".join(f"# Document {number}: {name}\n\n{part.text}" for number, (name, part) in enumerate(parts, 1))


def _described(named: NamedBlob, document: Document) -> dict[str, Any]:
    without_text = "pages_as_images" if document.pictures else "pages_without_text"
    pages = {"pages": document.pages, without_text: document.pages_without_text}
    return {
        "blob": f"{named.blob.container}/{named.blob.name}",
        "content_type": document.content_type,
        **{name: value for name, value in pages.items() if value is not None},
    }
