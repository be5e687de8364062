"""A customer's numbers have no gap, and each belongs to one document, whoever takes them at the same time."""

from __future__ import annotations

import asyncio
import random

import pytest

from shared.billing.statement_numbers import StatementNumbers
from shared.contract.closed_month import DocumentId, parse_document_id
from shared.errors import StorageUnavailable
from shared.storage.base import Row
from tests.support.fakes import Fault, MemoryTable
from tests.support.rows import every_row

DOCUMENTS = [DocumentId("2026-09"), DocumentId("2026-10"), DocumentId("2026-10", 1), DocumentId("2026-11")]


@every_row("seed", range(20))
async def test_many_who_take_numbers_at_once_leave_no_gap(seed: int):
    """Each document has one number, the same for all who take it; together they are 1 to the number of documents."""
    numbers = StatementNumbers(MemoryTable())
    takers = [*DOCUMENTS, *DOCUMENTS, *DOCUMENTS]
    random.Random(seed).shuffle(takers)

    taken = await asyncio.gather(*(numbers.take("contoso", document) for document in takers))

    by_document: dict[DocumentId, set[int]] = {}
    for document, number in zip(takers, taken, strict=True):
        by_document.setdefault(document, set()).add(number)
    assert [1, 2, 3, 4] == sorted(number for (number,) in by_document.values())


async def test_customers_have_numbers_of_their_own():
    """Each begins at 1, and keeps a document's number."""
    numbers = StatementNumbers(MemoryTable())

    taken = [
        await numbers.take(customer, document)
        for customer, document in [
            ("contoso", DOCUMENTS[0]),
            ("contos", DOCUMENTS[1]),
            ("contoso", DOCUMENTS[1]),
            ("contoso", DOCUMENTS[0]),
        ]
    ]

    assert [1, 1, 2, 1] == taken


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_lost_answer_takes_no_second_number(fault: Fault):
    """Whoever does not know whether a number was taken gets the same one when trying again."""
    table = MemoryTable()
    numbers = StatementNumbers(table)
    await numbers.take("contoso", DOCUMENTS[0])
    table.faults.append(fault)
    if fault is not Fault.TWICE:
        with pytest.raises(StorageUnavailable):
            await numbers.take("contoso", DOCUMENTS[1])

    assert 2 == await numbers.take("contoso", DOCUMENTS[1])
    assert 3 == await numbers.take("contoso", DOCUMENTS[2])


class RacingTable(MemoryTable):
    """A table in which others take two numbers while the first reader is on its way through them."""

    async def scan(self, partition, first, last):  # type: ignore[no-untyped-def,override]  # see Table
        """See `Table`."""
        rows = [row async for row in super().scan(partition, first, last)]
        if len(self.rows) == 1:  # the reader has passed the second row's place, and not yet the third's
            await self.insert(Row(partition, "n_00000002", {"document": "2026-11"}))
            await self.insert(Row(partition, "n_00000003", {"document": "2026-12"}))
            rows.append(self.rows[partition, "n_00000003"])
        for row in rows:
            yield row


async def test_a_reader_who_misses_a_number_reads_again():
    """A gap in what was read may hide the document's own number, so it is no reason to take another one."""
    table = RacingTable()
    await table.insert(Row("contoso", "n_00000001", {"document": "2026-10"}))

    assert 2 == await StatementNumbers(table).take("contoso", DocumentId("2026-11"))


async def test_a_number_that_is_missing_is_no_endless_search():
    """As after a backup was restored in part: it ends with an error, and no number is taken."""
    table = MemoryTable()
    for key in ("n_00000001", "n_00000003"):
        await table.insert(Row("contoso", key, {"document": "2026-08"}))

    with pytest.raises(StorageUnavailable, match="A number of contoso's documents is missing"):
        await StatementNumbers(table).take("contoso", DocumentId("2026-11"))
    assert 2 == len(table.rows)


@every_row(
    ("text", "document"),
    [
        ("2026-11", DocumentId("2026-11")),
        ("2026-11-1", DocumentId("2026-11", 1)),
        ("2026-11-9999", DocumentId("2026-11", 9999)),
        *((text, None) for text in ("", "2026", "2026-13", "2026-11-0", "2026-11-01", "2026-11-", "2026-11-10000")),
        *((text, None) for text in ("2026-11\n", "٢٠٢٦-11", "prices", "2026-11/..", " 2026-11")),
    ],
)
def test_an_id_is_a_month_or_a_correction_of_it(text: str, document: DocumentId | None):
    """Nothing else is one, and each has one spelling."""
    assert document == parse_document_id(text)
    assert document is None or text == str(document)
