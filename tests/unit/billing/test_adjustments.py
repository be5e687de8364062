"""Credits and debits: added once, never changed, listed by month."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.billing.adjustments import Adjustments
from shared.billing.audit import AuditTrail
from shared.contract.adjustment import NewAdjustment
from shared.errors import JobConflict, StorageUnavailable
from tests.support.fakes import Fault, MemoryTable
from tests.support.rows import every_row


def adjustment(id_: str = "credit-1", **members: Any) -> NewAdjustment:
    """Return a credit."""
    defaults = {"month": "2026-11", "amount": "-12.5", "currency": "USD", "description": "Outage"}
    return NewAdjustment(id=id_, **{**defaults, **members})


@every_row(
    ("amount", "currency", "kept"),
    [
        ("-12.5", "USD", "-12.50"),
        ("7", "USD", "7.00"),
        ("0.00125", "USD", "0.00125"),
        ("1500.0", "JPY", "1500"),
        ("100", "JPY", "100"),
        ("1.1", "KWD", "1.100"),
        ("001.50", "EUR", "1.50"),
    ],
)
async def test_an_amount_has_one_form(amount: str, currency: str, kept: str):
    """The places of its currency, or as many as it needs: nothing is rounded."""
    added, is_new = await Adjustments(MemoryTable()).add(
        "contoso", adjustment(amount=amount, currency=currency), by="ann"
    )

    assert (kept, True) == (added.amount, is_new)


@every_row("fault", [None, Fault.REFUSED, Fault.LOST, Fault.TWICE])
async def test_an_adjustment_is_added_once(fault: Fault | None):
    """However often it is sent, and whatever happens to a write, with one audit entry."""
    table = MemoryTable()
    table.faults.append(fault)
    adjustments = Adjustments(table)
    added = []
    for amount in ("-12.5", "-12.50", "-12.500"):
        try:
            added.append(await adjustments.add("contoso", adjustment(amount=amount), by="ann"))
        except StorageUnavailable:
            continue

    assert 1 == len({each.at for each, _ in added})
    assert [each for each, _ in added[:1]] == await adjustments.list("contoso", "2026-11")
    entries, _ = await AuditTrail(table).page("contoso", after="", limit=10)
    assert [("adjustment credit-1", {})] == [(entry.subject, entry.before) for entry in entries]
    assert "-12.50" == entries[0].after["amount"]


@every_row("members", [{"amount": "-12.51"}, {"month": "2026-12"}, {"currency": "EUR"}, {"description": "x"}], ids=str)
async def test_an_id_has_one_content(members: dict[str, Any]):
    """Other content under it is a conflict, also in another month: a corrected repetition would credit twice."""
    table = MemoryTable()
    adjustments = Adjustments(table)
    first, _ = await adjustments.add("contoso", adjustment(), by="ann")
    rows = dict(table.rows)

    with pytest.raises(JobConflict, match="The id credit-1 belongs to another credit or debit"):
        await adjustments.add("contoso", adjustment(**members), by="bob")

    assert rows == table.rows
    assert [first] == await adjustments.list("contoso", "2026-11")


async def test_of_two_at_once_one_is_new():
    """The other one is the same, or a conflict."""
    table = MemoryTable()
    both = await asyncio.gather(
        *(Adjustments(table).add("contoso", adjustment(amount=amount), by="ann") for amount in ("1", "1", "2")),
        return_exceptions=True,
    )

    assert 1 == len([each for each in both if isinstance(each, JobConflict)])
    assert [False, True] == sorted(each[1] for each in both if not isinstance(each, BaseException))


async def test_ids_are_each_customers_own():
    """Two customers can have the same id."""
    table = MemoryTable()
    for customer in ("contoso", "fabrikam"):
        await Adjustments(table).add(customer, adjustment(description=customer), by="ann")

    (own,) = await Adjustments(table).list("fabrikam", "2026-11")
    assert "fabrikam" == own.description


async def test_pages_have_each_adjustment_once():
    """In the order of months and ids, also if one id begins with another; a month has its own alone."""
    adjustments = Adjustments(MemoryTable())
    ids = ["a", "a-1", "a.1", "A", "a1", "z", "id_2026-11_a", "9"]
    for month in ("2026-10", "2026-11", "2026-12"):
        for each in ids:
            await adjustments.add("contoso", adjustment(f"{each}{month[-1]}", month=month), by="ann")

    for month in (None, "2026-11"):
        seen: list[tuple[str, str]] = []
        after: str | None = ""
        while after is not None:
            page = await adjustments.page("contoso", after=after, limit=3, month=month)
            seen += [(each.month, each.id) for each in page.adjustments]
            after = page.continuation
        assert seen == sorted(seen)
        assert len(seen) == len(set(seen)) == len(ids) * (1 if month else 3)
