"""
The documents that jobs name, as text.

A small text is decoded at once. Everything else is copied to a file first, when its turn comes, and what is no text is
read there by a process of its own (`shared/documents/`).
"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from shared.actions.base import Document
from shared.contract.names import NamedBlob
from shared.documents import process
from shared.documents.extracted import Extracted
from shared.documents.kinds import HEAD_BYTES, MEDIA_TYPES, Kind, encoding_of, look
from shared.documents.process import Documents, Killed, Overtaxing
from shared.documents.sentences import SENTENCES, TOO_MUCH
from shared.documents.text_builder import MAX_TEXT_BYTES
from shared.errors import InvalidJob, Throttled
from shared.jobs.inputs import COPIES

if TYPE_CHECKING:
    from shared.jobs.attempt import Attempt
    from shared.jobs.drain import Drain
    from shared.jobs.inputs import Inputs

MAX_DOCUMENT_BYTES = 64_000_000
_SMALL_BYTES = 1024 * 1024
_RETRY_S = 10.0
_BYTES_PER_CHARACTER = 4
"""Of a text in memory, if one of its characters needs so many."""


class DocumentInputs:
    """Reads documents for jobs: only blobs that `Inputs` allows."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._documents = Documents()

    async def read_in_time(self, attempt: Attempt, drain: Drain, named: NamedBlob, *, draws: bool) -> Document:
        """See `actions.base.Context.read_document`. It ends with the attempt's time, and with the worker."""
        retries = attempt.lease.retries
        attempt.time.check(retries)
        try:
            async with drain.call(), asyncio.timeout_at(attempt.time.ends_at):  # unbilled: the stop ends it at once
                return await self.read(attempt.job.customer, named, draws=draws)
        except TimeoutError:
            raise attempt.time.over(retries) from None

    async def read(self, customer: str, named: NamedBlob, *, draws: bool = False) -> Document:
        """Return a document. Raises InvalidJob, which names the blob; StorageUnavailable; Throttled."""
        small = await self._inputs.read_small(customer, named)
        if small is not None and (kind := _text_kind(small, named)):
            return Document(_decode(small, named), MEDIA_TYPES[kind])
        async with self._documents.turn(customer):
            with _room(), tempfile.TemporaryFile() as opened:
                file = cast(BinaryIO, opened)
                if small is None:
                    await self._copy(customer, named, file)
                else:
                    file.write(small)
                file.flush()
                file.seek(0)
                if kind := _text_kind(file.read(HEAD_BYTES), named):
                    return await self._read_text(customer, named, file, kind)
                return await self._extract(customer, named, file, draws)

    async def _copy(self, customer: str, named: NamedBlob, file: BinaryIO) -> None:
        blob = await self._inputs.open(customer, named.blob, at=named.at, max_bytes=MAX_DOCUMENT_BYTES)
        async for chunk in blob.chunks(0, blob.size):
            await asyncio.to_thread(file.write, chunk)

    async def _read_text(self, customer: str, named: NamedBlob, file: BinaryIO, kind: Kind) -> Document:
        size = file.seek(0, 2)
        if size > MAX_TEXT_BYTES:
            raise InvalidJob(f"{named} {SENTENCES['too_long']}")
        memory = await self._inputs.reserve(customer, _BYTES_PER_CHARACTER * size)
        file.seek(0)
        text = await asyncio.to_thread(lambda: _decode(file.read(), named))
        memory.shrink(sys.getsizeof(text))
        return Document(text, MEDIA_TYPES[kind], memory=memory)

    async def _extract(self, customer: str, named: NamedBlob, file: BinaryIO, draws: bool) -> Document:
        try:
            try:
                extracted = await process.extract(file, named.blob.name, draws)
            except Killed:  # the system may have been short of memory, which is no fault of the document
                extracted = await process.extract(file, named.blob.name, draws)
        except Overtaxing:
            raise InvalidJob(f"{named} {TOO_MUCH}") from None
        if not isinstance(extracted, Extracted):
            raise InvalidJob(f"{named} {SENTENCES[extracted]}")
        size, memory = sys.getsizeof(extracted.text) + COPIES * sum(map(len, extracted.pictures)), None
        if size > _SMALL_BYTES:
            memory = await self._inputs.reserve(customer, size)
        return Document(
            extracted.text,
            MEDIA_TYPES[extracted.kind],
            extracted.pages,
            extracted.pages_without_text,
            is_extracted=True,
            pictures=tuple(base64.b64encode(picture).decode() for picture in extracted.pictures),
            memory=memory,
        )


@contextmanager
def _room() -> Iterator[None]:
    """Have a worker whose disk is full say so, and not that it has a fault."""
    try:
        yield
    except TimeoutError:  # an OSError, too
        raise
    except OSError:
        raise Throttled("The worker has no room left to copy a document.", _RETRY_S) from None


def _text_kind(head: bytes, named: NamedBlob) -> Kind | None:
    """Return the kind of a text, which is read as it is; None for all that a parser has to read."""
    kind = look(head[:HEAD_BYTES], named.blob.name)
    return cast(Kind, kind) if kind in {"text", "markdown"} else None


def _decode(data: bytes, named: NamedBlob) -> str:
    try:
        text = data.decode(encoding_of(data[:HEAD_BYTES]))
    except UnicodeDecodeError as exc:
        name = "UTF-8" if exc.encoding.startswith("utf-8") else "UTF-16"
        raise InvalidJob(f"{named} is not valid {name} (byte {exc.start}).") from None
    text = text.replace("\0", "")  # as of other formats
    if not text.strip():
        raise InvalidJob(f"{named} {SENTENCES['no_text']}")
    return text
