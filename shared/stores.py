"""
The outer world as the floors above see it: four Protocols, each with one real class and, in the
tests, one in memory that is held to the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from shared.secret import Secret


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """One version of a customer's connection, as it is kept."""

    value: Secret
    version: str
    enabled: bool = True
    not_before: datetime | None = None
    expires_on: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class CredentialStore(Protocol):
    """Where customers' connections are kept. Key Vault is one; another is one class with this method."""

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """
        The newest version, or None where there is none.

        Raises ConnectionDisabled where it is switched off and can't be read, VaultUnavailable where
        the store gave no answer.
        """


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


class Table(Protocol):
    """
    Rows by partition and key. Every method raises StorageUnavailable where Storage gave no answer;
    what it did by then is not known.
    """

    async def insert(self, row: Row) -> str:
        """Adds the row and gives its etag. Raises RowExists."""

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


class Blobs(Protocol):
    """Whole blobs. Raises StorageUnavailable."""

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """Writes the blob, over what may be there."""

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """The blob's bytes, or None where there is none. Raises InvalidJob beyond `limit` bytes."""


class Queues(Protocol):
    """Messages out. Raises StorageUnavailable."""

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """Adds a message of exactly these bytes, to be seen after `delay_s`."""
