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


class RowExists(Exception):
    """A row with this key is there already."""


class RowChanged(Exception):
    """The row is not what it was when its `etag` was read, or is gone."""


@dataclass(frozen=True, slots=True)
class Row:
    """A table row: text, whole numbers, booleans, datetimes and bytes by name."""

    partition: str
    key: str
    values: Mapping[str, Any]
    etag: str = ""


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows of a longer answer. It may hold none though more follow."""

    rows: Sequence[Row]
    after: str
    """Where the next page begins, to be handed back as it is, with the same question; empty: there is none."""


class Table(Protocol):
    """
    Rows by partition and key. Every method raises StorageUnavailable where Storage gave no answer;
    what it did by then is not known.
    """

    async def insert(self, row: Row, *, beside: Sequence[Row] = ()) -> str:
        """Adds the row and gives its etag, with others of its partition or not at all. Raises RowExists."""

    async def read(self, partition: str, key: str) -> Row | None:
        """The row, or None."""

    async def merge(self, row: Row) -> str:
        """Merges the values into the row that still has `row.etag`; gives the new one. Raises RowChanged."""

    async def merge_and_insert(self, changed: Row, added: Sequence[Row]) -> str:
        """
        All or nothing, in one partition: merges `changed` at its etag, adds `added`, up to 99 rows and 4 MB.

        Gives the new etag of `changed`. Raises RowChanged.
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
