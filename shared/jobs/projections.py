"""
The hourly look at monthly budgets: which of them will be used up before the month ends, if it goes on as until now.

Buckets say what is spent until now, not by day. So the first look of a day keeps what is spent by then, in a row beside
the buckets, `b_{budget}_{unit}_{period}_~closed`: it is what the closed days have spent, and up to an hour more. Later
looks read that row alone, so that a limit that is lowered is noticed within an hour.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from shared.billing.bucket_rows import PoolKey, next_start, period_start, pool_key
from shared.billing.budget_events import budget_event_row
from shared.billing.budgets import Budgets
from shared.billing.money import EXACT, amount_text
from shared.clock import now
from shared.contract.budget import Budget
from shared.errors import StorageUnavailable
from shared.jobs.queries import next_customers
from shared.storage.base import Row, RowConflict, Table
from shared.storage.bulk import gather_limited

PASS_S = 540.0
"""Seconds of one run; the next one continues."""
MIN_DAYS = 3
"""Closed days of a month, before what is spent in it is projected."""
_PAGE = 100
_PARTITION, _KEY = "~projections", "position"


@dataclass(frozen=True, slots=True)
class Projections:
    """Inserts the events `budget.projected` of all customers, one for each budget and month."""

    table: Table
    budgets: Budgets

    async def run(self, at: datetime | None = None, *, seconds: float = PASS_S) -> bool:
        """
        Look at all customers' budgets, or continue where the last run stopped. Return whether all were looked at.

        Raises StorageUnavailable. A customer for whom Storage fails is left for the next run.
        """
        at, deadline = at or now(), time.monotonic() + seconds
        position = await self.table.read(_PARTITION, _KEY) or Row(_PARTITION, _KEY, {"customer": ""})
        customers = await next_customers(self.table, position.values["customer"], _PAGE)
        while len(customers) == _PAGE and time.monotonic() < deadline:
            await gather_limited(self._look(customer, at) for customer in customers)
            customers = await next_customers(self.table, customers[-1], _PAGE)
        await gather_limited(self._look(customer, at) for customer in customers)
        last = customers[-1] if len(customers) == _PAGE else ""
        if last != position.values["customer"]:
            with suppress(RowConflict):  # another run has stopped elsewhere
                await self._save(replace(position, values={"customer": last}))
        return not last

    async def _look(self, customer: str, at: datetime) -> None:
        with suppress(StorageUnavailable):
            for name, budget in (await self.budgets.records.read(customer)).budgets.items():
                if budget.period == "month":
                    with suppress(RowConflict):  # another run does the same
                        await self._project(pool_key(customer, name, budget, at), budget, at)

    async def _project(self, key: PoolKey, budget: Budget, at: datetime) -> None:
        row = await self._closed_days(key, at)
        days = at.day - 1
        if row is None or days < MIN_DAYS or row.values.get("projected"):
            return
        spent = Decimal(row.values["spent"])
        projected = _projected(spent, days, at)
        if not spent < budget.limit <= projected:
            return
        if budget.notify:
            await self.budgets.outbox.announce(key.customer)
        event = _event(key, budget, spent, projected, at)
        await self.table.merge_and_insert(replace(row, values={"projected": True}), [event])

    async def _closed_days(self, key: PoolKey, at: datetime) -> Row | None:
        """Return the row with what the closed days have spent; None if no job has used the budget in this month."""
        name, day = f"{key.prefix}~closed", f"{at:%Y-%m-%d}"
        row = await self.table.read(key.customer, name)
        if row is not None and row.values["day"] == day:
            return row
        pool = await self.budgets.pool(key).find()
        if pool is None:
            return None
        values = {"day": day, "spent": amount_text(pool.spent)}
        kept = Row(key.customer, name, values, row.etag if row else "")
        return replace(kept, values={**(row.values if row else {}), **values}, etag=await self._save(kept))

    async def _save(self, row: Row) -> str:
        return await (self.table.merge(row) if row.etag else self.table.insert(row))


def _projected(spent: Decimal, days: int, at: datetime) -> Decimal:
    """Return what is spent at the end of the month if all of its days are as the closed ones were on average."""
    all_days = (next_start("month", at) - period_start("month", at)).days
    amount = EXACT.divide(EXACT.multiply(spent, Decimal(all_days)), Decimal(days))
    return amount.quantize(Decimal("0.0001"), context=EXACT)


def _event(key: PoolKey, budget: Budget, spent: Decimal, projected: Decimal, at: datetime) -> Row:
    data = {
        "limit": amount_text(budget.limit),
        "spent": amount_text(spent),
        "projected": amount_text(projected),
    }
    return budget_event_row(
        key.customer,
        period=key.period,
        budget=key.budget,
        unit=key.unit,
        threshold=None,
        address=budget.notify,
        data=data,
        at=at,
    )
