"""
The price book in use, and the earlier ones: immutable blobs, and one row that says which of them holds.

A book's blob is named by its hash, so that a closed month can name what it was priced by. The pointer's row and the row
of its history are written in one transaction; both stand in a partition that no customer can have.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from shared.clock import now
from shared.errors import InvalidJob, StorageUnavailable
from shared.storage.base import Blobs, Row, RowConflict, Table

if TYPE_CHECKING:
    from shared.billing.pricing import Pricing
    from shared.contract.price_book import PriceBook

FRESH_S = 60.0
"""Seconds for which a worker takes the pointer as it was read."""
PRICES = "~prices"
"""The partition of price books, which no customer can have."""
_KEY = "current"
_HISTORY = "h_"
_JSON = "application/json"


class BookReplaced(Exception):
    """Somebody has published another price book in the meantime."""


@dataclass(frozen=True, slots=True)
class PublishedBook:
    """A price book, and when it was published."""

    book: PriceBook
    sha256: str
    at: datetime
    by: str
    """Who published it."""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class PublishedHash:
    """An entry of the history."""

    sha256: str
    at: datetime
    by: str


@dataclass(slots=True)
class PriceBooks:
    """The price books of all customers. `clock` counts seconds."""

    table: Table
    blobs: Blobs
    container: str
    clock: Callable[[], float] = time.monotonic
    _current: tuple[PublishedBook, Pricing] | None = None
    _read_at: float = float("-inf")
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pricing(self) -> Pricing | None:
        """
        Return the prices in use, None if there is no price book; at most FRESH_S old.

        Raises StorageUnavailable.
        """
        if self.clock() - self._read_at >= FRESH_S:
            async with self._reading:
                if self.clock() - self._read_at >= FRESH_S:
                    await self._read()
        return None if self._current is None else self._current[1]

    async def current(self) -> PublishedBook | None:
        """Return the book in use, read anew; None if there is none. Raises StorageUnavailable."""
        in_use = await self.in_use()
        return None if in_use is None else in_use[0]

    async def in_use(self) -> tuple[PublishedBook, Pricing] | None:
        """As `current`, with the book's prices."""
        async with self._reading:
            await self._read()
            return self._current

    async def publish(self, book: PriceBook, *, replaces: PublishedBook | None, by: str) -> PublishedBook:
        """
        Put a book in the place of the one that `current` returned.

        Raises BookReplaced, StorageUnavailable.
        """
        from shared.billing.price_audit import publication_row  # noqa: PLC0415  # see `_read`

        data = msgspec.json.encode(book)
        published = PublishedBook(book, hashlib.sha256(data).hexdigest(), now(), by)
        await self.blobs.write(self.container, blob_name(published.sha256), data, _JSON)
        values = {"sha256": published.sha256, "at": published.at, "by": by}
        history = Row(PRICES, f"{_HISTORY}{published.at:%Y-%m-%dT%H:%M:%S.%f}", values)
        old = None if replaces is None else (replaces.sha256, replaces.book)
        entry = publication_row(old, (published.sha256, book), by=by)
        try:
            if replaces is None:
                await self.table.insert(Row(PRICES, _KEY, values), beside=[history, entry])
            else:
                await self.table.merge_and_insert(Row(PRICES, _KEY, values, replaces.etag), [history, entry])
        except RowConflict as exc:
            raise BookReplaced from exc
        self._read_at = float("-inf")
        return published

    async def history(self) -> list[PublishedHash]:
        """Return all books that were ever in use, oldest first. Raises StorageUnavailable."""
        rows = self.table.scan(PRICES, _HISTORY, f"{_HISTORY}~")
        return [PublishedHash(row.values["sha256"], row.values["at"], row.values["by"]) async for row in rows]

    async def read(self, sha256: str) -> PriceBook:
        """
        Return a book by its hash. Raises StorageUnavailable if it can't be read, or is not what was written.

        The message may become part of a job's result, so neither the hash nor what is wrong with a price is in it.
        """
        from shared.contract.price_book import MAX_BOOK_BYTES, decode_price_book  # noqa: PLC0415  # see `_read`

        data = await self.blobs.read(self.container, blob_name(sha256), MAX_BOOK_BYTES)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise StorageUnavailable(f"A price book is missing in the container {self.container}, or was changed.")
        try:
            # Thousands of prices take half a second, in which other jobs must go on.
            return await asyncio.to_thread(decode_price_book, data)
        except InvalidJob:  # it was valid for the version that published it
            raise StorageUnavailable("The price book is invalid for this version of the app.") from None

    async def _read(self) -> None:
        row = await self.table.read(PRICES, _KEY)
        if row is None:
            self._current = None
        elif self._current is None or row.etag != self._current[0].etag:
            sha256 = row.values["sha256"]
            # Each worker looks whether there is a book, and many apps have none.
            from shared.billing.pricing import Pricing  # noqa: PLC0415

            published = PublishedBook(await self.read(sha256), sha256, row.values["at"], row.values["by"], row.etag)
            self._current = published, Pricing(published.book)
        self._read_at = self.clock()


def blob_name(sha256: str) -> str:
    """Return the name of a book's blob."""
    return f"prices/{sha256}.json"
