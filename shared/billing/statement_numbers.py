"""
The numbers of a customer's closed documents: without gaps, each for one document, and none for two.

A row `n_{number:08}` names the document that has the number. It is inserted unless it exists, once the document's
sums are final: a number that was taken always has a document to come. The rows are never removed, so that no number is
used twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.contract.closed_month import DocumentId
from shared.errors import InvalidJob, StorageUnavailable
from shared.storage.base import Row, RowExists, Table

NUMBER_PREFIX = "n_"
_DOCUMENT = "document"
_MAX_TRIES = 100
"""To take a number, while others take one, too."""


@dataclass(frozen=True, slots=True)
class StatementNumbers:
    """The numbers of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def find(self, customer: str, document: DocumentId) -> int:
        """Return the number of a document, 0 if it has none."""
        async for number, name in self._read(customer):
            if name == str(document):
                return number
        return 0

    async def documents(self, customer: str) -> set[str]:
        """Return the names of the documents that have numbers."""
        return {name async for _, name in self._read(customer)}

    async def take(self, customer: str, document: DocumentId) -> int:
        """Return the number of a document: the one that it has, or the next one, which it has from now on."""
        for _ in range(_MAX_TRIES):
            taken = {number: name async for number, name in self._read(customer)}
            if number := next((number for number, name in taken.items() if name == str(document)), 0):
                return number
            last = max(taken, default=0)
            if len(taken) != last - min(taken, default=1) + 1:
                continue  # one was taken behind the reader's back, maybe for this document
            try:
                await self.table.insert(Row(customer, _key(last + 1), {_DOCUMENT: str(document)}))
            except RowExists:
                continue
            return last + 1
        raise StorageUnavailable(f"A number of {customer}'s documents is missing, or others take numbers all the time.")

    async def adopt(self, customer: str, document: DocumentId, number: int) -> None:
        """
        Give a document the number that is printed in it: the table was restored to a time before it took that.

        Raises InvalidJob if the table has another document for the number.
        """
        name = str(document)
        try:
            await self.table.insert(Row(customer, _key(number), {_DOCUMENT: name}))
        except RowExists as exc:
            if exc.row is None or exc.row.values[_DOCUMENT] != name:
                raise InvalidJob(
                    f"{document} is printed with the number {number}, which the table has for another document. "
                    "Both were given while the table was older than the documents: one of them has to be cancelled."
                ) from None

    async def _read(self, customer: str) -> AsyncIterator[tuple[int, str]]:
        async for row in self.table.scan(customer, NUMBER_PREFIX, f"{NUMBER_PREFIX}~"):
            yield int(row.key.removeprefix(NUMBER_PREFIX)), row.values[_DOCUMENT]


def _key(number: int) -> str:
    return f"{NUMBER_PREFIX}{number:08}"
