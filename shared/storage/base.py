"""
What the app needs of Storage: a Protocol each for tables, blobs and queues.

Each has an adapter for Azure and, in the tests, one in memory; the same contract tests hold both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.errors import StorageUnavailable

TIMESTAMP = "Timestamp"
"""The column in which Storage itself writes when a row was last written."""
MAX_TRANSACTION_ROWS = 100
"""Rows of one partition in a transaction."""


OPERATION_ID = "operation_id"
"""
The column that names the operation that wrote a row last. A table adapter writes it and reads it; it is not
among the `values` of a row that is read.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A table row: text, numbers, booleans, datetimes and bytes by name."""

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

    In a transaction also: one of the rows beside it exists, has another etag or is gone. Then `row.etag` is still the
    write's own.
    """


@dataclass(frozen=True, slots=True)
class RowPage:
    """One page of rows. It may be empty even if more pages follow."""

    rows: Sequence[Row]
    after: str
    """The continuation token of the next page, for the same query; empty: this is the last page."""


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
        Insert `row` and, in the same transaction, write other rows of its partition, as `merge_and_insert` does.

        Return the etag of `row`. Raises RowExists.
        """

    async def read(self, partition: str, key: str) -> Row | None:
        """Return the row, or None."""

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """Merge `row.values` into the row that has `row.etag`. Return the new etag. Raises RowChanged."""

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """
        Write `changed` and `added`, up to 99 rows and 4 MB of their partition, in one transaction.

        A row that has an etag is merged at it, another is inserted; `changed` by itself has one. Return the new etags
        of all rows, in this order; only that of `changed` if the write's first answer got lost. Raises RowChanged.
        """

    def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """Iterate over the partition's rows whose key is at least `first` and less than `last`, in key order."""

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
        Return up to a thousand of the rows of a `scan`, beginning at the continuation token `after`.

        Storage filters them: in a row of the page, at least one column of `older` (which may contain TIMESTAMP) is
        earlier than its limit, and all conditions of `where` hold, such as `{"action eq": "chat", "state ne": "done"}`.
        A column that a row does not have meets no condition. `columns` limits which columns are returned; only with
        TIMESTAMP among them, it is in `values`, and Azure returns an etag.
        """

    async def next_partition(self, after: str) -> str | None:
        """Return the first partition after this one that has rows, or None. Reads one row."""

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """
        Delete up to MAX_TRANSACTION_ROWS rows of one partition: each at its etag, or in any version if it has none.

        Return the keys of the rows that were not deleted because they have changed. A row that is gone is no error.
        """


class Write(Protocol):
    """`Table.merge_and_insert`, or what writes other rows beside."""

    async def __call__(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """Write the rows; return their etags."""


class ContainerMissing(StorageUnavailable):
    """The container does not exist."""


class BlobTooLarge(Exception):
    """The blob is larger than the limit of the read."""


class BlobChanged(Exception):
    """The blob was written anew or deleted since its properties were read."""


@dataclass(frozen=True, slots=True)
class BlobProperties:
    """A blob, without its content."""

    name: str
    size: int
    modified: datetime
    content_type: str
    etag: str = ""
    """Of this version of the blob; empty in a list."""


@dataclass(frozen=True, slots=True)
class BlobPage:
    """One page of blobs. `after` is as in a RowPage."""

    blobs: Sequence[BlobProperties]
    after: str


class Blobs(Protocol):
    """Blobs by container and name. Every method raises StorageUnavailable if Storage did not answer."""

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """Write the blob. An existing one is overwritten."""

    async def write_once(self, container: str, name: str, data: bytes, content_type: str) -> bool:
        """
        Write the blob unless it exists; then it stays as it is. Return whether this call wrote it.

        After a lost answer it may return False for its own write: to find out, read the blob.
        """

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """Return the blob's bytes, or None. Raises BlobTooLarge if there are more than `limit`."""

    async def properties(self, container: str, name: str) -> BlobProperties | None:
        """Return what is known of the blob without its bytes, or None."""

    async def read_range(self, container: str, name: str, start: int, size: int, etag: str) -> bytes:
        """Return `size` bytes, fewer at the blob's end, of the version that has this etag. Raises BlobChanged."""

    async def page(self, container: str, prefix: str, after: str = "") -> BlobPage:
        """Return up to 5000 of the blobs whose names begin with `prefix`, in order. Raises ContainerMissing."""

    async def chunks(self, container: str, name: str) -> AsyncIterator[bytes] | None:
        """Return an iterator over the blob's bytes, a few megabytes at a time, or None."""

    async def delete(self, container: str, name: str) -> None:
        """Delete the blob and its snapshots. A blob that is gone is no error."""


MAX_HIDDEN_S = 120.0
"""The longest delay of a message: the host scales by hidden messages, too (docs/scale.md)."""


class Queues(Protocol):
    """Queues to send to. Raises StorageUnavailable if Storage did not answer."""

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """Send a message of exactly these bytes. It becomes visible after `delay_s`, at most MAX_HIDDEN_S."""
