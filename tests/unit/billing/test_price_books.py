"""Price books in Storage: one holds, earlier ones stay, and two operators don't overwrite each other."""

from __future__ import annotations

import asyncio
import hashlib
from decimal import Decimal

import pytest

from shared.billing.price_books import FRESH_S, BookReplaced, PriceBooks, blob_name
from shared.clock import now
from shared.contract.price_book import Price, PriceBook
from shared.errors import StorageUnavailable
from shared.storage.base import Row
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import Fault, MemoryTable
from tests.support.manual_clock import ManualClock


def book(amount: str) -> PriceBook:
    """Return a book with one price."""
    return PriceBook(currency="USD", prices=[Price(provider="openai", model="m", input=Decimal(amount))])


def price_books(table: MemoryTable | None = None, blobs: MemoryBlobs | None = None) -> PriceBooks:
    """Return price books in memory."""
    return PriceBooks(table or MemoryTable(), blobs or MemoryBlobs(), "statements", ManualClock())


async def test_a_book_that_is_published_holds():
    """Until then there is none. Its blob is named by its hash, and never changes."""
    books = price_books()
    assert (None, None) == (await books.current(), await books.pricing())

    first = await books.publish(book("1"), replaces=None, by="ann")
    second = await books.publish(book("2"), replaces=await books.current(), by="bob")

    current = await books.current()
    pricing = await books.pricing()
    assert current is not None
    assert pricing is not None
    assert (book("2"), second.sha256, "bob") == (current.book, current.sha256, current.by)
    assert book("2") == pricing.book
    assert book("1") == await books.read(first.sha256)
    assert [(first.sha256, "ann"), (second.sha256, "bob")] == [(each.sha256, each.by) for each in await books.history()]


async def test_jobs_go_on_while_a_large_book_is_read():
    """A worker reads the book of all providers before its first job ends, beside others."""
    books, passes, is_read = price_books(), 0, asyncio.Event()
    prices = [Price(provider="openai", model=f"m-{number}", input=Decimal("2.5")) for number in range(3000)]
    published = await books.publish(PriceBook(currency="USD", prices=prices), replaces=None, by="ann")

    async def others() -> int:
        nonlocal passes
        while not is_read.is_set():
            await asyncio.sleep(0)
            passes += 1
        return passes

    running = asyncio.create_task(others())
    await books.read(published.sha256)
    is_read.set()

    assert await running > 5


async def test_of_two_who_publish_at_once_one_is_told():
    """The second has not seen the first one's book: it would undo its changes."""
    books = price_books()
    seen = None
    for amount in ("1", "2"):
        await books.publish(book(amount), replaces=seen, by="ann")
        with pytest.raises(BookReplaced):
            await books.publish(book("3"), replaces=seen, by="bob")
        seen = await books.current()

    assert seen is not None
    assert (book("2"), 2) == (seen.book, len(await books.history()))


async def test_a_worker_looks_once_a_minute():
    """Another worker's book holds here within FRESH_S, and until then nothing is read."""
    table, blobs = MemoryTable(), MemoryBlobs()
    here, there = price_books(table, blobs), price_books(table, blobs)
    await there.publish(book("1"), replaces=None, by="ann")
    assert await here.pricing() is not None
    await there.publish(book("2"), replaces=await there.current(), by="ann")
    before = table.operations

    for _ in range(10):
        pricing = await here.pricing()
        assert pricing is not None
        assert book("1") == pricing.book
    assert before == table.operations
    here.clock.advance(FRESH_S)  # type: ignore[attr-defined]
    pricing = await here.pricing()
    assert pricing is not None
    assert book("2") == pricing.book


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.TWICE])
async def test_an_answer_that_gets_lost_publishes_once(fault: Fault):
    """The book holds, and the history has it once."""
    table = MemoryTable()
    books = price_books(table)
    table.faults.append(fault)
    try:
        await books.publish(book("1"), replaces=None, by="ann")
    except StorageUnavailable:
        assert fault is Fault.LOST

    current = await books.current()
    assert current is not None
    assert (book("1"), 1) == (current.book, len(await books.history()))


async def test_a_book_that_was_changed_is_not_used():
    """A blob that is missing, or has other bytes than its name says, prices nothing."""
    blobs = MemoryBlobs()
    books = price_books(blobs=blobs)
    published = await books.publish(book("1"), replaces=None, by="ann")
    name = "statements", blob_name(published.sha256)
    blobs.blobs[name] = (b'{"currency":"USD"}', "")

    with pytest.raises(StorageUnavailable, match="missing in the container statements, or was changed") as changed:
        await books.pricing()
    del blobs.blobs[name]
    with pytest.raises(StorageUnavailable, match="missing in the container statements, or was changed") as gone:
        await books.current()
    for refused in (changed, gone):
        assert published.sha256[:8] not in str(refused.value)  # a customer may read it in a job's result


async def test_a_book_that_is_invalid_by_now_is_not_used():
    """What an earlier version has published is no caller's mistake, and the message says nothing of a price."""
    blobs, table = MemoryBlobs(), MemoryTable()
    data = b'{"currency":"USD","prices":[{"provider":"openai","model":"gpt-5.5","input":-7.5}]}'
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.blobs["statements", blob_name(sha256)] = (data, "")
    await table.insert(Row("~prices", "current", {"sha256": sha256, "at": now(), "by": "ann"}))

    with pytest.raises(StorageUnavailable, match=r"^The price book is invalid for this version of the app\.$"):
        await PriceBooks(table, blobs, "statements").pricing()
