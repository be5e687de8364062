"""What the sweep does about budgets: projections, and buckets of old periods."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from shared.billing.bucket_rows import FIRST, LAST, next_start, period_at, period_of_key, period_start, pool_key
from shared.billing.budget_events import budget_event_row
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.money import EXACT, amount_text
from shared.billing.outbox import Outbox
from shared.clock import now
from shared.contract.budget import Budget
from shared.storage.base import Row, RowExists, Table
from shared.storage.bulk import delete_rows

_MIN_ELAPSED = timedelta(days=3)
"""Since the beginning of a period, before what is spent in it is projected."""


@dataclass(frozen=True, slots=True)
class BudgetRows:
    """The budgets of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def sweep(self, customer: str, after: str, *, before: str) -> str:
        """
        Insert the events of budgets that will be exceeded, and remove buckets of periods before the month `before`.

        Takes one page of buckets, from the continuation token `after`; returns the token of the next one, or "".
        """
        if not after:
            await self._project(customer, now())
        if not before:
            return ""
        page = await self.table.page(customer, FIRST, LAST, columns=(), after=after)
        old = [Row(row.partition, row.key, {}) for row in page.rows if period_of_key(row.key) < before]
        await delete_rows(self.table, old)
        return page.after

    @property
    def _budgets(self) -> Budgets:
        return Budgets(self.table, CustomerRecords(self.table), Outbox(self.table))

    async def _project(self, customer: str, at: datetime) -> None:
        budgets = self._budgets
        for name, budget in (await budgets.records.read(customer)).budgets.items():
            if budget.period != "month" or at - period_start("month", at) < _MIN_ELAPSED:
                continue
            pool = await budgets.pool(pool_key(customer, name, budget, at)).find()
            if pool is None or not pool.spent < budget.limit <= (projected := _projected(pool.spent, at)):
                continue
            if budget.notify:
                await budgets.outbox.announce(customer)
            with suppress(RowExists):
                await self.table.insert(_event(customer, name, budget, pool.spent, projected, at))


def _projected(spent: Decimal, at: datetime) -> Decimal:
    """Return what will be spent at the end of the month if it goes on as until now."""
    start, end = period_start("month", at), next_start("month", at)
    share = EXACT.divide(Decimal(int((end - start).total_seconds())), Decimal(int((at - start).total_seconds())))
    return EXACT.multiply(spent, share).quantize(Decimal("0.0001"), context=EXACT)


def _event(customer: str, name: str, budget: Budget, spent: Decimal, projected: Decimal, at: datetime) -> Row:
    data = {
        "limit": amount_text(budget.limit),
        "unit": budget.unit,
        "spent": amount_text(spent),
        "projected": amount_text(projected),
    }
    return budget_event_row(
        customer,
        "budget.projected",
        period=period_at("month", at),
        budget=name,
        threshold=None,
        address=budget.notify,
        data=data,
        at=at,
    )
