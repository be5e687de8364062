"""
The outer world as the floors above see it: four Protocols, each with one real class and, in the
tests, one in memory that is held to the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.errors import StorageUnavailable

WRITTEN = "Timestamp"
"""The column in which Storage itself keeps when a row was last written."""
ROWS_AT_ONCE = 100
"""Rows of one partition that a transaction takes."""


OPERATION_ID = "operation_id"
"""
The column that names the operation that wrote a row last. A table adapter writes it and reads it; it is not
among the `values` of a row that is read.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A table row: text, whole numbers, booleans, datetimes and bytes by name."""

    partition: str
    key: str
    values: Mapping[str, Any]
    etag: str = ""


class RowConflict(Exception):
    """A write was refused because of the row that the table holds. `row` is that row, None if it is gone."""

    def __init__(self, key: str, row: Row | None = None) -> None:
        super().__init__(f"The table holds another version of the row {key}." if row else f"The row {key} is gone.")
        self.row = row


class RowExists(RowConflict):
    """The table has a row with this key. `row` is None if it was deleted since."""


class RowChanged(RowConflict):
    """
    The row does not have the `etag` of the write, or is gone.

    In a transaction also: one of the added rows exists. Then `row.etag` is still the write's own.
    """


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows of a longer answer. It may hold none though more follow."""

    rows: Sequence[Row]
    after: str
    """Where the next page begins, to be handed back as it is, with the same question; empty: there is none."""


class Table(Protocol):
    """
    Rows by partition and key. Every method raises StorageUnavailable if Storage did not answer; a write may
    have been made all the same.

    A write has an operation id, its own unless the caller passes one, and the row bears it. So a write whose
    answer got lost can be repeated under its id, by the SDK or by the caller: it is made once, and the
    repetition succeeds. Only a row that another operation wrote is a conflict, which costs one read.
    """

    async def insert(self, row: Row, *, beside: Sequence[Row] = (), operation_id: str = "") -> str:
        """
        Insert `row` and, in the same transaction, other rows of its partition. Return the etag of `row`.

        Raises RowExists.
        """

    async def read(self, partition: str, key: str) -> Row | None:
        """Return the row, or None."""

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """Merge `row.values` into the row that has `row.etag`. Return the new etag. Raises RowChanged."""

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> str:
        """
        Merge `changed` at its etag and insert `added`, up to 99 rows and 4 MB of its partition, in one transaction.

        Return the new etag of `changed`. Raises RowChanged.
        """

    def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """The partition's rows whose key is at least `first` and below `last`, in the keys' order."""

    async def page(
        self,
        partition: str,
        first: str,
        last: str,
        *,
        older: Mapping[str, datetime] | None = None,
        where: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        after: str = "",
    ) -> RowPage:
        """
        As `scan`, up to a thousand rows at a time, from where `after` says.

        Only rows of which one of the columns in `older` (WRITTEN may be one) is earlier than given there, and
        every column in `where` is as given there, such as `{"hash eq": "1f", "state ne": "done"}`; of each only
        the `columns`. Storage itself looks for them.
        """

    async def next_partition(self, after: str) -> str | None:
        """The first partition beyond `after` that has rows, or None. Reads one row."""

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """
        Deletes rows of one partition, at most ROWS_AT_ONCE: each at its etag, or as it is where it bears none.

        A row that is gone already is fine. Gives the keys of those that stay, because they have changed.
        """


class ContainerMissing(StorageUnavailable):
    """There is no such container."""


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What is known of a blob without reading it."""

    name: str
    size: int
    modified: datetime
    content_type: str


@dataclass(frozen=True, slots=True)
class BlobPage:
    """Some blobs of a longer answer; `after` is as a RowPage's."""

    blobs: Sequence[BlobFacts]
    after: str


class Blobs(Protocol):
    """Whole blobs. Raises StorageUnavailable."""

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """Writes the blob, over what may be there."""

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """The blob's bytes, or None where there is none. Raises InvalidJob beyond `limit` bytes."""

    async def page(self, container: str, prefix: str, after: str = "") -> BlobPage:
        """Up to 5000 of the blobs whose name begins with `prefix`, by name. Raises ContainerMissing."""

    async def chunks(self, container: str, name: str) -> AsyncIterator[bytes] | None:
        """The blob's bytes, a few megabytes at a time, or None where there is none."""

    async def delete(self, container: str, name: str) -> None:
        """Deletes the blob and its snapshots. One that is gone already is fine."""


class Queues(Protocol):
    """Messages out. Raises StorageUnavailable."""

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """Adds a message of exactly these bytes, to be seen after `delay_s`."""
