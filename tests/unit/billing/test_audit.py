"""The audit trail: what concerns a customer, newest first, in pages; price books among it."""

from __future__ import annotations

import re
from decimal import Decimal

from shared.billing.audit import AuditTrail
from shared.billing.price_books import PriceBooks
from shared.contract.price_book import Markup, Price, PriceBook
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import Fault, MemoryTable


def price(amount: str, customer: str | None = None, model: str = "m") -> Price:
    """Return a price."""
    return Price(provider="openai", model=model, input=Decimal(amount), customer=customer)


async def publish(table: MemoryTable, blobs: MemoryBlobs, *prices: Price, markups: list[Markup] | None = None) -> None:
    """Publish a price book."""
    books = PriceBooks(table, blobs, "statements")
    book = PriceBook(currency="USD", prices=list(prices), markups=markups or [])
    await books.publish(book, replaces=await books.current(), by="ann")


async def subjects(table: MemoryTable, customer: str) -> list[str]:
    """Return the subjects of a customer's whole trail."""
    entries, _ = await AuditTrail(table).page(customer, after="", limit=100)
    return [entry.subject for entry in entries]


async def test_pages_have_each_change_once():
    """Newest first, those of the customer and of prices together."""
    table, blobs = MemoryTable(), MemoryBlobs()
    for number in range(5):
        await AuditTrail(table).append("contoso", by="ann", subject=f"x{number}", before={}, after={})
        await publish(table, blobs, price(f"{number + 1}"))
        await AuditTrail(table).append("fabrikam", by="ann", subject="theirs", before={}, after={})

    seen, after = [], ""
    for _ in range(4):
        entries, after = await AuditTrail(table).page("contoso", after=after, limit=3)
        seen += [entry.subject for entry in entries]
        assert bool(after) == (len(seen) < 10)
    assert [text for number in reversed(range(5)) for text in ("price book", f"x{number}")] == seen


async def test_a_change_of_prices_is_seen_by_whom_it_concerns():
    """One entry for each publication; another customer's prices and markups are not in it."""
    table, blobs = MemoryTable(), MemoryBlobs()
    base = price("1")
    await publish(table, blobs, base)
    await publish(table, blobs, base, price("2", "contoso"))
    await publish(table, blobs, base, price("3", "contoso"), markups=[Markup(customer="fabrikam", percent=Decimal(9))])
    assert [1, 2, 3] == [len(await subjects(table, each)) for each in ("nobody", "fabrikam", "contoso")]

    (newest, *_), _ = await AuditTrail(table).page("contoso", after="", limit=10)
    assert (["2"], ["3"]) == tuple([each["input"] for each in side["prices"]] for side in (newest.before, newest.after))
    assert [] == newest.after["markups"]
    assert all(re.fullmatch("[0-9a-f]{64}", side["sha256"]) for side in (newest.before, newest.after))


async def test_a_name_within_another_is_another_customer():
    """`con` does not see what concerns `contoso`."""
    table, blobs = MemoryTable(), MemoryBlobs()
    await publish(table, blobs, price("1"))
    await publish(table, blobs, price("1"), price("2", "contoso"))

    assert (1, 2) == (len(await subjects(table, "con")), len(await subjects(table, "contoso")))


async def test_a_large_import_is_one_entry_of_bounded_size():
    """What is left out is counted; the hash of the book names all of it."""
    table, blobs = MemoryTable(), MemoryBlobs()
    await publish(table, blobs, *(price("1", model=f"model-{number}") for number in range(3000)))

    (entry,), _ = await AuditTrail(table).page("contoso", after="", limit=10)
    assert {"omitted": 2950} == entry.after["prices"][-1]


async def test_a_publication_whose_answer_gets_lost_is_one_entry():
    """The entry is in the transaction of the pointer."""
    table, blobs = MemoryTable(), MemoryBlobs()
    for number, fault in enumerate((Fault.TWICE, Fault.TWICE)):
        table.faults.append(fault)
        await publish(table, blobs, price(f"{number + 1}"))

    assert ["price book"] * 2 == await subjects(table, "contoso")
