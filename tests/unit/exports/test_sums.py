"""What all events add up to is what the customer's statement has, from its records and from its rollups."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from decimal import Decimal

from shared.billing.customer_records import CustomerRecord
from shared.billing.money import EXACT
from shared.billing.priced_sum import PricedSum
from shared.billing.pricing import Pricing
from shared.billing.usage_entries import Entry, read_days
from shared.export_settings import Export
from shared.exports.events import Event, EventMaker, Waiting
from tests.support.fakes import MemoryTable
from tests.support.sampled import Sampled
from tests.support.usage_days import BOOKS, DAYS, FIRST, RolledTable, pricing_of, random_days

LAST = FIRST + timedelta(days=DAYS + 1)


def sum_of_events(table: RolledTable, measure: str, pricing: Pricing) -> tuple[Decimal, int]:
    """Return what all events of the table's rows add up to, and how many rows wait for a price."""
    maker = EventMaker(Export("lago", "lago", "usage", value=measure, own_ids=True), CustomerRecord("acme"))
    rows = [row for (_, key), row in table.table.rows.items() if key.startswith(("u_", "c_"))]
    made = [maker.make(row, [pricing]) for row in rows]
    total = Decimal(0)
    for each in made:
        total = EXACT.add(total, Decimal(each.value)) if isinstance(each, Event) else total
    return total, sum(isinstance(each, Waiting) for each in made)


async def sum_of_entries(pages: AsyncIterator[Sequence[Entry]], measure: str, pricing: Pricing) -> tuple[Decimal, int]:
    """Return what the answered calls of a statement add up to, and how many have no price."""
    money, total = PricedSum(), Decimal(0)
    async for entries in pages:
        for entry in entries:
            if entry.values.get("outcome", "answered") == "answered":
                money.add(pricing, "acme", entry.priced_on, entry.values, entry.rows)
                total = EXACT.add(total, Decimal(str(entry.values.get(measure) or 0)))
    return (money.amount, money.unpriced.total()) if measure == "amount" else (total, 0)


async def test_events_add_up_to_the_statement(sampled: Sampled):
    """Each measure exactly, by any price book; what has no price waits, and the statement counts it as unpriced."""
    for seed in sampled(range(8)):
        chance = random.Random(seed)
        pricing = pricing_of(chance.choice(BOOKS)).in_currency(chance.choice(["USD", "EUR"]))
        table = RolledTable(MemoryTable())
        await table.use(random_days(chance), pricing.steps)

        for measure in ("amount", "jobs", "calls", "images", "seconds", "input_tokens", "output_tokens"):
            events, waiting = sum_of_events(table, measure, pricing)
            for pages in (
                table.rollups.entries("acme", FIRST, LAST, pricing.steps),
                read_days(table.table, "acme", FIRST, LAST),
            ):
                total, unpriced = await sum_of_entries(pages, measure, pricing)
                assert unpriced == waiting, seed
                # An unpriced job still has its fee.
                assert events == total or (unpriced and events <= total), (seed, measure)
